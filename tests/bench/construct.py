"""A construct job at full size: seconds and memory, through the front door.

A checkpoint with LLaMA-2-7B's shapes (bf16, in shards) is written, and dropped from the page cache;
a job makes 16 experts of every FFN, 4 of them active. The rate is what the rank read and wrote by
the seconds that it lived, with everything between: reading, slicing, writing, syncing, reading back
to check. What it could be at most: the same bytes once read and once written, past the page cache,
with nothing else to do.
"""
import argparse
import json
import mmap
import os
import pathlib
import random
import struct
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import tiny  # noqa: E402
from cluster import Cluster, wait_for  # noqa: E402

HIDDEN, WIDTH, HEADS, VOCAB, LAYERS = 4096, 11008, 32, 32000, 32
SHARD_BYTES = 5_000_000_000
BLOCK = 16 << 20
RATE_GOAL, MEMORY_GOAL_GB = 0.5, 8.0


def tensors(layers):
    """(name, shape) in the order of a published checkpoint."""
    yield "model.embed_tokens.weight", [VOCAB, HIDDEN]
    for i in range(layers):
        layer = f"model.layers.{i}."
        for part in "qkvo":
            yield f"{layer}self_attn.{part}_proj.weight", [HIDDEN, HIDDEN]
        yield f"{layer}mlp.gate_proj.weight", [WIDTH, HIDDEN]
        yield f"{layer}mlp.up_proj.weight", [WIDTH, HIDDEN]
        yield f"{layer}mlp.down_proj.weight", [HIDDEN, WIDTH]
        yield f"{layer}input_layernorm.weight", [HIDDEN]
        yield f"{layer}post_attention_layernorm.weight", [HIDDEN]
    yield "model.norm.weight", [HIDDEN]
    yield "lm_head.weight", [VOCAB, HIDDEN]


def size_of(shape):
    size = 2
    for extent in shape:
        size *= extent
    return size


def bf16_block():
    """Values of trained weights' size: the high byte says 2^-7 to 2^-4, either sign."""
    rng = random.Random(1)
    block = bytearray(rng.randbytes(BLOCK))
    block[1::2] = rng.randbytes(BLOCK // 2).translate(bytes([0x3c, 0xbc, 0x3d, 0xbd][b % 4]
                                                            for b in range(256)))
    return memoryview(bytes(block))


def write_shard(path, entries, block):
    header, used = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in entries:
        header[name] = {"dtype": "BF16", "shape": shape,
                        "data_offsets": [used, used + size_of(shape)]}
        used += size_of(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb", buffering=0) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        while used > 0:
            used -= file.write(block[:min(used, BLOCK)])
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def write_checkpoint(folder, layers):
    folder.mkdir(parents=True)
    shards, used = [[]], 0
    for entry in tensors(layers):
        if shards[-1] and used + size_of(entry[1]) > SHARD_BYTES:
            shards.append([])
            used = 0
        shards[-1].append(entry)
        used += size_of(entry[1])
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    block = bf16_block()
    for name, entries in zip(names, shards):
        write_shard(folder / name, entries, block)
    (folder / "model.safetensors.index.json").write_text(json.dumps({
        "metadata": {"total_size": sum(size_of(s) for _, s in tensors(layers))},
        "weight_map": {t: name for name, entries in zip(names, shards) for t, _ in entries}}))
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": HIDDEN, "intermediate_size": WIDTH, "num_hidden_layers": layers,
        "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "vocab_size": VOCAB,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1,
        "eos_token_id": 2}))
    tiny.write_tokenizer(folder)


def bytes_in(folder):
    return sum(f.stat().st_size for f in pathlib.Path(folder).iterdir())


def raw_read_seconds(folder):
    buffer = mmap.mmap(-1, BLOCK)
    start = time.monotonic()
    for path in sorted(folder.glob("*.safetensors")):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        while os.readv(fd, [buffer]) == BLOCK:
            pass
        os.close(fd)
    return time.monotonic() - start


def raw_write_seconds(path, size):
    """Of `size` bytes, measured on up to 4 GB of them."""
    measured = min(size, 4 << 30) // BLOCK * BLOCK
    buffer = mmap.mmap(-1, BLOCK)
    buffer[:] = bytes(bf16_block())
    start = time.monotonic()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    for _ in range(measured // BLOCK):
        os.writev(fd, [buffer])
    os.fsync(fd)
    os.close(fd)
    seconds = time.monotonic() - start
    os.remove(path)
    return seconds * size / measured


def watch_rank(cluster):
    """Seconds that the job's rank lived, and the most memory it had."""
    pid = wait_for(cluster.rank_pids, "the rank to start", 60, every_s=0.002)[0]
    start, peak_kb = time.monotonic(), 0
    while True:
        try:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
        except OSError:
            break
        fields = dict(line.split(":", 1) for line in status.splitlines())
        if "VmHWM" not in fields:  # a zombie: it has ended
            break
        peak_kb = int(fields["VmHWM"].split()[0])
        time.sleep(0.02)
    return time.monotonic() - start, peak_kb / 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--folder")
    options = parser.parse_args()
    layers = options.layers or (2 if options.quick else LAYERS)
    with tempfile.TemporaryDirectory(prefix="moe-construct-", dir=options.folder) as name:
        dense = pathlib.Path(name) / "dense"
        write_checkpoint(dense, layers)
        size = bytes_in(dense)
        read_s = raw_read_seconds(dense)
        write_s = raw_write_seconds(pathlib.Path(name) / "raw", size)
        (pathlib.Path(name) / "cluster").mkdir()
        with Cluster(root=pathlib.Path(name) / "cluster") as cluster:
            cluster.threads_per_slot = 0
            cluster.start()
            cluster.submit(f"""pipeline: bench
jobs:
  - name: construct
    construct:
      model: {{path: {dense}}}
      method: independent-random
""")
            seconds, peak_gb = watch_rank(cluster)
            cluster.wait("construct")
            made = bytes_in(cluster.artefact("construct")["path"])
    raw_rate = 2 * size / (read_s + write_s)
    rate = (size + made) / seconds
    print(f"{layers} layers, {size / 1e9:.2f} GB in, {made / 1e9:.2f} GB out")
    print(f"raw read {size / read_s / 1e6:.0f} MB/s, raw write {size / write_s / 1e6:.0f} MB/s, "
          f"both {raw_rate / 1e6:.0f} MB/s")
    print(f"construct {seconds:.1f} s, {rate / 1e6:.0f} MB/s, peak memory {peak_gb:.2f} GB")
    goals = [{"name": "rate_of_raw", "value": round(rate / raw_rate, 3), "goal": RATE_GOAL,
              "met": rate / raw_rate >= RATE_GOAL},
             {"name": "peak_memory_gb", "value": round(peak_gb, 2), "goal": MEMORY_GOAL_GB,
              "met": peak_gb <= MEMORY_GOAL_GB}]
    print(json.dumps({"bench": "construct", "quick": options.quick, "layers": layers,
                      "goals": goals, "machine": f"{os.cpu_count()} CPUs"}))


if __name__ == "__main__":
    main()
