#!/usr/bin/env python3
"""The train-step benchmark: our step beside the same step in plain PyTorch.

usage: train_step.py BINARY [--quick] [--threads N] [--type bf16|fp32]

Starts BINARY (tests/bench/train_step.cc), which writes its weights, tokens and gate noise; the peer
starts from the same. Both do one step and must agree on loss and gradient norm; then steps of the
two and sweeps of at::mm over the step's own shapes alternate, and the medians of the per-round
ratios are reported. Without torch the peer's part is left out, with the reason.

Letters of shapes: T tokens, d hidden size, H heads, K key/value heads, N experts, n expert width.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

LAYERS, D, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 30, 576, 9, 3, 64, 49152
EXPERTS, TOP_K, SCALE, BALANCE_WEIGHT, NOISE_EPS = 16, 4, 4.0, 0.01, 0.01
BATCH, MICRO_BATCHES, SEQUENCE, THETA, NORM_EPS = 8, 2, 512, 100000.0, 1e-5
GOALS = {"fraction_of_gemm_limit": 0.65, "speedup_vs_pytorch": 5.0}


class Ours:
    """The C++ program, one command at a time."""

    def __init__(self, binary, threads, dtype, folder):
        self.process = subprocess.Popen(
            [binary, str(threads), dtype, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True)
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"train_step ended with status {self.process.wait()}")
        return json.loads(line)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.read()


def make_peer(folder, threads, dtype):
    """Plain PyTorch: what one writes on the first day, with fused SDPA and fused AdamW."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    arena = torch.from_file(f"{folder}/parameters.f32", size=os.path.getsize(
        f"{folder}/parameters.f32") // 4, dtype=torch.float32)
    tokens = torch.from_file(f"{folder}/tokens.i64", size=BATCH * SEQUENCE,
                             dtype=torch.int64).view(BATCH, SEQUENCE)
    rows = BATCH // MICRO_BATCHES * SEQUENCE
    noise = torch.from_file(f"{folder}/noise.f32", size=MICRO_BATCHES * LAYERS * rows * EXPERTS,
                            dtype=torch.float32).view(MICRO_BATCHES, LAYERS, rows, EXPERTS)
    weights = {}
    with open(f"{folder}/layout.json", encoding="utf-8") as file:
        for entry in json.load(file):
            begin = entry["offset"]
            values = arena[begin:begin + entry["numel"]].view(entry["shape"])
            weights[entry["name"]] = torch.nn.Parameter(values.clone())
    norms = [w for name, w in weights.items() if "norm" in name]
    others = [w for name, w in weights.items() if "norm" not in name]
    optimizer = torch.optim.AdamW(
        [{"params": others, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}],
        lr=2e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)

    angle = torch.outer(torch.arange(SEQUENCE, dtype=torch.float64),
                        THETA ** (-torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM))
    cos, sin = angle.cos().to(kind), angle.sin().to(kind)

    def linear(x, weight):
        return F.linear(x, weight.to(x.dtype))

    def rms_norm(x, weight):
        return F.rms_norm(x, (D,), weight, NORM_EPS)

    def rope(x):
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def attention(x, p):
        batch = x.shape[0]
        qkv = linear(x, weights[p + "qkv"]).view(batch, SEQUENCE, -1, HEAD_DIM).transpose(1, 2)
        q, k, v = qkv.split([HEADS, KV_HEADS, KV_HEADS], 1)
        y = F.scaled_dot_product_attention(rope(q), rope(k), v, is_causal=True, enable_gqa=True)
        return linear(y.transpose(1, 2).reshape(batch, SEQUENCE, -1), weights[p + "attn_out"])

    def cv_squared(v):
        return v.var() / (v.mean() ** 2 + 1e-10)

    def moe(h, p, draws):
        x = h.reshape(-1, D)  # fp32 for the gate
        g = F.linear(torch.tanh(F.linear(x, weights[p + "router.0"])), weights[p + "router.2"])
        sigma = F.softplus(F.linear(x, weights[p + "noise"])) + NOISE_EPS
        z = g + draws * sigma
        top, index = z.topk(TOP_K + 1, -1)
        scores, index = torch.softmax(top[:, :TOP_K], -1), index[:, :TOP_K]
        importance = torch.zeros_like(z).scatter(1, index, scores).sum(0)
        runner_up, last_in = top[:, TOP_K:], top[:, TOP_K - 1:TOP_K]
        threshold = torch.where(z > runner_up, runner_up, last_in)
        load = (0.5 * (1 + torch.erf((g - threshold) / sigma / 2 ** 0.5))).sum(0)
        balance = BALANCE_WEIGHT * (cv_squared(importance) + cv_squared(load))
        x, y = x.to(kind), torch.zeros_like(x)
        for e in range(EXPERTS):
            row, slot = (index == e).nonzero(as_tuple=True)
            gate, up = linear(x[row], weights[p + "experts.gate_up"][e]).chunk(2, -1)
            out = linear(F.silu(gate) * up, weights[p + "experts.down"][e])
            y = y.index_add(0, row, out.float() * (scores[row, slot] * SCALE)[:, None])
        return y.view_as(h), balance

    def loss_of(batch, draws):
        x = F.embedding(batch, weights["embed"])
        balance = 0
        for i in range(LAYERS):
            p = f"layers.{i}."
            x = x + attention(rms_norm(x, weights[p + "attn_norm"]).to(kind), p).float()
            y, layer_balance = moe(rms_norm(x, weights[p + "ffn_norm"]), p, draws[i])
            x, balance = x + y, balance + layer_balance
        logits = linear(rms_norm(x, weights["norm"]).to(kind), weights["embed"]).float()
        return F.cross_entropy(logits[:, :-1].reshape(-1, VOCAB), batch[:, 1:].reshape(-1)) + balance

    def exact_norm():
        """clip_grad_norm_ adds squares in fp32: on an embedding's 28 M gradients it comes out a
        thousandth too small. This is the norm that ours is compared with."""
        return sum(w.grad.double().square().sum().item() for w in weights.values()) ** 0.5

    def step(check=False):
        start, total = time.monotonic(), 0.0
        for m, batch in enumerate(tokens.chunk(MICRO_BATCHES)):
            loss = loss_of(batch, noise[m]) / MICRO_BATCHES
            loss.backward()
            total += loss.item()
        exact = exact_norm() if check else None
        norm = torch.nn.utils.clip_grad_norm_(list(weights.values()), 1.0).item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"seconds": time.monotonic() - start, "loss": total,
                "norm": exact if check else norm,
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}

    return step


