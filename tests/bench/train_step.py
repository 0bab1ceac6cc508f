#!/usr/bin/env python3
"""The train-step benchmark: our step beside the same step in other trainers.

usage: train_step.py BINARY [--quick] [--threads N] [--type bf16|fp32] [--shape smollm2|slice7b]
       train_step.py --serve PEER FOLDER THREADS TYPE        (a peer's process; started by the first)

Starts BINARY (tests/bench/train_step.cc). Peers come one after the other, each in a process of its
own, and its steps alternate with ours; the medians of the per-round ratios are reported.

  pytorch       plain PyTorch, from our weights, tokens and gate noise: it must agree with ours on loss
                and gradient norm first
  transformers  MixtralForCausalLM of the same shape with each experts implementation, fused AdamW, and
                (not with --quick) torch.compile of the best of them. Its gate is another, so that its
                loss says only that it runs: it has the same matrix products

Sweeps of at::mm over the step's own shapes alternate with steps as well, and with passes of one layer's
experts alone. `slice7b`, four layers of LLaMA-2-7B's shape, has no peers: two of it do not fit the
memory of a small machine. A peer that cannot run is named with the reason.

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
GOALS = {"fraction_of_gemm_limit": 0.65, "expert_block_fraction": 0.85, "speedup_vs_pytorch": 5.0,
         "speedup_vs_transformers": 4.0, "peak_memory_vs_pytorch": 1.0}
AT_MOST = {"peak_memory_vs_pytorch"}
IMPLEMENTATIONS = ["eager", "grouped_mm", "batched_mm"]


class Program:
    """A process that answers each line with a line of JSON."""

    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with status {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.read()

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def make_pytorch(folder, threads, dtype):
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

    def step(command):
        check = command == "check"
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


def make_transformers(folder, threads, dtype):
    """transformers' Mixtral, as a user of that library trains it."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    config = transformers.MixtralConfig(
        vocab_size=VOCAB, hidden_size=D, intermediate_size=96, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD_DIM,
        max_position_embeddings=8192, rms_norm_eps=NORM_EPS, tie_word_embeddings=True,
        num_local_experts=EXPERTS, num_experts_per_tok=TOP_K, router_aux_loss_coef=BALANCE_WEIGHT,
        output_router_logits=True, use_cache=False, sliding_window=None)
    model = transformers.MixtralForCausalLM._from_config(
        config, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, betas=(0.9, 0.95), weight_decay=0.1,
                                  fused=True)
    tokens = torch.from_file(f"{folder}/tokens.i64", size=BATCH * SEQUENCE,
                             dtype=torch.int64).view(BATCH, SEQUENCE)

    def loss_of(batch):
        return model(input_ids=batch, labels=batch).loss
    compiled = []

    def step(command):
        implementation, _, compile_it = command.partition("+")
        model.set_experts_implementation(implementation)
        if compile_it and not compiled:
            compiled.append(torch.compile(loss_of))
        forward = compiled[0] if compile_it else loss_of
        start, total = time.monotonic(), 0.0
        for batch in tokens.chunk(MICRO_BATCHES):
            loss = forward(batch) / MICRO_BATCHES
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"seconds": time.monotonic() - start, "loss": total,
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}

    return step


def serve(peer, folder, threads, dtype):
    """The peer's process: a step for each line."""
    make = {"pytorch": make_pytorch, "transformers": make_transformers}[peer]
    try:
        step = make(folder, int(threads), dtype)
        print(json.dumps({"ready": True}), flush=True)
    except ImportError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    for command in sys.stdin:
        try:
            answer = step(command.strip())
        except Exception as error:  # whatever a library throws at an option it cannot do
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
        print(json.dumps(answer), flush=True)


def has_bf16():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return "avx512_bf16" in file.read()


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":", 1)[1].strip() for line in file if "model name" in line),
                    platform.machine())


def middle(results, key):
    return statistics.median(result[key] for result in results)


def say(text):
    print(f"train-step: {text}", file=sys.stderr, flush=True)


def check_equal(ours, theirs, dtype):
    tolerance = 1e-3 if dtype == "fp32" else 2e-2
    for what in ("loss", "norm"):
        if abs(ours[what] - theirs[what]) > tolerance * abs(theirs[what]):
            sys.exit(f"the two steps differ: {what} {ours[what]} here, {theirs[what]} in PyTorch "
                     f"(tolerance {tolerance:g} of it); times would mean nothing")


