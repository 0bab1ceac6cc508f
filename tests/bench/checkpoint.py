#!/usr/bin/env python3
"""The checkpoint benchmark: our training state on disk beside PyTorch's ways of writing the same.

usage: checkpoint.py BINARY [--quick] [--mib N] [--folder DIR] [--threads N]

One rank's state of N MiB: parameters and two moments, fp32. Each round writes, then reads, in an order
drawn anew, since disks of virtual machines are faster after a rest: a raw O_DIRECT write and read of as many
bytes, ours, torch.save, safetensors and torch.distributed.checkpoint. Every write counts until the bytes
are on the disk (fsync). Loads come from the disk, with the page cache dropped for the files; ours compares
CRC-32C. Peers that are missing are named.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

GOALS = {"speedup_vs_torch_save": (4.0, True), "fraction_of_raw_write": (0.8, True),
         "blocked_vs_memcpy": (1.0, False), "load_speedup_vs_torch_load": (2.0, True)}


class Ours:
    """The C++ program, one command at a time."""

    def __init__(self, binary, folder, numel, threads):
        self.process = subprocess.Popen([binary, folder, str(numel), str(threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"checkpoint ended with status {self.process.wait()}")
        return json.loads(line)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.read()


def sync(path):
    """What is on the disk when this returns is what was written."""
    for entry in [path, *path.rglob("*")] if path.is_dir() else [path]:
        fd = os.open(entry, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


def forget(path):
    """Out of the page cache, so that reading means the disk."""
    for entry in path.rglob("*") if path.is_dir() else [path]:
        if entry.is_file():
            fd = os.open(entry, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def timed(body):
    start = time.monotonic()
    body()
    return time.monotonic() - start


def make_peers(folder, numel, threads):
    """{name: (save, load or None)}, and the names of those that are missing with the reason."""
    missing = {}
    try:
        import torch
    except ImportError as error:
        return {}, {"torch.save": str(error)}
    torch.set_num_threads(threads)
    state = {name: torch.randn(numel) for name in ("parameters", "exp_avg", "exp_avg_sq")}
    peers = {}

    path = folder / "torch.pt"

    def torch_save():
        torch.save(state, path)
        sync(path)
    peers["torch.save"] = (path, torch_save, lambda: torch.load(path, weights_only=True))

    try:
        from safetensors.torch import load_file, save_file
        other = folder / "state.safetensors"

        def safetensors_save():
            save_file(state, other)
            sync(other)
        peers["safetensors"] = (other, safetensors_save, lambda: load_file(other))
    except ImportError as error:
        missing["safetensors"] = str(error)

    try:
        import torch.distributed.checkpoint as dcp
        place = folder / "dcp"

        def dcp_save():
            shutil.rmtree(place, ignore_errors=True)
            dcp.save(state, checkpoint_id=place, no_dist=True)
            sync(place)
        peers["torch.distributed.checkpoint"] = (place, dcp_save, None)
    except ImportError as error:
        missing["torch.distributed.checkpoint"] = str(error)
    return peers, missing


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--quick", action="store_true", help="192 MiB and two rounds")
    parser.add_argument("--mib", type=int, default=None, help="size of the state; default 2048")
    parser.add_argument("--folder", default=None, help="on the disk to measure; default a temporary")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    mib = options.mib or (192 if options.quick else 2048)
    rounds = 2 if options.quick else 7
    numel = mib * (1 << 20) // 12 // 4096 * 4096

    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = pathlib.Path(name)
        peers, missing = make_peers(folder, numel, options.threads)
        ours = Ours(options.binary, str(folder), numel, options.threads)
        ours.ask("save")  # memory is touched, files exist
        times = {}
        order = random.Random(1)

        def save_ours():
            saved = ours.ask("save")
            times.setdefault("blocked", []).append(saved["blocked_s"])
            forget(pathlib.Path(saved["path"]))
            return saved["total_s"]

        def load_peer(path, load):
            forget(path)
            return timed(load)

        writes = {"raw write": lambda: ours.ask("raw")["seconds"], "ours": save_ours,
                  **{name: lambda save=save: timed(save) for name, (_, save, _) in peers.items()}}
        reads = {"raw read": lambda: ours.ask("raw_read")["seconds"],
                 "ours load": lambda: ours.ask("load")["seconds"],
                 **{f"{name} load": lambda path=path, load=load: load_peer(path, load)
                    for name, (path, _, load) in peers.items() if load}}
        for _ in range(rounds):
            times.setdefault("memcpy", []).append(ours.ask("memcpy")["seconds"])
            for tasks in writes, reads:
                for what in order.sample(list(tasks), len(tasks)):
                    times.setdefault(what, []).append(tasks[what]())

    gib = 12 * numel / (1 << 30)
    print(f"checkpoint: {gib:.2f} GiB of state, one rank, {rounds} rounds, median seconds")
    for what, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"  {what:<34} {middle:8.3f} s  {gib / middle:6.2f} GiB/s")
    for peer, why in missing.items():
        print(f"  {peer:<34} not measured: {why}")

    def ratio(above, below):
        if above not in times or below not in times:
            return None
        return statistics.median(times[above]) / statistics.median(times[below])
    values = {"speedup_vs_torch_save": ratio("torch.save", "ours"),
              "fraction_of_raw_write": ratio("raw write", "ours"),
              "blocked_vs_memcpy": ratio("blocked", "memcpy"),
              "load_speedup_vs_torch_load": ratio("torch.save load", "ours load")}
    goals = []
    for goal, (limit, at_least) in GOALS.items():
        value = values[goal]
        met = value is not None and (value >= limit if at_least else value <= limit)
        goals.append({"name": goal, "value": None if value is None else round(value, 3),
                      "goal": limit, "met": met})
    print(json.dumps({"bench": "checkpoint", "goals": goals,
                      "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()[0]}}))


if __name__ == "__main__":
    main()
