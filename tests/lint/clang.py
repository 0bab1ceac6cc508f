#!/usr/bin/env python3
"""Runs clang over our sources: `tidy` for clang-tidy, `thread-safety` for the lock analysis.

Results are cached by content (the file, every project header it reaches, the flags and the
configuration), so that only what changed is checked again:

    tests/lint/clang.py tidy          --build build/dev
    tests/lint/clang.py thread-safety --build build/dev

By default `tidy` takes the parts that the others rest on (TIDY below) and of them the files that
reach neither LibTorch nor gRPC, whose headers cost it half a minute a file; --all takes the rest too.
`thread-safety` takes the files that reach absl::Mutex, and precompiles the headers that the build does.
"""
import argparse
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOPS = ("common/", "storage/", "sampler/", "planner/", "coordinator/", "worker/", "moectl/")
UNIT = re.compile(r"/Unity/unity_\d+_cxx\.cxx$")
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


# Files of a folder are checked as one translation unit, for most of clang's time goes into the headers
# that they share. Whatever fails so is looked at in smaller groups, and in the end alone.
GROUP = 12
TIDY = ("common/", "storage/artefacts/", "sampler/", "coordinator/scheduler/", "worker/construction/")
HEAVY = r'^\s*#\s*include\s*[<"](ATen/|torch/|c10/|grpcpp/|moe/v1/|google/protobuf/)'
LOCKS = r'^\s*#\s*include\s*"absl/synchronization/'


@dataclasses.dataclass
class Source:
    name: str             # below ROOT
    marker: pathlib.Path  # exists where this content was found clean


def key_of(source: pathlib.Path, flags: list[str], salt: str) -> str:
    digest = hashlib.sha256(salt.encode())
    # Free of where the checkout lies, so that another one of the same content shares the results.
    digest.update(" ".join([source.relative_to(ROOT).as_posix(), *flags]).replace(str(ROOT), "").encode())
    files: set[pathlib.Path] = set()
    reach(source, files)
    for path in sorted(files):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def flags_of(entry: dict) -> tuple[list[str], str | None]:
    """The flags that matter to clang (includes, defines, language level), and the header that the
    build precompiles."""
    words = shlex.split(entry["command"])
    start = next(i for i, w in enumerate(words) if re.search(r"(^|/)(c\+\+|g\+\+|clang\+\+)$", w))
    flags, skip, precompiled = [], False, None
    for word in words[start + 1:]:
        if skip:
            if word.endswith("cmake_pch.hxx"):
                flags.pop()
                precompiled = word
            else:
                flags.append(word)
            skip = False
        elif word in ("-isystem", "-I", "-include"):
            flags.append(word)
            skip = True
        elif re.match(r"-(I|D|isystem|std=|m(avx|fma|sse|prefer|arch|f16c))", word):
            flags.append(word)
    return flags, precompiled


def sources_of(entry: dict) -> list[pathlib.Path]:
    """The sources of ours that a compile command is for: of a unity build's unit, those in it."""
    path = pathlib.Path(entry["file"])
    if not UNIT.search(path.as_posix()):
        return [path]
    return [pathlib.Path(name) for name in INCLUDE.findall(path.read_text())]


class PrecompiledHeaders:
    """clang's own precompiled form of the build's heavy headers, made for the length of a run."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="moe-lint-")
        self.made: dict[tuple, concurrent.futures.Future] = {}
        self.lock = threading.Lock()

    def flags(self, header: str, flags: list[str], directory: str) -> list[str]:
        """What makes clang start from `header`; nothing where it cannot be precompiled."""
        # Include paths may differ between the two, defines and language level may not.
        meaning = tuple(sorted(f for f in flags if re.match(r"-(D|std=|m)", f)))
        with self.lock:
            future = self.made.get((header, meaning))
            mine = future is None
            if mine:
                future = self.made[header, meaning] = concurrent.futures.Future()
                output = f"{self.folder.name}/{len(self.made)}.pch"
        if mine:
            result = subprocess.run([find_tool("clang++"), "-x", "c++-header", "-fpch-instantiate-templates",
                                     "-Wno-everything", *flags,
                                     header, "-o", output], cwd=directory, capture_output=True, text=True)
            if result.returncode != 0:
                print(f"cannot precompile {header}:\n{result.stderr}", flush=True)
            future.set_result(["-include-pch", output] if result.returncode == 0 else [])
        return future.result()


def run_clang(mode: str, sources: list[Source], flags: list[str], directory: str) -> tuple[int, str]:
    """Exit status and output of clang over `sources` as one translation unit."""
    with tempfile.NamedTemporaryFile("w", prefix="moe-lint-", suffix=".cc") as unit:
        if len(sources) == 1:
            path = str(ROOT / sources[0].name)
        else:
            unit.write("".join(f'#include "{ROOT / source.name}"\n' for source in sources))
            unit.flush()
            path = unit.name
        if mode == "tidy":
            command = [find_tool("clang-tidy"), "--quiet", "--warnings-as-errors=*",
                       f"--config-file={ROOT / '.clang-tidy'}", "--checks=-bugprone-suspicious-include", path,
                       "--", *flags]
        else:
            command = [find_tool("clang++"), "-fsyntax-only", "-Wno-everything", "-Wthread-safety",
                       "-Werror=thread-safety", *flags, path]
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        return result.returncode, result.stdout + result.stderr


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

    groups: dict[tuple, list[Source]] = {}
    total = cached = 0
    for entry, path in [(entry, path) for entry in entries for path in sources_of(entry)]:
        if not path.is_relative_to(ROOT):
            continue
        relative = path.relative_to(ROOT).as_posix()
        if not relative.startswith(TOPS):
            continue
        if options.files and relative not in options.files:
            continue
        if options.mode == "tidy" and not (options.all or options.files) and (
                not relative.startswith(TIDY) or reaches(path, HEAVY)):
            continue
        if options.mode == "thread-safety" and not reaches(path, LOCKS):
            continue
        flags, header = flags_of(entry)
        total += 1
        marker = cache / key_of(path, flags, options.mode + config)
        if marker.exists():
            cached += 1
            continue
        header = header if options.mode == "thread-safety" else None
        key = (path.parent, header, entry["directory"], *flags)
        groups.setdefault(key, []).append(Source(relative, marker))

    def check(key, sources: list[Source]) -> list[str]:
        _, header, directory, *flags = key
        if header:
            flags += headers.flags(header, flags, directory)
        code, output = run_clang(options.mode, sources, flags, directory)
        if code == 0:
            for source in sources:
                source.marker.touch()
            return []
        if len(sources) == 1:
            return [f"--- {sources[0].name}\n{output}"]
        middle = len(sources) // 2
        return check(key, sources[:middle]) + check(key, sources[middle:])

    headers = PrecompiledHeaders()
    batches = [(key, sources[i:i + GROUP]) for key, sources in groups.items()
               for i in range(0, len(sources), GROUP)]
    batches.sort(key=lambda batch: -len(batch[1]))  # the longest first
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for problems in pool.map(lambda batch: check(*batch), batches):
            bad += len(problems)
            for problem in problems:
                print(problem, flush=True)
    print(f"clang {options.mode}: {total} files, {cached} unchanged, {bad} with problems")
    if not total:
        print("nothing was checked: is the build folder configured?")
        return 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