def has_bf16():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return "avx512_bf16" in file.read()


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":", 1)[1].strip() for line in file if "model name" in line),
                    platform.machine())


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--quick", action="store_true", help="two rounds instead of five")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--type", choices=["bf16", "fp32"], default=None,
                        help="default: bf16 where the CPU multiplies it, else fp32")
    options = parser.parse_args()
    dtype = options.type or ("bf16" if has_bf16() else "fp32")
    rounds = 2 if options.quick else 5
    # Both sides: threads that wait give the core away soon, should something else want it.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(options.binary, options.threads, dtype, folder)
        try:
            peer = make_peer(folder, options.threads, dtype)
            no_peer = None
        except ImportError as error:
            peer, no_peer = None, f"not measured: {error}"

        first = ours.ask("step")
        if peer:
            theirs = peer(check=True)
            tolerance = 1e-3 if dtype == "fp32" else 2e-2
            for what in ("loss", "norm"):
                if abs(first[what] - theirs[what]) > tolerance * abs(theirs[what]):
                    sys.exit(f"the two steps differ: {what} {first[what]} here, {theirs[what]} in "
                             f"PyTorch (tolerance {tolerance:g} of it); times would mean nothing")

        fractions, speedups, mine, others = [], [], [], []
        for _ in range(rounds):
            peak = ours.ask("peak")
            result = ours.ask("step")
            mine.append(result)
            fractions.append(peak["gflop_per_step"] / result["seconds"] / peak["gflops"])
            if peer:
                others.append(peer())
                speedups.append(others[-1]["seconds"] / result["seconds"])

    def middle(results, key):
        return statistics.median(result[key] for result in results)

    print(f"train-step: SmolLM2-135M shape, {EXPERTS} experts, top-{TOP_K}, {BATCH} x {SEQUENCE} "
          f"tokens, {dtype}, {options.threads} threads, {rounds} rounds")
    if dtype == "fp32" and options.type is None:
        print("  fp32, because this CPU has no bf16 products")
    print(f"  products of a step         {peak['gflop_per_step']:8.0f} GFLOP")
    print(f"  at::mm on their shapes     {peak['gflops']:8.0f} GFLOP/s")
    for shape in peak["shapes"]:
        print(f"    {shape['name']:<24} {shape['gflops']:8.0f}")
    seconds = middle(mine, "seconds")
    print(f"  ours                       {seconds:8.2f} s  ({BATCH * SEQUENCE / seconds:.0f} tokens/s;"
          f" model {middle(mine, 'model_s'):.2f} s, optimizer {middle(mine, 'optimizer_s'):.2f} s;"
          f" peak memory {middle(mine, 'peak_rss_mib')} MiB)")
    if peer:
        print(f"  plain PyTorch              {middle(others, 'seconds'):8.2f} s  "
              f"(peak memory {middle(others, 'peak_rss_mib')} MiB)")
        print(f"  first step, ours / PyTorch: loss {first['loss']:.5f} / {theirs['loss']:.5f}, "
              f"gradient norm {first['norm']:.5f} / {theirs['norm']:.5f}")
    else:
        print(f"  plain PyTorch              {no_peer}")
    print(f"  fraction per round: {', '.join(f'{value:.2f}' for value in fractions)}")

    values = {"fraction_of_gemm_limit": statistics.median(fractions)}
    if speedups:
        values["speedup_vs_pytorch"] = statistics.median(speedups)
    goals = [{"name": name, "value": round(values[name], 3) if name in values else None,
              "goal": goal, "met": name in values and values[name] >= goal}
             for name, goal in GOALS.items()]
    print(json.dumps({"bench": "train-step", "goals": goals,
                      "machine": {"cpu": cpu_name(), "cpus": os.cpu_count(), "type": dtype,
                                  "load": os.getloadavg()[0]}}))


if __name__ == "__main__":
    main()
