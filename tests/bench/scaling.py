#!/usr/bin/env python3
"""The scaling benchmark: what more ranks cost and bring.

usage: scaling.py BINARY [--quick]

Measured: the same run on one and on two ranks of one core each over loopback, in turn. Both read the
same batches, so their losses must agree first. How long the exchange of gradients and parameters
takes, how much of it a step waits for, and the bytes that are sent, against 2 (R - 1) / R of the
parameters. Then two ranks that share out the experts: what a step takes and what both ranks occupy then.

Modelled, not measured: LLaMA-MoE-3.5B on 1 to 1,024 H100s with the paper's batches of 14.7 M tokens.
The planner adds up arithmetic over assumed rates and bytes over assumed bandwidths (200 GB/s between
GPUs, gradients and parameters in fp32), and hides of the exchange what fits beside the passes of one
micro-batch, times the share that was hidden in the measurement.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

GOALS = {"bytes_over_theory": (1.0, "exactly"), "overlap_fraction": (0.5, "at least"),
         "modelled_efficiency_896": (0.8, "at least")}


def ask(*command):
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--quick", action="store_true", help="two rounds of 4 steps, not five of 12")
    options = parser.parse_args()
    rounds, steps = (2, 4) if options.quick else (5, 12)

    one, two, shared = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            one += ask(options.binary, "measure", "1", "1", str(steps), folder)
            two += ask(options.binary, "measure", "2", "1", str(steps), folder)
            shared += ask(options.binary, "measure", "2", "2", str(steps), folder)
    difference = max(abs(one[0]["loss"] - other[0]["loss"]) for other in (two, shared))
    if difference > 1e-4:
        sys.exit(f"the losses differ by {difference:g}; times would mean nothing")

    def middle(results, key):
        return statistics.median(result[key] for result in results)
    exchange, waited = middle(two, "exchange_s"), middle(two, "waited_s")
    overlap = max(0.0, 1.0 - waited / exchange)
    sent = two[0]["sent_bytes"] / two[0]["expected_bytes"]
    speedup = statistics.median(a["step_s"] / b["step_s"] for a, b in zip(one, two))
    print(f"scaling: 8 x 256 tokens a step, one core a rank, {rounds} rounds of {steps} steps")
    print(f"  one rank    {middle(one, 'step_s'):8.3f} s a step")
    print(f"  two ranks   {middle(two, 'step_s'):8.3f} s a step, {speedup:.2f} x")
    print(f"  exchange    {exchange:8.3f} s a step, of which a step waits {waited:.3f} s: "
          f"{100 * overlap:.0f} % hidden")
    print(f"  sent        {two[0]['sent_bytes'] / 1e6:8.1f} MB a step by both ranks, "
          f"{sent:.6f} of 2 (R - 1) / R of the parameters each")

    print(f"  experts shared out {middle(shared, 'step_s'):.3f} s a step; a rank sends "
          f"{middle(shared, 'sent_by_first') / 1e6:.1f} MB ({shared[0]['planned_by_first'] / 1e6:.1f} planned), "
          f"{middle(two, 'sent_by_first') / 1e6:.1f} otherwise; both occupy "
          f"{middle(shared, 'memory_bytes') / 1e6:.0f} MB instead of {middle(two, 'memory_bytes') / 1e6:.0f}")

    print("LLaMA-MoE-3.5B on H100s, modelled with assumed rates, not measured:")
    print("  GPUs   tokens/s   of linear   step s   exchange s   waited s   memory GB")
    plans = ask(options.binary, "plan", str(overlap))
    efficiency = {}
    for plan in plans:
        linear = plan["ranks"] * plans[0]["tokens_per_s"]
        efficiency[plan["ranks"]] = plan["tokens_per_s"] / linear
        print(f"  {plan['ranks']:>4} {plan['tokens_per_s']:>10.0f} {efficiency[plan['ranks']]:>11.2f} "
              f"{plan['step_s']:>8.2f} {plan['link_s']:>12.2f} {plan['exposed_s']:>10.2f} "
              f"{plan['memory_gb']:>11.1f}")

    values = {"bytes_over_theory": sent, "overlap_fraction": overlap,
              "modelled_efficiency_896": efficiency[896]}
    goals = [{"name": name, "value": round(values[name], 6), "goal": goal,
              "met": values[name] == goal if how == "exactly" else values[name] >= goal}
             for name, (goal, how) in GOALS.items()]
    print(json.dumps({"bench": "scaling", "goals": goals,
                      "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()[0]}}))


if __name__ == "__main__":
    main()
