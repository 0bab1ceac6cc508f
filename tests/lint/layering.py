#!/usr/bin/env python3
"""Checks the direction of dependency: who may include what.

The rules are those of docs/design/0001-spine.md; each line of RULES is one folder with what it may
include. A folder's own headers, the C++ library and the system's are always allowed.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# folder -> project folders, or single headers, that it may include (longest folder wins).
RULES = {
    "common": [],
    "common/audit": ["common", "moe/v1"],
    "common/net": ["common"],
    "common/metrics": ["common"],
    "common/term": ["common"],
    "storage/artefacts": ["common"],
    "storage/rocks": ["common", "moe/v1"],
    "sampler": ["common", "storage/artefacts"],
    "planner": ["common", "storage/artefacts", "worker/model/parameters.h"],
    "coordinator": ["common", "moe/v1", "storage", "planner", "coordinator"],
    "coordinator/scheduler": ["common"],
    "moectl": ["common", "moe/v1"],
    "worker/daemon": ["common", "moe/v1"],
    "worker/kernels": ["common"],
    "worker/parallel": ["common"],
    "worker/cuda": ["common", "worker/kernels", "worker/parallel"],
    "worker/model": ["common", "storage/artefacts", "sampler", "worker/kernels", "worker/parallel"],
    "worker/construction": ["common", "storage/artefacts", "sampler", "worker/model",
                            "worker/kernels"],
    "worker/training": ["common", "storage/artefacts", "sampler", "planner", "worker/model",
                        "worker/parallel", "worker/evaluation", "worker/kernels"],
    "worker/evaluation": ["common", "storage/artefacts", "sampler", "worker/model"],
    "worker/rank": ["common", "storage/artefacts", "sampler", "planner", "worker"],
}

# third party header prefix -> folders that may include it.
THIRD_PARTY = {
    "torch/": ["worker/model", "worker/construction", "worker/training", "worker/evaluation",
               "worker/parallel", "worker/kernels", "worker/rank", "worker/cuda"],
    "ATen/": None,  # as torch/
    "c10/": None,
    "rocksdb/": ["storage/rocks"],
    "grpcpp/": ["coordinator", "worker/daemon", "moectl", "common/net"],
    "google/protobuf/": ["coordinator", "worker/daemon", "moectl", "storage/rocks", "common/net"],
    "gloo/": ["worker/parallel"],
    "metis.h": ["worker/construction"],
    "nccl.h": ["worker/cuda"],
    "cuda": ["worker/cuda"],
    "prometheus/": ["common/metrics", "coordinator", "worker/daemon"],
    "openssl/": ["common/net", "moectl"],
    "yaml-cpp/": ["moectl", "coordinator/queues"],
    "sentencepiece": ["sampler"],
    "pcre2": ["sampler"],
    "simdjson": ["sampler"],
    "cld2/": ["sampler"],
}
THIRD_PARTY["ATen/"] = THIRD_PARTY["c10/"] = THIRD_PARTY["torch/"]

# Pure parts: no clock, no I/O, no threads, no third party.
PURE = ["coordinator/scheduler/", "coordinator/sampler/update_rule.", "planner/",
        "sampler/sample_sequence.", "sampler/filters/quantile.", "sampler/filters/text_features.",
        "worker/construction/partition.", "worker/construction/importance_split.",
        "worker/construction/balanced_assignment.", "worker/training/schedule."]
IMPURE = re.compile(r"^(common/(clock|file|log|subprocess|run_channel)\.h|chrono|thread|mutex|fstream|"
                    r"iostream|filesystem|spdlog/.*|absl/synchronization/.*|ATen/.*|torch/.*|moe/v1/.*)$")

# What a program must not be linked with.
MUST_NOT_LINK = {
    "moe-coordinator": ["libtorch", "libc10", "libgloo"],
    "moe-worker": ["libtorch", "libc10", "librocksdb", "libgloo"],
    "moe-rank": ["libgrpc", "libprotobuf", "librocksdb"],
    "moe-prepare": ["libtorch", "libgrpc", "libprotobuf", "librocksdb"],
    "moectl": ["libtorch", "librocksdb", "libgloo"],
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')


def rule_of(path: str, table) -> str | None:
    """The longest key of `table` that is a folder above `path`."""
    best = None
    for folder in table:
        if path.startswith(folder + "/") and (best is None or len(folder) > len(best)):
            best = folder
    return best


def check_file(path: pathlib.Path, problems: list[str]) -> None:
    relative = path.relative_to(ROOT).as_posix()
    own = rule_of(relative, RULES)
    if own is None:
        problems.append(f"{relative}: in no folder that tests/lint/layering.py knows")
        return
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        header = match.group(2)
        where = f"{relative}:{number}"
        target = rule_of(header, RULES) or ("moe/v1" if header.startswith("moe/v1/") else None)
        if target and target != own:
            allowed = RULES[own]
            if not any(target == a or header == a or target.startswith(a + "/") for a in allowed):
                problems.append(f"{where}: {own} may not include {header}; it may use {allowed}")
        for prefix, folders in THIRD_PARTY.items():
            if header.startswith(prefix) and not any(relative.startswith(f + "/") for f in folders):
                problems.append(f"{where}: only {folders} may include {header}")
        if any(relative.startswith(p) for p in PURE) and IMPURE.match(header):
            problems.append(f"{where}: this part is pure and may not include {header}")


def check_links(bin_dir: pathlib.Path, problems: list[str]) -> None:
    import subprocess

    for program, forbidden in MUST_NOT_LINK.items():
        binary = bin_dir / program
        if not binary.exists():
            continue
        output = subprocess.run(["readelf", "-d", str(binary)], capture_output=True, text=True,
                                check=True).stdout
        for library in re.findall(r"NEEDED.*\[(.*)\]", output):
            for bad in forbidden:
                if library.startswith(bad):
                    problems.append(f"{program} is linked with {library}; it must not be")


def main() -> int:
    problems: list[str] = []
    count = 0
    for top in ("common", "storage", "sampler", "planner", "coordinator", "worker", "moectl"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in (".h", ".cc", ".cu", ".cuh"):
                check_file(path, problems)
                count += 1
    if len(sys.argv) > 1:
        check_links(pathlib.Path(sys.argv[1]), problems)
    for problem in problems:
        print(problem)
    print(f"layering: {count} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
