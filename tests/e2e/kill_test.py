"""kill -9 of any process at any moment of training leaves the finished job's loss sequence unchanged.

The undisturbed run is the golden: steps, losses, balance losses, gradient norms and batch checksums
are compared for equality, not closeness.
"""
import os
import random
import signal
import unittest

import tiny
from cluster import Cluster, wait_for

STEPS = 9
POINTS = [
    "step_begin:4", "after_backward:5", "after_optimizer:4", "after_report:3", "checkpoint_before_shard:2",
    "checkpoint_mid_shard:1", "checkpoint_before_manifest:1", "checkpoint_before_manifest:2",
    "checkpoint_after_manifest:1", "checkpoint_after_report:1", "checkpoint_after_report:3",
]


def train_only(pipeline):
    """prepare, construct and train."""
    return pipeline.split("  - name: evaluate")[0]


class KillTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with Cluster() as cluster:
            job = cls.prepare(cluster)
            cluster.start()
            cluster.submit(job, "--wait")
            cls.golden = cluster.losses("train")
        assert len(cls.golden) == STEPS, cls.golden

    @staticmethod
    def prepare(cluster, steps=STEPS, dtype="bf16"):
        model = tiny.write_model(cluster.root / "dense")
        corpus = tiny.write_corpus(cluster.root / "corpus")
        return train_only(tiny.pipeline(model, corpus, steps=steps, interval=3, dtype=dtype))

    def check(self, cluster, min_attempts=1):
        job = cluster.wait("train")
        self.assertEqual(cluster.losses("train"), self.golden)
        self.assertGreaterEqual(job["attempt"], min_attempts)
        return job

    def test_rank_killed_at_every_step_of_step_and_checkpoint(self):
        for point in POINTS:
            with self.subTest(point=point), Cluster() as cluster:
                job = self.prepare(cluster)
                marker = cluster.root / "crashed"
                cluster.worker_env = {"MOE_UNSAFE_CRASH_AT": point, "MOE_UNSAFE_CRASH_ONCE": str(marker)}
                cluster.start()
                cluster.submit(job)
                self.check(cluster)
                self.assertTrue(marker.exists(), f"{point} was never reached")

    def test_rank_killed_at_random_moments(self):
        seed = 20261124
        rng = random.Random(seed)
        with Cluster() as cluster:
            job = self.prepare(cluster)
            cluster.start()
            cluster.submit(job)
            kills = 0
            while kills < 4 and cluster.state("train") not in ("SUCCEEDED", "FAILED"):
                have = len(cluster.steps("train")) if cluster.state("train") == "RUNNING" else 0
                wanted = min(have + rng.randint(1, 2), STEPS)
                wait_for(lambda w=wanted: cluster.state("train") == "SUCCEEDED" or
                         (cluster.rank_pids() and len(cluster.steps("train")) >= w), "a step", 60)
                for pid in cluster.rank_pids():
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
            self.check(cluster)

    def test_worker_killed_and_restarted_keeps_the_attempt(self):
        with Cluster() as cluster:
            job = self.prepare(cluster, steps=400)
            cluster.start()
            cluster.submit(job)
            for at in (3, 40):
                wait_for(lambda n=at: len(cluster.steps("train")) >= n, f"step {at}", 90)
                ranks = cluster.rank_pids()
                cluster.kill("w1")
                self.assertEqual(cluster.rank_pids(), ranks, "the rank must outlive its worker")
                cluster.start_worker()
            job = cluster.wait("train")
            self.assertEqual(job["attempt"], 1)
            self.assertEqual([s for s, *_ in cluster.losses("train")], list(range(1, 401)))

    def test_coordinator_killed_and_restarted_keeps_the_attempt(self):
        with Cluster() as cluster:
            job = self.prepare(cluster, steps=400)
            cluster.start()
            cluster.submit(job)
            for at in (3, 40, 120):
                wait_for(lambda n=at: len(cluster.steps("train")) >= n, f"step {at}", 90)
                cluster.kill("coordinator")
                cluster.start_coordinator()
            job = cluster.wait("train")
            self.assertEqual(job["attempt"], 1)
            self.assertEqual([s for s, *_ in cluster.losses("train")], list(range(1, 401)))

    def test_everything_killed_at_once(self):
        for after in (1, 4, 8):
            with self.subTest(after=after), Cluster(lease_ttl_ms=3000) as cluster:
                job = self.prepare(cluster)
                cluster.start()
                cluster.submit(job)
                wait_for(lambda n=after: cluster.state("train") == "SUCCEEDED" or
                         len(cluster.steps("train")) >= n, f"step {after}", 90)
                cluster.kill("coordinator")
                cluster.kill("w1")
                cluster.kill_ranks()
                cluster.start()
                self.check(cluster)

    def test_rank_without_worker_stops_itself_when_its_lease_is_over(self):
        with Cluster(lease_ttl_ms=2000) as cluster:
            job = self.prepare(cluster, steps=100_000)
            cluster.start()
            cluster.submit(job)
            wait_for(lambda: len(cluster.steps("train")) >= 2, "two steps", 60)
            cluster.kill("w1")
            wait_for(lambda: not cluster.rank_pids(), "the rank to stop itself", 20)
            wait_for(lambda: cluster.state("train") == "QUEUED", "the job to be queued again", 20)
            before = cluster.job("train")["attempt"]
            cluster.start_worker()
            wait_for(lambda: cluster.job("train")["attempt"] > before and cluster.state("train") == "RUNNING",
                     "another attempt", 30)
            steps = [s for s, *_ in cluster.losses("train")]
            self.assertEqual(steps, list(range(1, len(steps) + 1)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
