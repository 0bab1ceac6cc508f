"""The real coordinator and worker with ranks that do nothing, for measuring and breaking them."""
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import tiny  # noqa: E402
from cluster import BIN, Cluster, free_port, wait_for  # noqa: E402,F401

TOOLS = BIN.parent / "tests"
LOAD, NOOP_RANK = TOOLS / "control_load", TOOLS / "noop_rank"


class NoopCluster(Cluster):
    """`starts` is what the ranks themselves recorded: every attempt that was ever started, and when."""

    def __init__(self, **options):
        super().__init__(**options)
        programs = self.root / "programs"
        programs.mkdir()
        for name in ("moe-prepare", "moe-rank"):
            (programs / name).symlink_to(NOOP_RANK)
        self.starts_path = programs / "starts"
        self.starts_path.touch()
        self.worker_flags += ["--bin-dir", str(programs)]
        self.tokenizer = tiny.write_model(self.root / "dense")
        self.text = self.root / "text.txt"
        self.text.write_text("one line\n")

    def load(self, *words, idle=False, stdout=subprocess.PIPE):
        """Starts the load program. `idle`: it gets what nobody else wants of the cores."""
        return subprocess.Popen(["chrt", "--idle" if idle else "--other", "0", str(LOAD),
                                 f"127.0.0.1:{self.port}", *map(str, words)],
                                stdin=subprocess.PIPE, stdout=stdout, text=True)

    def submit_load(self, clients, jobs, prefix):
        return self.load("submit", clients, jobs, prefix, self.tokenizer, self.text)

    def run_load(self, *words, timeout_s=300):
        # Into a file, so that nobody here takes part in what is measured.
        with tempfile.TemporaryFile("w+") as out:
            process = self.load(*words, stdout=out)
            process.communicate(timeout=timeout_s)
            if process.returncode != 0:
                raise AssertionError(
                    f"control_load {' '.join(map(str, words))}: exit {process.returncode}")
            out.seek(0)
            return [line.split() for line in out]

    def jobs(self):
        """{job id: (name, attempt, state)} of every job that the coordinator has."""
        return {job: (name, int(attempt), state.removeprefix("JOB_STATE_"))
                for _, name, job, attempt, state in self.run_load("dump")}

    def starts(self):
        """[(job id, attempt, unix nanoseconds)], in the order in which the ranks started."""
        rows = []
        for line in self.starts_path.read_text().splitlines():
            attempt, nanoseconds = line.split()
            job, number = attempt.rsplit(".", 1)
            rows.append((job, int(number), int(nanoseconds)))
        return rows

    def wait_all_ended(self, timeout_s=600):
        self.run_load("await", timeout_s=timeout_s)


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                  if line.startswith("model name")), "unknown CPU")
    return {"cpu": model, "cores": os.cpu_count(), "load_1min": round(os.getloadavg()[0], 2)}


def goal(name, value, wanted, *, at_least=False):
    met = value is not None and (value >= wanted if at_least else value <= wanted)
    return {"name": name, "value": value, "goal": wanted, "met": met}
