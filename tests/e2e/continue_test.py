"""moectl job continue: a run goes on in another job, on other slots, and stays the same run.

The undisturbed run is the golden. A run that is held, goes on, and is killed in between reads the very
same samples; on the same number of ranks it also computes the very same numbers.
"""
import contextlib
import os
import random
import signal
import unittest

import sampler_test
import tiny
from cluster import Cluster, CommandFailed, wait_for

KILLS = int(os.environ.get("MOE_SAMPLER_KILLS", "6"))
# One job after the other, on 1, 2, 1, ... slots; a few kills each, for the pause before another attempt
# doubles.
JOBS = max(3, KILLS // 6 * 2 + 1)
STEPS, INTERVAL = 100 * JOBS, 50
# What losses differ by at most where another number of ranks adds them up.
ROUNDING = 2e-5


def job_file(cluster):
    mixture = {"preset": "uniform", "dynamic": {"rule": "sheared", "interval_steps": INTERVAL,
                                                "heldout_samples": 2,
                                                "reference_losses": sampler_test.REFERENCE}}
    text = tiny.pipeline(tiny.write_model(cluster.root / "dense"),
                         tiny.write_corpus(cluster.root / "corpus"), steps=STEPS, interval=20)
    # Slow learning: what ranks round otherwise does not grow into other routes, losses and weights.
    text = text.replace("learning_rate: 0.002", "learning_rate: 0.00001")
    text = text.replace("  - name: train\n", "  - name: train\n    max_infrastructure_retries: 1000\n")
    return sampler_test.dynamic(text, mixture)


class ContinueTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with Cluster() as cluster:
            cluster.start()
            cluster.submit(job_file(cluster), "--wait")
            cls.golden = cluster.losses("train")
            cls.decisions = sampler_test.SamplerTest.decisions(cluster)
        assert [step[0] for step in cls.golden] == list(range(1, STEPS + 1)), cls.golden
        assert len(cls.decisions) == STEPS // INTERVAL - 1, cls.decisions

    @staticmethod
    def step_of(cluster):
        steps = cluster.steps("train")
        return int(steps[-1]["step"]) if steps else 0

    def wait_for_step(self, cluster, step):
        wait_for(lambda: self.step_of(cluster) >= step, f"step {step}", 120)

    def hold(self, cluster):
        cluster.moectl("job", "hold", "train")
        wait_for(lambda: cluster.state("train") == "PENDING", "the run to be held", 60)

    def go_on(self, cluster, *flags):
        """Returns the id of the job that was held."""
        held = cluster.job("train")["job_id"]
        cluster.moectl("job", "continue", "train", *flags)
        self.assertNotEqual(cluster.job("train")["job_id"], held)
        self.assertEqual(cluster.state(held), "CANCELLED")
        return held

    def check_decisions(self, cluster, exact):
        """`exact`: so many of the first ones are the golden's to the bit."""
        got = sampler_test.SamplerTest.decisions(cluster)
        self.assertEqual(len(got), len(self.decisions))
        for i, (mine, golden) in enumerate(zip(got, self.decisions)):
            for key in ("version", "step", "apply_step", "tokens", "kind", "rule", "previous_version",
                        "first_sample"):
                self.assertEqual(mine[key], golden[key])
            for a, b in zip(mine["domains"], golden["domains"]):
                self.assertEqual(a["epochs"], b["epochs"])
                for key in ("loss", "old_weight", "new_weight"):
                    if i < exact:
                        self.assertEqual(a[key], b[key])
                    self.assertAlmostEqual(a[key], b[key], delta=ROUNDING)
        self.assertIn("0 differ", cluster.moectl("sampler", "replay", "train").stdout)

    def test_run_that_goes_on_with_as_many_ranks_is_the_same_to_the_bit(self):
        with Cluster() as cluster:
            cluster.start()
            cluster.submit(job_file(cluster))
            wait_for(lambda: cluster.state("train") == "RUNNING", "the run", 120)
            self.wait_for_step(cluster, 60)
            with self.assertRaisesRegex(CommandFailed, "moectl job hold"):
                cluster.moectl("job", "continue", "train")
            self.hold(cluster)
            # A job that cannot run is refused, and the one that was held stays.
            with self.assertRaisesRegex(CommandFailed, "global_batch_samples=4 is not a multiple"):
                cluster.moectl("job", "continue", "train", "--slots", 3)
            self.assertEqual(cluster.state("train"), "PENDING")
            held = self.go_on(cluster)
            cluster.wait("train")
            steps = cluster.losses(held) + cluster.losses("train")
            self.assertEqual(steps, self.golden)
            self.check_decisions(cluster, exact=len(self.decisions))

    def test_killed_run_on_1_then_2_then_1_rank_reads_the_same_samples(self):
        """MOE_SAMPLER_KILLS kills in all, six where that is not set."""
        rng = random.Random(20261124)
        with Cluster() as cluster:
            cluster.start(slots=2)
            cluster.submit(job_file(cluster))
            jobs, begun = [], 1
            for number in range(1, JOBS + 1):
                end = 100 * number
                for kill in range(number - 1, KILLS, JOBS):
                    wait_for(lambda: cluster.state("train") == "RUNNING" and cluster.rank_pids(),
                             f"the ranks to run before kill {kill}", 120)
                    self.wait_for_step(cluster, rng.randint(begun, max(begun, end - 70)))
                    ranks = cluster.rank_pids()
                    for pid in rng.sample(ranks, rng.randint(1, len(ranks))) if ranks else []:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                if number == JOBS:
                    break
                wait_for(lambda: cluster.state("train") == "RUNNING", "the ranks to run", 120)
                self.wait_for_step(cluster, end - 40)
                self.hold(cluster)
                begun = self.step_of(cluster)
                jobs.append(self.go_on(cluster, "--slots", 1 + number % 2))
            cluster.wait("train")
            # What was computed again after a kill was read again: the same, too.
            read = {}
            for job in [*jobs, "train"]:
                for step, loss, *_, tokens_crc32c in cluster.losses(job):
                    self.assertEqual(read.setdefault(step, tokens_crc32c), tokens_crc32c)
                    self.assertAlmostEqual(loss, self.golden[step - 1][1], delta=1e-3)
            self.assertEqual(read, {step[0]: step[-1] for step in self.golden})
            self.check_decisions(cluster, exact=1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