class Bench:
    def __init__(self, options):
        self.options = options
        self.dtype = options.type or ("bf16" if has_bf16() else "fp32")
        self.rounds = 2 if options.quick else 5
        self.missing = {}

    def run(self, folder):
        self.folder = folder
        self.ours = Program("train_step", [self.options.binary, str(self.options.threads), self.dtype,
                                           folder, self.options.shape])
        self.first = self.ours.ask("step")
        self.limits()
        self.speedups = {}
        self.peers = {}
        if self.options.shape == "smollm2":
            self.against("pytorch", ["step"])
            best = self.against("transformers", IMPLEMENTATIONS)
            if best and not self.options.quick:
                self.against("transformers", [best + "+compile"])
        else:
            self.missing["peers"] = "slice7b is measured against its own limit alone"
        self.ours.stop()

    def limits(self):
        say(f"our steps, and products of their shapes, {self.rounds} rounds")
        self.fractions, self.expert_fractions, self.mine = [], [], []
        for _ in range(self.rounds):
            self.peak = self.ours.ask("peak")
            result = self.ours.ask("step")
            experts = self.ours.ask("experts")
            self.mine.append(result)
            self.fractions.append(
                self.peak["gflop_per_step"] / result["seconds"] / self.peak["gflops"])
            self.expert_fractions.append(
                experts["gflop"] / experts["seconds"] / self.peak["expert_gflops"])

    def against(self, name, variants):
        """Steps of ours and of the peer in turn; the fastest of its variants."""
        say(f"beside {name}, {self.rounds + 1} steps for each of {', '.join(variants)}")
        medians = {}
        try:
            peer = Program(name, [sys.executable, __file__, "--serve", name, self.folder,
                                  str(self.options.threads), self.dtype])
        except RuntimeError as error:
            self.missing[name] = str(error)
            return None
        for variant in variants:
            label = name if variant == "step" else f"{name} {variant}"
            try:
                first = peer.ask("check" if variant == "step" else variant)
                if variant == "step":
                    check_equal(self.first, first, self.dtype)
                    self.pytorch_first = first
                results, ratios = [], []
                for _ in range(self.rounds):
                    mine = self.ours.ask("step")
                    results.append(peer.ask(variant))
                    ratios.append(results[-1]["seconds"] / mine["seconds"])
            except RuntimeError as error:
                self.missing[label] = str(error)
                if peer.process.poll() is not None:
                    break
                continue
            self.peers[label] = results
            say(f"{label}: {middle(results, 'seconds'):.1f} s a step")
            self.speedups[label] = statistics.median(ratios)
            medians[variant] = middle(results, "seconds")
        peer.stop()
        return min(medians, key=medians.get) if medians else None

    def report(self):
        options, peak = self.options, self.peak
        print(f"train-step: {options.shape}, {EXPERTS} experts, top-{TOP_K}, {BATCH} x {SEQUENCE} "
              f"tokens, {self.dtype}, {options.threads} threads, {self.rounds} rounds")
        if self.dtype == "fp32" and options.type is None:
            print("  fp32, because this CPU has no bf16 products")
        print(f"  products of a step         {peak['gflop_per_step']:8.0f} GFLOP")
        print(f"  at::mm on their shapes     {peak['gflops']:8.0f} GFLOP/s")
        for shape in peak["shapes"]:
            print(f"    {shape['name']:<24} {shape['gflops']:8.0f}")
        seconds = middle(self.mine, "seconds")
        print(f"  ours                       {seconds:8.2f} s  "
              f"({BATCH * SEQUENCE / seconds:.0f} tokens/s; model {middle(self.mine, 'model_s'):.2f} s,"
              f" optimizer {middle(self.mine, 'optimizer_s'):.2f} s; peak memory "
              f"{middle(self.mine, 'peak_rss_mib')} MiB)")
        for label, results in self.peers.items():
            print(f"  {label:<26} {middle(results, 'seconds'):8.2f} s  "
                  f"({self.speedups[label]:.2f} x ours; peak memory "
                  f"{middle(results, 'peak_rss_mib')} MiB)")
        for label, why in self.missing.items():
            print(f"  {label:<26} not measured: {why}")
        if "pytorch" in self.peers:
            theirs = self.pytorch_first
            print(f"  first step, ours / PyTorch: loss {self.first['loss']:.5f} / {theirs['loss']:.5f},"
                  f" gradient norm {self.first['norm']:.5f} / {theirs['norm']:.5f}")
        print("  fraction of the limit per round: step "
              + ", ".join(f"{value:.2f}" for value in self.fractions) + "; experts "
              + ", ".join(f"{value:.2f}" for value in self.expert_fractions))

        values = {"fraction_of_gemm_limit": statistics.median(self.fractions),
                  "expert_block_fraction": statistics.median(self.expert_fractions)}
        if "pytorch" in self.speedups:
            values["speedup_vs_pytorch"] = self.speedups["pytorch"]
            values["peak_memory_vs_pytorch"] = (middle(self.mine, "peak_rss_mib")
                                                / middle(self.peers["pytorch"], "peak_rss_mib"))
        transformers = [v for label, v in self.speedups.items() if label.startswith("transformers")]
        if transformers:
            values["speedup_vs_transformers"] = min(transformers)
        goals = []
        for name, goal in GOALS.items():
            value = values.get(name)
            met = value is not None and (value <= goal if name in AT_MOST else value >= goal)
            goals.append({"name": name, "value": None if value is None else round(value, 3),
                          "goal": goal, "met": met})
        print(json.dumps({"bench": "train-step", "goals": goals,
                          "machine": {"cpu": cpu_name(), "cpus": os.cpu_count(), "type": self.dtype,
                                      "load": os.getloadavg()[0]}}))


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "--serve":
        return serve(*sys.argv[2:])
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--quick", action="store_true", help="two rounds instead of five")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--type", choices=["bf16", "fp32"], default=None,
                        help="default: bf16 where the CPU multiplies it, else fp32")
    parser.add_argument("--shape", choices=["smollm2", "slice7b"], default="smollm2")
    bench = Bench(parser.parse_args())
    # Both sides: threads that wait give the core away soon, should something else want it.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    with tempfile.TemporaryDirectory() as folder:
        bench.run(folder)
    bench.report()
    return None


if __name__ == "__main__":
    main()
