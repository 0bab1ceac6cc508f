"""Our tokenizers against the reference implementations, on one core.

  tokenize_bench.py BIN_DIR [--quick] [--megabytes N]

The text is real: the files under $MOE_SHARED_DATA, then documentation, headers and sources of
installed packages, up to N megabytes (100; 5 with --quick). Ids are compared text by text before
anything is timed; a difference ends the run. Rounds of all programs are interleaved and the fastest
of each counts. SentencePiece models: $MOE_SHARED_DATA/llama_tokenizer.model; byte-level BPE:
SmolLM2's. What is not there is said and left out, and its goal is then not met.
"""
import argparse
import array
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

ROUNDS = 3
INSTALLED = ["/usr/share/doc", "/usr/include", "/usr/lib/python3", "/usr/share/perl"]
SUFFIXES = {".txt", ".html", ".h", ".hpp", ".py", ".pm", ".pod", ".md", ".rst", ".tex"}


def real_texts(megabytes):
    """Texts of at most 64 KiB each, so that none dominates; the sample's domains take turns."""
    left = megabytes * 1_000_000
    shared = os.environ.get("MOE_SHARED_DATA")
    files = sorted(pathlib.Path(shared).rglob("*.jsonl")) if shared else []
    sources = [(json.loads(line).get("text", "") for line in open(file)) for file in files]
    while sources and left > 0:
        for source in list(sources):
            text = next(source, None)
            if text is None:
                sources.remove(source)
            elif text and left > 0:
                left -= len(text.encode())
                yield text
    for root in INSTALLED:
        for file in sorted(pathlib.Path(root).rglob("*")):
            if left <= 0:
                return
            if file.suffix in SUFFIXES and file.is_file():
                text = file.read_bytes()[: 1 << 16].decode("utf-8", "replace")
                left -= len(text.encode())
                if text:
                    yield text


def read_ids(path):
    words = array.array("i")
    words.frombytes(pathlib.Path(path).read_bytes())
    at, ids = 0, []
    while at < len(words):
        ids.append(words[at + 1 : at + 1 + words[at]].tolist())
        at += 1 + words[at]
    return ids


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def cpu_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def sentencepiece_peer(path):
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=path)
    return lambda texts: [processor.encode(text) for text in texts]


def tokenizers_peer(folder):
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    # The fast form leaves out the offsets into the text, which we do not make either.
    encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
    return lambda texts: [e.ids for e in encode(texts, add_special_tokens=False)]


def run(bin_dir, tokenizer, name, make_peer, texts, size, folder):
    """Seconds of each program by name: the best of the rounds."""
    texts_path, ids_path = f"{folder}/texts", f"{folder}/ids"
    with open(texts_path, "w") as out:
        out.writelines(json.dumps(text) + "\n" for text in texts)
    peer = make_peer()
    seconds = {}
    for round_number in range(ROUNDS):
        ours = json.loads(
            subprocess.check_output([f"{bin_dir}/tokenize", tokenizer, texts_path, ids_path])
        )
        peer_seconds, peer_ids = timed(lambda: peer(texts))
        if round_number == 0:
            for text, a, b in zip(texts, read_ids(ids_path), peer_ids, strict=True):
                if list(a) != list(b):
                    sys.exit(f"{name}: other ids than {tokenizer} gives, for {text[:200]!r}")
        times = {"ours": ours["seconds"], f"{name} (Python)": peer_seconds}
        if "library_seconds" in ours:
            times[f"{name} (C++)"] = ours["library_seconds"]
        for program, value in times.items():
            seconds[program] = min(value, seconds.get(program, value))
    print(f"{name}: {len(texts)} texts, {size / 1e6:.0f} MB, {ours['tokens']} equal ids")
    for program, value in seconds.items():
        print(f"  {program:24} {size / value / 1e6:8.1f} MB/s")
    return seconds


def goal(name, seconds, least):
    peers = [value for program, value in seconds.items() if program != "ours"]
    value = round(min(peers) / seconds["ours"], 2) if peers else None
    return {"name": name, "value": value, "goal": least, "met": bool(peers) and value >= least}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bin_dir")
    parser.add_argument("--quick", action="store_true", help="5 MB instead of 100")
    parser.add_argument("--megabytes", type=int)
    args = parser.parse_args()
    texts = list(real_texts(args.megabytes or (5 if args.quick else 100)))
    size = sum(len(text.encode()) for text in texts)
    cache = os.environ.get("MOE_CACHE_DIR", os.path.expanduser("~/.cache/moe"))
    gguf = f"{cache}/models/smollm2-135m-instruct-q4_1.gguf"
    model = os.environ.get("MOE_SHARED_DATA", "") + "/llama_tokenizer.model"
    sentencepiece, hugging_face = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        common = (texts, size, folder)
        if os.path.exists(model):
            sentencepiece = run(
                args.bin_dir, model, "SentencePiece", lambda: sentencepiece_peer(model), *common
            )
        else:
            print("SentencePiece: not run, MOE_SHARED_DATA has no llama_tokenizer.model")
        if os.path.exists(gguf):
            subprocess.run(
                [f"{args.bin_dir}/tokenize_lines", gguf, "--write", f"{folder}/hf"], check=True
            )
            hugging_face = run(
                args.bin_dir, gguf, "tokenizers", lambda: tokenizers_peer(f"{folder}/hf"), *common
            )
        else:
            print(f"tokenizers: not run, {gguf} is not there (deploy/fetch_model.sh fetches it)")
    goals = [
        goal("speedup_vs_sentencepiece", sentencepiece, 5),
        goal("speedup_vs_tokenizers", hugging_face, 10),
    ]
    machine = f"{cpu_name()}, {os.cpu_count()} cores"
    print(json.dumps({"bench": "tokenize", "goals": goals, "machine": machine}))


if __name__ == "__main__":
    main()
