"""A real cluster for tests: the built programs, started as a user starts them, in a temporary folder.

    with Cluster() as cluster:
        cluster.start()
        cluster.submit(job_file_text)
        cluster.wait("train")

Nothing here is a mock. Waits poll a condition with a deadline; there is no bare sleep in a test.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

BIN = pathlib.Path(os.environ.get("MOE_BIN_DIR", "build/dev/bin")).resolve()
SOURCE = pathlib.Path(__file__).resolve().parents[2]


class CommandFailed(AssertionError):
    def __init__(self, result):
        self.result = result
        super().__init__(f"{' '.join(map(str, result.args))}: exit {result.returncode}\n"
                         f"stdout: {result.stdout}\nstderr: {result.stderr}")


def wait_for(condition, what, timeout_s=60.0, every_s=0.02):
    """Polls until `condition()` is true and returns its value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s for {what}")
        time.sleep(every_s)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster:
    """A coordinator and workers. Ports are free ones; all state is below `root`.

    Workers measure what a slot can do only where a test is about that: it takes seconds."""

    threads_per_slot = 1  # 0: a slot has its share of all cores, as by default

    def __init__(self, lease_ttl_ms=10_000, root=None, artefact_root=None, worker_env=None,
                 worker_flags=("--no-speed-probe",)):
        self.root = pathlib.Path(root or tempfile.mkdtemp(prefix="moe-e2e-"))
        self.artefacts = pathlib.Path(artefact_root or self.root / "artefacts")
        self.lease_ttl_ms = lease_ttl_ms
        self.worker_env = dict(worker_env or {})
        self.worker_flags = list(worker_flags)
        self.coordinator_env = {}
        self.port, self.metrics_port = free_port(), free_port()
        self.worker_metrics_port = free_port()
        self.processes = {}

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            self.print_logs()
        for name in list(self.processes):
            self.kill(name)
        self.kill_ranks()
        shutil.rmtree(self.root, ignore_errors=True)

    # ---- processes

    def spawn(self, name, command, env=None):
        with open(self.root / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(c) for c in command], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})})
        return self.processes[name]

    def start_coordinator(self, *flags):
        self.spawn("coordinator", [
            BIN / "moe-coordinator", "--listen", f"127.0.0.1:{self.port}",
            "--metrics-listen", f"127.0.0.1:{self.metrics_port}", "--data-dir", self.root / "coordinator",
            "--artefact-root", self.artefacts, "--lease-ttl-ms", self.lease_ttl_ms,
            *flags], env=self.coordinator_env)
        wait_for(lambda: self.alive("coordinator") and self.answers(self.port), "the coordinator")

    def start_worker(self, slots=1, worker_id="w1"):
        port = self.worker_metrics_port if worker_id == "w1" else free_port()
        self.spawn(worker_id, [
            BIN / "moe-worker", "--coordinator", f"127.0.0.1:{self.port}", "--worker-id", worker_id,
            "--state-dir", self.root / worker_id, "--cpu-slots", slots,
            "--threads-per-slot", self.threads_per_slot,
            "--metrics-listen", f"127.0.0.1:{port}", *self.worker_flags], env=self.worker_env)

    def start(self, slots=1, coordinator_flags=()):
        self.artefacts.mkdir(parents=True, exist_ok=True)
        self.start_coordinator(*coordinator_flags)
        self.start_worker(slots)
        return self

    def alive(self, name):
        process = self.processes[name]
        if process.poll() is not None:
            raise AssertionError(f"{name} ended with {process.returncode}:\n{self.log(name)}")
        return True

    def kill(self, name, sig=signal.SIGKILL):
        process = self.processes.pop(name, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(sig)
            process.wait(timeout=30)

    def rank_pids(self):
        """Process ids of ranks of this cluster, found by their command lines."""
        pids = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    program = words[0].rsplit(b"/", 1)[-1]
                    state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                    if program in (b"moe-rank", b"moe-prepare") and state != "Z" and any(
                            w.startswith(str(self.root).encode()) for w in words):
                        pids.append(int(entry.name))
        return pids

    def kill_ranks(self):
        for pid in self.rank_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def answers(self, port):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    def log(self, name):
        path = self.root / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def print_logs(self):
        for path in sorted(self.root.glob("*.log")):
            print(f"---- {path.name} (end)", file=sys.stderr)
            print(path.read_text(errors="replace")[-6000:], file=sys.stderr)
        for path in sorted(self.root.glob("*/runs/*/rank-*/log")):
            print(f"---- {path.relative_to(self.root)} (end)", file=sys.stderr)
            print(path.read_text(errors="replace")[-3000:], file=sys.stderr)

    # ---- moectl

    def moectl(self, *words, check=True, stdin=None, timeout_s=240):
        result = subprocess.run(
            [str(BIN / "moectl"), "--endpoint", f"127.0.0.1:{self.port}", *map(str, words)],
            capture_output=True, text=True, input=stdin, timeout=timeout_s,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env={**os.environ, "NO_COLOR": "1", "XDG_CONFIG_HOME": str(self.root / "config")})
        if check and result.returncode != 0:
            raise CommandFailed(result)
        return result

    def submit(self, text, *words, check=True):
        path = self.root / "job.yaml"
        path.write_text(text)
        return self.moectl("job", "submit", "-f", path, *words, check=check)

    def job(self, name):
        return json.loads(self.moectl("job", "describe", name, "-o", "json").stdout)["job"]

    def state(self, name):
        return self.job(name)["state"].removeprefix("JOB_STATE_")

    def wait(self, name, state="SUCCEEDED", timeout_s=240):
        def ended():
            job = self.job(name)
            now = job["state"].removeprefix("JOB_STATE_")
            if now == state:
                return job
            if now in ("SUCCEEDED", "FAILED", "CANCELLED"):
                raise AssertionError(f"job {name} is {now}, not {state}: {job.get('reason')}")
            return None
        return wait_for(ended, f"job {name} to be {state}", timeout_s, every_s=0.1)

    def steps(self, name):
        """The training steps, as `moectl job steps` gives them."""
        return json.loads(self.moectl("job", "steps", name, "-o", "json").stdout)["steps"]

    def losses(self, name):
        return [(int(s["step"]), s["loss"], s.get("balance_loss", 0.0), s["gradient_norm"],
                 s["batch_crc32c"]) for s in self.steps(name)]

    def artefact(self, name):
        return json.loads(self.moectl("artefact", "describe", name, "-o", "json").stdout)["artefact"]
