"""A rank whose process stands still (SIGSTOP) is named, killed and replaced, and no step is lost."""
import datetime
import json
import os
import pathlib
import signal
import statistics
import time
import unittest

import tiny
from cluster import Cluster, wait_for
from kill_test import train_only

STEPS = 600


def pid_of_rank(cluster, number):
    for pid in cluster.rank_pids():
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if words[words.index(b"--rank") + 1] == str(number).encode():
            return pid
    raise AssertionError(f"there is no rank {number}")


def unix_seconds(event):
    return datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()


class HungTest(unittest.TestCase):
    @staticmethod
    def start(cluster):
        model = tiny.write_model(cluster.root / "dense")
        corpus = tiny.write_corpus(cluster.root / "corpus")
        cluster.start(slots=2)
        cluster.submit(train_only(tiny.pipeline(model, corpus, steps=STEPS, interval=40, slots=2)))

    @classmethod
    def setUpClass(cls):
        with Cluster() as cluster:
            cls.start(cluster)
            cluster.wait("train")
            cls.golden = cluster.losses("train")

    def stop_rank(self, number, after_steps):
        with Cluster() as cluster:
            self.start(cluster)
            wait_for(lambda: len(cluster.steps("train")) >= after_steps, f"{after_steps} steps", 90)
            os.kill(pid_of_rank(cluster, number), signal.SIGSTOP)
            stopped = time.time()
            job = cluster.wait("train")
            self.assertEqual(job["attempt"], 2, job)
            self.assertEqual(job.get("infrastructure_failures"), 1, job)
            self.assertEqual(cluster.losses("train"), self.golden)

            events = json.loads(cluster.moectl("job", "events", "train", "-o", "json").stdout)["events"]
            hung = [e for e in events if e.get("cause") == "CAUSE_HUNG"]
            self.assertTrue(hung, events)
            self.assertIn(f"rank {number} on w1 stands still", hung[0]["message"])
            again = next(e for e in events if e.get("attempt") == 2 and e["state"] == "JOB_STATE_STARTING")
            median = statistics.median(s["step_seconds"] for s in cluster.steps("train"))
            print(f"rank {number}: named {unix_seconds(hung[0]) - stopped:.2f} s after it stopped, the next "
                  f"attempt placed after {unix_seconds(again) - stopped:.2f} s; the goal is "
                  f"{10 * median + 5:.2f} s (median step {median:.3f} s)\n  {hung[0]['message']}")
            goodput = json.loads(cluster.moectl("goodput", "train", "-o", "json").stdout)
            self.assertGreater(goodput["slot_seconds"]["hung"], 0)

    def test_first_rank(self):
        self.stop_rank(0, after_steps=6)

    def test_second_rank_at_several_moments(self):
        for after_steps in (4, 45, 90):
            with self.subTest(after_steps=after_steps):
                self.stop_rank(1, after_steps)


if __name__ == "__main__":
    unittest.main(verbosity=2)
