"""Two hosts: network namespaces joined by a veth pair, a worker with two ranks in each. What they
send is the theory's least; a link that is cut mid-step is named, and the run resumes.

The coordinator is reached through a forwarder per host over a Unix socket, as an SSH tunnel would:
daemons speak without TLS on loopback only."""
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import threading
import unittest

import tiny
from cluster import BIN, Cluster, free_port, wait_for
from kill_test import train_only

STEPS, INTERVAL, MEASURED = 400, 20, 100


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def can_make_hosts():
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    name = f"moe-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"no network namespaces here: {made.stderr.strip()}"
    entered = subprocess.run(["ip", "-n", name, "link"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], check=True)
    if entered.returncode != 0:  # in a chroot, say
        return f"network namespaces cannot be entered here: {entered.stderr.strip()}"
    return None


FORWARD = """
import socket, sys, threading
def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client, _ = server.accept()
    target = socket.socket(socket.AF_UNIX)
    target.connect(sys.argv[2])
    for pair in ((client, target), (target, client)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


class Hosts:
    """Two namespaces, 10.77.0.1 and 10.77.0.2, and a way from each to the coordinator."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.names = [f"moe-{os.getpid()}-{i}" for i in (1, 2)]
        self.links = [f"mv{os.getpid() % 100000}{i}" for i in (1, 2)]

    def __enter__(self):
        for name in self.names:
            ip("netns", "add", name)
        ip("link", "add", self.links[0], "type", "veth", "peer", "name", self.links[1])
        for i, (name, link) in enumerate(zip(self.names, self.links), 1):
            ip("link", "set", link, "netns", name)
            ip("-n", name, "addr", "add", f"10.77.0.{i}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        self.listen()
        return self

    def __exit__(self, *error):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False)

    def listen(self):
        """A Unix socket, which no namespace of the network separates, in front of the coordinator."""
        self.path = str(self.cluster.root / "coordinator.sock")
        server = socket.socket(socket.AF_UNIX)
        server.bind(self.path)
        server.listen(16)

        def pump(a, b):
            try:
                while data := a.recv(65536):
                    b.sendall(data)
            except OSError:
                pass
            for s in (a, b):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

        def accept():
            while True:
                client, _ = server.accept()
                target = socket.create_connection(("127.0.0.1", self.cluster.port))
                for pair in ((client, target), (target, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    def start_worker(self, number):
        inside = ["ip", "netns", "exec", self.names[number - 1]]
        port = free_port()
        self.cluster.spawn(f"forward{number}",
                           [*inside, sys.executable, "-c", FORWARD, port, self.path])
        self.cluster.spawn(f"host{number}", [
            *inside, BIN / "moe-worker", "--coordinator", f"127.0.0.1:{port}",
            "--worker-id", f"host{number}", "--state-dir", self.cluster.root / f"host{number}",
            "--cpu-slots", 2, "--threads-per-slot", 1, "--rank-host", f"10.77.0.{number}",
            "--metrics-listen", "", "--no-speed-probe"])

    def set_link(self, state):
        ip("-n", self.names[0], "link", "set", self.links[0], state)

    def sent_bytes(self):
        return int(subprocess.run(
            ["ip", "netns", "exec", self.names[0], "cat",
             f"/sys/class/net/{self.links[0]}/statistics/tx_bytes"],
            check=True, capture_output=True, text=True).stdout)


def arena_numel(checkpoint):
    """The length of the flat arena, from the header of a state file."""
    with open(sorted(pathlib.Path(checkpoint).glob("state-*.safetensors"))[0], "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return int(header["__metadata__"]["total"])


@unittest.skipIf(can_make_hosts(), can_make_hosts())
class HostsTest(unittest.TestCase):
    def test_two_hosts_train_and_a_cut_link_is_named_and_survived(self):
        with Cluster() as cluster, Hosts(cluster) as hosts:
            model = tiny.write_model(cluster.root / "dense")
            corpus = tiny.write_corpus(cluster.root / "corpus")
            cluster.artefacts.mkdir(parents=True, exist_ok=True)
            cluster.start_coordinator()
            for number in (1, 2):
                hosts.start_worker(number)
            text = train_only(tiny.pipeline(model, corpus, steps=STEPS, interval=INTERVAL, slots=4,
                                            global_batch=8))
            text = text.replace("      compute_dtype:", "      collective_timeout_seconds: 5\n"
                                "      compute_dtype:", 1)
            cluster.submit(text)
            done = lambda: len(cluster.steps("train"))
            wait_for(lambda: done() > INTERVAL, "a checkpoint", 90)

            def reading():
                """Bytes, and the step at that moment: asking for steps takes some steps' time."""
                before, sent, after = done(), hosts.sent_bytes(), done()
                return (before + after) / 2, sent
            first_step, first_bytes = reading()
            wait_for(lambda: done() > first_step + MEASURED, "steps to measure", 90)
            last_step, last_bytes = reading()
            per_step = (last_bytes - first_bytes) / (last_step - first_step)
            hosts.set_link("down")
            wait_for(lambda: cluster.job("train")["attempt"] >= 2, "the cut to be noticed", 60)
            hosts.set_link("up")
            job = cluster.wait("train")
            self.assertGreaterEqual(job["attempt"], 2)
            events = cluster.moectl("job", "events", "train").stdout
            self.assertRegex(events, r"rank \d of 4, step \d+: .* failed: (waiting for|sending to) rank \d")
            steps = cluster.steps("train")
            self.assertEqual([int(s["step"]) for s in steps], list(range(1, STEPS + 1)))

            # Each of two ranks here sends 2 (N - 1) / N of the arena, two thirds of it to the other
            # host. On top: headers, statistics of the step, and what was sent between the readings.
            theory = 2 * (2 * 3 / 4 * 4 * arena_numel(cluster.artefact("train")["path"])) * 2 / 3
            self.assertGreater(per_step, 0.97 * theory)
            self.assertLess(per_step, 1.15 * theory)

            # The same run on one host: the same batches, losses within the stated tolerance.
            batches = [s["batch_crc32c"] for s in steps]
            cluster.submit(text.replace("slots: 4", "slots: 2").replace("name: train", "name: again"))
            cluster.wait("again")
            again = cluster.steps("again")
            self.assertEqual([s["batch_crc32c"] for s in again], batches)
            # Gradients are added in another order. Training multiplies what that rounds, until a token
            # goes to another expert: in the end it is the mean that is close.
            apart = [abs(a["loss"] - b["loss"]) / a["loss"] for a, b in zip(steps, again)]
            self.assertLess(max(apart[:STEPS // 2]), 1e-3)
            self.assertLess(sum(apart) / STEPS, 1e-3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
