#!/usr/bin/env python3
"""Runs clang over our sources: `tidy` for clang-tidy, `thread-safety` for the lock analysis.

Results are cached by content (the file, every project header it reaches, the flags and the
configuration), so that only what changed is checked again:

    tests/lint/clang.py tidy          --build build/dev
    tests/lint/clang.py thread-safety --build build/dev

By default `tidy` takes the parts that the others rest on (TIDY below) and of them the files that
reach neither LibTorch nor gRPC, whose headers cost it half a minute a file; --all takes the rest too. `thread-safety` takes the files that reach absl::Mutex.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOPS = ("common/", "storage/", "sampler/", "planner/", "coordinator/", "worker/", "moectl/")
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


def find_tool(name: str) -> str:
    for candidate in (name, f"{name}-14"):
        path = shutil.which(candidate)
        if path:
            return path
    sys.exit(f"{name} is not installed; run deploy/install_deps.sh test")


def reach(path: pathlib.Path, seen: set[pathlib.Path]) -> None:
    """Adds `path` and the project headers that it includes, directly or not."""
    if path in seen or not path.is_file():
        return
    seen.add(path)
    for header in INCLUDE.findall(path.read_text(errors="replace")):
        if header.startswith("moe/v1/"):
            proto = ROOT / "proto" / re.sub(r"(\.grpc)?\.pb\.h$", ".proto", header)
            if proto.is_file():
                seen.add(proto)
        else:
            reach(ROOT / header, seen)


def reaches(source: pathlib.Path, pattern: str) -> bool:
    files: set[pathlib.Path] = set()
    reach(source, files)
    return any(re.search(pattern, path.read_text(errors="replace"), re.M) for path in files)


TIDY = ("common/", "storage/artefacts/", "sampler/", "coordinator/scheduler/", "worker/construction/")
HEAVY = r'^\s*#\s*include\s*[<"](ATen/|torch/|c10/|grpcpp/|moe/v1/|google/protobuf/)'
LOCKS = r'^\s*#\s*include\s*"absl/synchronization/'


def key_of(source: pathlib.Path, command: list[str], salt: str) -> str:
    digest = hashlib.sha256(salt.encode())
    # Free of where the checkout lies, so that another one of the same content shares the results.
    digest.update(" ".join(command).replace(str(ROOT), "").encode())
    files: set[pathlib.Path] = set()
    reach(source, files)
    for path in sorted(files):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def flags_of(entry: dict) -> list[str]:
    """The flags that matter to clang: includes, defines, language level."""
    words = shlex.split(entry["command"])
    start = next(i for i, w in enumerate(words) if re.search(r"(^|/)(c\+\+|g\+\+|clang\+\+)$", w))
    flags, skip = [], False
    for word in words[start + 1:]:
        if skip:
            flags.append(word)
            skip = False
        elif word in ("-isystem", "-I", "-include"):
            flags.append(word)
            skip = True
        elif re.match(r"-(I|D|isystem|std=|m(avx|fma|sse|prefer|arch|f16c))", word):
            flags.append(word)
    return flags


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["tidy", "thread-safety"])
    parser.add_argument("--build", default="build/dev", help="a configured build folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--all", action="store_true", help="tidy: the files with heavy headers too")
    parser.add_argument("files", nargs="*", help="only these (default: all)")
    options = parser.parse_args()

    cache = pathlib.Path(os.environ.get("MOE_CACHE_DIR", pathlib.Path.home() / ".cache/moe")) / "lint"
    cache.mkdir(parents=True, exist_ok=True)
    entries = json.loads((pathlib.Path(options.build) / "compile_commands.json").read_text())
    config = (ROOT / ".clang-tidy").read_text() if options.mode == "tidy" else ""

    work = []
    for entry in entries:
        source = pathlib.Path(entry["file"])
        if not source.is_relative_to(ROOT):
            continue
        relative = source.relative_to(ROOT).as_posix()
        if not relative.startswith(TOPS):
            continue
        if options.files and relative not in options.files:
            continue
        if options.mode == "tidy" and not (options.all or options.files) and (
                not relative.startswith(TIDY) or reaches(source, HEAVY)):
            continue
        if options.mode == "thread-safety" and not reaches(source, LOCKS):
            continue
        flags = flags_of(entry)
        if options.mode == "tidy":
            command = [find_tool("clang-tidy"), "--quiet", "--warnings-as-errors=*", str(source), "--",
                       *flags]
        else:
            command = [find_tool("clang++"), "-fsyntax-only", "-Wthread-safety", "-Werror=thread-safety",
                       "-Wno-everything", "-Wthread-safety", *flags, str(source)]
        work.append((relative, source, command, entry["directory"]))

    def run(item):
        relative, source, command, directory = item
        marker = cache / key_of(source, command, options.mode + config)
        if marker.exists():
            return relative, 0, "", True
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        if result.returncode == 0:
            marker.touch()
        return relative, result.returncode, result.stdout + result.stderr, False

    bad = cached = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for relative, code, output, was_cached in pool.map(run, work):
            cached += was_cached
            if code != 0:
                bad += 1
                print(f"--- {relative}\n{output}", flush=True)
    print(f"clang {options.mode}: {len(work)} files, {cached} unchanged, {bad} with problems")
    if not work:
        print("nothing was checked: is the build folder configured?")
        return 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
