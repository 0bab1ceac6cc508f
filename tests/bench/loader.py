"""Reads what the program `loader` measured from standard input and sets it beside the need."""
import json
import os
import sys

# One rank of the fastest trainer: an H100 at half of its 989 TFLOP/s on LLaMA-MoE-3.5B, which takes 6
# floating-point operations for each of 3.5e9 active parameters and token.
NEED = 0.5 * 989e12 / (6 * 3.5e9)
LEAST_HEADROOM = 100


def cpu_name():
    with open("/proc/cpuinfo") as lines:
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))


def main():
    r = json.load(sys.stdin)
    rate = r["tokens_per_second"]
    rows = [
        ("dataset", f"{r['dataset_tokens'] / 1e6:.0f} M tokens, verified and opened in {r['open_seconds']:.2f} s"),
        ("reader", f"{rate / 1e6:.1f} M tokens/s, {r['batches_per_second']:.0f} batches of 8 x 4096 a second"),
        ("a batch", f"{r['batch_p50_ms']:.3f} ms median, {r['batch_p99_ms']:.3f} ms 99th percentile"),
        ("memory", f"{r['private_mebibytes_for_reading']:.1f} MiB beside the mapped files"),
        ("the need", f"{NEED / 1e6:.4f} M tokens/s of a rank"),
    ]
    for name, text in rows:
        print(f"{name:10} {text}")
    goal = {"name": "headroom_over_trainer", "value": round(rate / NEED), "goal": LEAST_HEADROOM,
            "met": rate >= LEAST_HEADROOM * NEED}
    print(json.dumps({"bench": "loader", "goals": [goal],
                      "machine": f"{cpu_name()}, {os.cpu_count()} cores"}))


if __name__ == "__main__":
    main()
