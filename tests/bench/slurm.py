"""Debian's Slurm on this machine, as a peer: installed where it is missing, run without systemd,
cgroups or a database, with so many CPUs that slots never limit it."""
import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

PACKAGES = ["slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge"]
CONFIG = """
ClusterName=peer
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MaxJobCount=50000
MinJobAge=2
SchedulerParameters=batch_sched_delay=0,default_queue_depth=10000,partition_job_depth=10000,sched_max_job_start=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=1024 Boards=1 SocketsPerBoard=1 CoresPerSocket=1024 ThreadsPerCore=1
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def install():
    """Whether Slurm is here now. Says why not."""
    if all(shutil.which(program) for program in ("slurmctld", "slurmd", "sbatch", "munged")):
        return True
    if os.geteuid() != 0:
        print("Slurm is not installed, and installing it needs root: left out", file=sys.stderr)
        return False
    # Debian's way to install services without starting them.
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        done = subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES],
                              env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                              capture_output=True, text=True, check=False)
    finally:
        if ours:
            policy.unlink()
    if done.returncode != 0:
        print(f"Slurm could not be installed: left out\n{done.stderr[-2000:]}", file=sys.stderr)
    return done.returncode == 0


class Slurm:
    def __enter__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="moe-slurm-"))
        for folder in ("state", "spool"):
            (self.root / folder).mkdir()
        config = self.root / "slurm.conf"
        config.write_text(CONFIG.format(host=socket.gethostname().split(".")[0], root=self.root,
                                        controller_port=free_port(), node_port=free_port()))
        self.env = {**os.environ, "SLURM_CONF": str(config)}
        self.noop = self.root / "noop.sh"
        self.noop.write_text("#!/bin/sh\nexit 0\n")
        self.processes = {}
        self.start_munge()
        self.start_controller()
        self.spawn("slurmd", "slurmd", "-D")
        self.wait(lambda: "idle" in self.command("sinfo", "-h", "-o", "%T"), "an idle node")
        return self

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.SubprocessError):
            self.command("scancel", "-u", "root")
        for name in list(self.processes):
            self.kill(name)
        shutil.rmtree(self.root, ignore_errors=True)

    def start_munge(self):
        # One of its own, so that a service of the machine is left alone.
        key, folder = self.root / "munge.key", self.root / "munge"
        folder.mkdir(mode=0o755)
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        path = folder / "socket"
        with open(self.root / "munge.log", "ab") as log:
            self.processes["munge"] = subprocess.Popen(
                ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={path}",
                 f"--pid-file={folder}/pid", f"--seed-file={folder}/seed",
                 f"--log-file={folder}/log"], stdout=log, stderr=log)
        with open(self.root / "slurm.conf", "a", encoding="utf-8") as config:
            config.write(f"AuthInfo=socket={path}\n")
        self.wait(path.exists, "munged")

    def spawn(self, name, *command):
        with open(self.root / f"{name}.out", "ab") as log:
            self.processes[name] = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)

    def start_controller(self):
        self.spawn("slurmctld", "slurmctld", "-D")
        self.wait(lambda: "UP" in self.command("scontrol", "ping"), "slurmctld")

    def kill(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)

    def wait(self, condition, what, timeout_s=60):
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                logs = "".join(p.read_text(errors="replace")[-1500:] for p in self.root.glob("*.*"))
                raise AssertionError(f"Slurm: waited {timeout_s} s for {what}\n{logs}")
            time.sleep(0.05)

    def command(self, *words):
        return subprocess.run(words, env=self.env, capture_output=True, text=True, check=False,
                              timeout=60).stdout

    def sbatch(self, *words):
        """The id of the new job; empty where it was refused."""
        return self.command("sbatch", "--parsable", "-o", "/dev/null", *words,
                            str(self.noop)).strip()

    def submit_many(self, jobs, clients):
        """Seconds for that many jobs of a call each."""
        start = time.monotonic()
        subprocess.run(["xargs", f"-P{clients}", "-n1", "sh", "-c",
                        f"sbatch -Q -o /dev/null {self.noop} >/dev/null"],
                       input="\n".join(map(str, range(jobs))), text=True, env=self.env, check=True)
        return time.monotonic() - start

    def wait_empty(self):
        self.wait(lambda: not self.command("squeue", "-h", "-t", "PD,R,CG").strip(), "an empty queue",
                  300)


def durability(kills, jobs_per_kill=40, seed=20261124):
    """As durability.py's storm, for slurmctld: what clients were told, against what it has after."""
    if not install():
        return None
    rng = random.Random(seed)
    told, lost = [], 0
    with Slurm() as peer:
        for _ in range(kills):
            fresh, stop = [], threading.Event()

            def submit(fresh=fresh, stop=stop):
                while not stop.is_set() and len(fresh) < jobs_per_kill:
                    job = peer.sbatch("--hold")
                    if job:
                        fresh.append(job)

            clients = [threading.Thread(target=submit) for _ in range(2)]
            for client in clients:
                client.start()
            peer.wait(lambda fresh=fresh: fresh, "an acknowledgement")
            time.sleep(rng.uniform(0, 0.3))
            peer.kill("slurmctld")
            stop.set()
            peer.start_controller()
            for client in clients:  # a call that was under way goes on by itself
                client.join()
            there = set(peer.command("squeue", "-h", "-o", "%i").split())
            lost += sum(job not in there for job in set(fresh))
            told += fresh
        reused = len(told) - len(set(told))
    return {"kills": kills, "acknowledged": len(told), "acknowledged_jobs_lost": lost,
            "ids_reused": reused}
