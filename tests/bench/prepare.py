"""Preparation of a dataset, end to end.

  prepare.py BIN_DIR [--quick] [--megabytes N]

Writes N megabytes (200; 20 with --quick) of real text as Zstandard JSON lines, once, and prepares
them with SmolLM2's tokenizer:

  all filters   duplicates, near-duplicates, language, characters, fluency, advertisement
  peer's work   duplicates and characters alone, which Hugging Face datasets can do as easily

The peer is `datasets` (JSON lines in, a map and a filter) with `tokenizers` on as many threads, and
numpy arrays on disk. Token counts are compared before anything is reported. The limits are one
thread copying that much memory and one thread decompressing the file.
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from tokenize_bench import cpu_name, real_texts, timed

MIN_CHARACTERS = 100
ALL = {"remove_duplicates": True, "min_characters": MIN_CHARACTERS, "max_characters": 1_000_000,
       "near_duplicates": {"similarity": 0.8},
       "language": {"languages": ["en"], "min_share": 0.5, "domains": ["c4"]},
       "filters": [{"score": "fluency", "drop": 0.15, "domains": ["c4"]},
                   {"score": "advertisement", "drop": 0.5, "domains": ["c4"]}]}
SOME = {"remove_duplicates": True, "min_characters": MIN_CHARACTERS}


def write_corpus(folder, megabytes):
    """Lines of JSON in one Zstandard file; returns its path and the bytes of text."""
    path, size = folder / "texts.jsonl", 0
    with open(path, "w") as out:
        for text in real_texts(megabytes):
            size += len(text.encode())
            out.write(json.dumps({"text": text, "meta": {"source": "bench"}}) + "\n")
    subprocess.run(["zstd", "-q", "-3", "--rm", path], check=True)
    return path.with_suffix(".jsonl.zst"), size


def prepare(bin_dir, folder, corpus, tokenizer, threads, settings):
    """Seconds from the start of the process to the dataset's manifest, the dataset's tokens, peak MiB."""
    run, output = folder / "run", folder / "dataset"
    for old in (run, output, folder / "work"):
        shutil.rmtree(old, ignore_errors=True)
    (run / "rank-0").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({
        "format": "moe-run-spec", "version": 1, "job_id": "j1", "job_name": "bench", "attempt": 1,
        "kind": "prepare", "world_size": 1, "lease_ttl_ms": 3_600_000,
        "output": {"name": "bench", "kind": "dataset", "dir": str(output), "work_dir": str(folder / "work")},
        "inputs": {"tokenizer": {"path": str(tokenizer)}},
        "spec": {"domains": [{"name": "c4", "paths": [str(corpus)]}], **settings}}))
    start = time.perf_counter()
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([f"{bin_dir}/moe-prepare", "--run-dir", str(run), "--threads",
                                    str(threads)], stdout=log, stderr=log)
    # It then waits for a coordinator, of which there is none.
    while not (output / "manifest.json").exists():
        if process.poll() is not None:
            sys.exit(f"moe-prepare ended with {process.returncode}:\n{(folder / 'log').read_text()}")
        time.sleep(0.002)
    seconds = time.perf_counter() - start
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    process.send_signal(signal.SIGKILL)
    process.wait()
    metadata = json.loads((output / "manifest.json").read_text())["metadata"]["domains"][0]
    return seconds, metadata, peak


def peer(corpus, tokenizer_folder, folder, threads):
    """The same with datasets and tokenizers: (seconds, documents, tokens)."""
    import datasets
    import numpy
    import tokenizers

    datasets.disable_progress_bars()
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    tokenizer = tokenizers.Tokenizer.from_file(f"{tokenizer_folder}/tokenizer.json")
    encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
    start = time.perf_counter()
    seen, tokens, documents = set(), 0, 0
    texts = datasets.load_dataset("json", data_files=str(corpus), split="train", streaming=True)
    with open(folder / "peer.tokens", "wb") as out:
        for batch in texts.iter(batch_size=1000):
            keep = []
            for text in batch["text"]:
                digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
                if len(text) >= MIN_CHARACTERS and digest not in seen:
                    seen.add(digest)
                    keep.append(text)
            for encoding in encode(keep, add_special_tokens=False):
                numpy.asarray(encoding.ids, dtype=numpy.uint16).tofile(out)
                tokens += len(encoding.ids)
            documents += len(keep)
    return time.perf_counter() - start, documents, tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bin_dir")
    parser.add_argument("--quick", action="store_true", help="20 MB instead of 200")
    parser.add_argument("--megabytes", type=int)
    args = parser.parse_args()
    cache = pathlib.Path(os.environ.get("MOE_CACHE_DIR", os.path.expanduser("~/.cache/moe")))
    tokenizer = cache / "models" / "smollm2-135m-instruct-q4_1.gguf"
    if not tokenizer.exists():
        sys.exit(f"{tokenizer} is not there (deploy/fetch_model.sh fetches it)")
    threads = os.cpu_count()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        corpus, size = write_corpus(folder, args.megabytes or (20 if args.quick else 200))
        block = bytearray(size)
        copy_seconds = min(timed(lambda: bytes(block))[0] for _ in range(3))
        zstd_seconds = min(timed(lambda: subprocess.run(
            ["zstd", "-q", "-d", "-c", corpus], check=True, stdout=subprocess.DEVNULL))[0]
            for _ in range(3))
        rows, rounds = {}, 1 if args.quick else 2
        facts = {}
        for _ in range(rounds):
            for label, settings, count in [("all filters, 1 thread", ALL, 1),
                                           (f"all filters, {threads} threads", ALL, threads),
                                           (f"peer's work, {threads} threads", SOME, threads)]:
                seconds, metadata, peak = prepare(args.bin_dir, folder, corpus, tokenizer, count, settings)
                rows[label] = min(seconds, rows.get(label, seconds))
                facts[label] = (metadata, peak)
        ratio = None
        try:
            # The dataset carries its tokenizer in the form that the peer reads.
            seconds, documents, tokens = peer(corpus, folder / "dataset", folder, threads)
            ours = facts[f"peer's work, {threads} threads"][0]
            got = (ours["train_documents"] + ours["heldout_documents"],
                   ours["train_tokens"] + ours["heldout_tokens"])
            if got != (documents, tokens):
                sys.exit(f"other results: {got} documents and tokens, the peer {(documents, tokens)}")
            rows[f"datasets + tokenizers, {threads} threads"] = seconds
            ratio = round(seconds / rows[f"peer's work, {threads} threads"], 2)
        except ImportError as error:
            print(f"datasets + tokenizers: not run, {error}")
        print(f"{size / 1e6:.0f} MB of text in {corpus.stat().st_size / 1e6:.0f} MB of Zstandard JSON lines")
        print(f"  {'copying memory, 1 thread':38} {size / copy_seconds / 1e6:8.0f} MB/s")
        print(f"  {'decompressing, 1 thread':38} {size / zstd_seconds / 1e6:8.0f} MB/s")
        for label, seconds in rows.items():
            peak = f"{facts[label][1]:6.0f} MiB" if label in facts else ""
            print(f"  {label:38} {size / seconds / 1e6:8.1f} MB/s {peak}")
        print(f"  dropped: {facts[f'all filters, {threads} threads'][0]['dropped']}")
    goals = [{"name": "speedup_vs_datasets", "value": ratio, "goal": 2, "met": bool(ratio and ratio >= 2)}]
    print(json.dumps({"bench": "prepare", "goals": goals, "machine": f"{cpu_name()}, {threads} cores"}))


if __name__ == "__main__":
    main()
