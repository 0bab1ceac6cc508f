"""kill -9 of the daemons under load breaks no promise: the small form of tests/bench/durability.sh."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))

import durability  # noqa: E402

KEPT = {"acknowledged_jobs_lost": 0, "ids_reused": 0, "attempts_doubled": 0, "attempts_lost": 0}


class KilledUnderLoadTest(unittest.TestCase):
    def check(self, victim):
        row = durability.run(victim, kills=3, seed=7, jobs_per_kill=40)
        self.assertEqual({name: row[name] for name in KEPT}, KEPT)
        self.assertEqual(row["acknowledged"], 120)
        self.assertEqual(row["not_succeeded"], 0)

    def test_coordinator(self):
        self.check("coordinator")

    def test_worker(self):
        self.check("worker")

    def test_both(self):
        self.check("both")


class BrokenPromisesAreCountedTest(unittest.TestCase):
    """The judge itself: each kind of broken promise, planted, is found and nothing else is."""

    def count(self, acks=None, jobs=None, starts=None):
        acks = acks or [("a", "j1"), ("b", "j2")]
        jobs = jobs or {"j1": ("a", 1, "SUCCEEDED"), "j2": ("b", 2, "SUCCEEDED")}
        starts = starts or [("j1", 1, 0), ("j2", 1, 0), ("j2", 2, 0)]
        return durability.count_broken_promises(acks, jobs, starts)

    def test_nothing_broken(self):
        self.assertEqual(self.count(), KEPT)

    def test_lost_job(self):
        self.assertEqual(self.count(jobs={"j1": ("a", 1, "SUCCEEDED")}, starts=[("j1", 1, 0)]),
                         KEPT | {"acknowledged_jobs_lost": 1})

    def test_id_told_twice(self):
        self.assertEqual(self.count(acks=[("a", "j1"), ("c", "j1")]),
                         KEPT | {"acknowledged_jobs_lost": 1, "ids_reused": 1})

    def test_one_submission_made_two_jobs(self):
        self.assertEqual(self.count(jobs={"j1": ("a", 1, "SUCCEEDED"), "j2": ("b", 2, "SUCCEEDED"),
                                          "j3": ("b", 0, "QUEUED")}),
                         KEPT | {"ids_reused": 1})

    def test_attempt_started_twice(self):
        self.assertEqual(self.count(starts=[("j1", 1, 0), ("j1", 1, 5), ("j2", 2, 0)]),
                         KEPT | {"attempts_doubled": 1})

    def test_more_attempts_started_than_the_job_has(self):
        self.assertEqual(self.count(starts=[("j1", 1, 0), ("j1", 2, 5), ("j2", 2, 0)]),
                         KEPT | {"attempts_doubled": 1})

    def test_success_without_a_start(self):
        self.assertEqual(self.count(starts=[("j1", 1, 0), ("j2", 1, 0)]), KEPT | {"attempts_lost": 1})


if __name__ == "__main__":
    unittest.main(verbosity=2)
