"""moectl job continue: a run goes on in another job, on other slots, and stays the same run.

Undisturbed runs are the golden. A run that is held and goes on, or is killed again and again on the way
from 1 to 2 to 1 ranks, reads the very same samples and comes to the very same decisions on its mixture.
"""
import contextlib
import hashlib
import json
import os
import random
import signal
import unittest

import sampler_test
import tiny
from cluster import Cluster, CommandFailed, wait_for

KILLS = int(os.environ.get("MOE_SAMPLER_KILLS", "4"))
SEED = int(os.environ.get("MOE_SAMPLER_SEED", "20261124"))
# One job after the other, each with its share of the kills, so many steps apart.
SLOTS = [1, 2, 1]
KILLS_PER_JOB = -(-KILLS // len(SLOTS))
STEPS_PER_KILL = 16
STEPS_PER_JOB = STEPS_PER_KILL * (KILLS_PER_JOB + 2)
STEPS = STEPS_PER_JOB * len(SLOTS)
INTERVAL, CHECKPOINT_INTERVAL = 10, 6
GLOBAL_BATCH, SEQUENCE = 8, 128
COORDINATOR = ["--retry-backoff-ms", 50, "--max-retry-backoff-ms", 200]
# What losses differ by at most where another number of ranks adds them up.
ROUNDING = 2e-5


def job_file(cluster, steps=STEPS):
    mixture = {"preset": "uniform", "dynamic": {"rule": "sheared", "interval_steps": INTERVAL,
                                                "heldout_samples": 2,
                                                "reference_losses": dict.fromkeys(tiny.DOMAINS, 5.0)}}
    text = tiny.pipeline(tiny.write_model(cluster.root / "dense"),
                         tiny.write_corpus(cluster.root / "corpus"), steps=steps,
                         interval=CHECKPOINT_INTERVAL, global_batch=GLOBAL_BATCH)
    # Steps that take longer than a look at them. A schedule that does not depend on how many there will
    # be. Slow learning: what ranks round otherwise does not grow into other routes, losses and weights.
    for old, new in [("sequence_length: 32", f"sequence_length: {SEQUENCE}"),
                     ("learning_rate: 0.002", "learning_rate: 0.00001, final_learning_rate_ratio: 1"),
                     ("  - name: train\n", "  - name: train\n    max_infrastructure_retries: 1000\n")]:
        assert old in text, old
        text = text.replace(old, new)
    return sampler_test.dynamic(text, mixture)


def decisions(cluster):
    """Without what tells of attempts and of the clock."""
    return [{key: value for key, value in decision.items() if key not in ("time", "attempt")}
            for decision in sampler_test.SamplerTest.decisions(cluster)]


def sequence_hash(steps):
    """Of all token ids that the steps read, in their order."""
    return hashlib.sha256(json.dumps([[step[0], step[-1]] for step in steps]).encode()).hexdigest()[:16]


class Killer:
    """kill -9 of ranks, worker and coordinator, in an order that the seed decides."""

    def __init__(self, cluster, seed):
        self.cluster, self.rng = cluster, random.Random(seed)
        self.left, self.count = [], {"rank": 0, "worker": 0, "coordinator": 0}

    def kill(self):
        if not self.left:
            self.left = list(self.count)
            self.rng.shuffle(self.left)
        victim = self.left.pop()
        getattr(self, victim)()
        self.count[victim] += 1

    def rank(self):
        attempt, ranks = self.cluster.job("train")["attempt"], self.cluster.rank_pids()
        assert ranks, "no rank runs"
        for pid in self.rng.sample(ranks, self.rng.randint(1, len(ranks))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.cluster.job("train")["attempt"] > attempt and
                 self.cluster.state("train") == "RUNNING", f"the attempt after {attempt}", 60)

    def worker(self):
        self.cluster.kill("w1")
        self.cluster.start_worker(max(SLOTS))

    def coordinator(self):
        self.cluster.kill("coordinator")
        self.cluster.start_coordinator(*COORDINATOR)


class ContinueTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with Cluster() as cluster:
            cluster.start()
            cluster.submit(job_file(cluster), "--wait")
            cls.golden = cluster.losses("train")
            cls.decisions = decisions(cluster)
        assert [step[0] for step in cls.golden] == list(range(1, STEPS + 1)), cls.golden
        assert len(cls.decisions) == (STEPS - 1) // INTERVAL, cls.decisions

    @staticmethod
    def wait_for_step(cluster, step):
        """Until the run has done `step`; an error where it has ended by then. Returns its last one."""
        def done():
            state, steps = cluster.state("train"), cluster.steps("train")
            last = int(steps[-1]["step"]) if steps else 0
            if state in ("SUCCEEDED", "FAILED", "CANCELLED"):
                raise AssertionError(f"job train is {state} at step {last}, waiting for step {step}: "
                                     "it has too few steps for what is to happen on the way")
            return last if last >= step else None
        return wait_for(done, f"step {step}", 120)

    def hold(self, cluster):
        cluster.moectl("job", "hold", "train")
        wait_for(lambda: cluster.state("train") == "PENDING", "the run to be held", 60)

    def go_on(self, cluster, *flags):
        """Returns the id of the job before."""
        before = cluster.job("train")["job_id"]
        cluster.moectl("job", "continue", "train", *flags)
        self.assertNotEqual(cluster.job("train")["job_id"], before)
        return before

    def test_run_that_goes_on_with_as_many_ranks_is_the_same_to_the_bit(self):
        with Cluster() as cluster:
            cluster.start()
            cluster.submit(job_file(cluster))
            self.wait_for_step(cluster, CHECKPOINT_INTERVAL)
            with self.assertRaisesRegex(CommandFailed, "moectl job hold"):
                cluster.moectl("job", "continue", "train")
            self.hold(cluster)
            # A job that cannot run is refused, and the one that was held stays.
            with self.assertRaisesRegex(CommandFailed, "global_batch_samples=8 is not a multiple"):
                cluster.moectl("job", "continue", "train", "--slots", 3)
            self.assertEqual(cluster.state("train"), "PENDING")
            held = self.go_on(cluster)
            self.assertEqual(cluster.state(held), "CANCELLED")
            cluster.wait("train")
            self.assertEqual(cluster.losses(held) + cluster.losses("train"), self.golden)
            self.assertEqual(decisions(cluster), self.decisions)
            self.assertIn("0 differ", cluster.moectl("sampler", "replay", "train").stdout)

    def chain(self, cluster, on_job=lambda number: None):
        """Jobs that go on with each other's run on 1, 2 and 1 slots. Their steps and decisions."""
        cluster.start(slots=max(SLOTS), coordinator_flags=COORDINATOR)
        cluster.submit(job_file(cluster, steps=STEPS_PER_JOB))
        steps = []
        for number, slots in enumerate(SLOTS):
            if number > 0:
                self.go_on(cluster, "--slots", slots, "--steps", (number + 1) * STEPS_PER_JOB)
            on_job(number)
            cluster.wait("train")
            steps += cluster.losses("train")
        self.assertIn("0 differ", cluster.moectl("sampler", "replay", "train").stdout)
        return steps, decisions(cluster)

    def test_killed_run_on_1_then_2_then_1_rank_reads_the_same_samples(self):
        """MOE_SAMPLER_KILLS kills in all, four where that is not set, in the order of MOE_SAMPLER_SEED."""
        with Cluster() as cluster:
            undisturbed = self.chain(cluster)
        with Cluster() as cluster:
            killer = Killer(cluster, SEED)
            rng = random.Random(SEED)
            done = 0

            def kills_of(number):
                nonlocal done
                for kill in range(len(range(number, KILLS, len(SLOTS)))):
                    at = number * STEPS_PER_JOB + kill * STEPS_PER_KILL + rng.randint(1, STEPS_PER_KILL)
                    # At least one step after the kill before, so that the run has survived that.
                    done = self.wait_for_step(cluster, max(at, done + 1))
                    killer.kill()
            killed = self.chain(cluster, kills_of)
        self.assertEqual(sum(killer.count.values()), KILLS)
        self.assertEqual(sequence_hash(killed[0]), sequence_hash(undisturbed[0]))
        self.assertEqual(killed, undisturbed)
        # Nor does the number of ranks decide what is read.
        self.assertEqual(sequence_hash(killed[0]), sequence_hash(self.golden))
        self.assert_equal_but_for_rounding(killed[1], self.decisions)
        print(f"seed {SEED}: {KILLS} kills ({killer.count}), {STEPS} steps, {STEPS * GLOBAL_BATCH} samples, "
              f"{len(killed[1])} decisions; token ids {sequence_hash(killed[0])}, undisturbed "
              f"{sequence_hash(undisturbed[0])}, on one rank {sequence_hash(self.golden)}")

    def assert_equal_but_for_rounding(self, got, expected):
        self.assertEqual(len(got), len(expected))
        for mine, golden in zip(got, expected):
            self.assertEqual({k: v for k, v in mine.items() if k != "domains"},
                             {k: v for k, v in golden.items() if k != "domains"})
            for a, b in zip(mine["domains"], golden["domains"], strict=True):
                self.assertEqual((a["domain"], a["epochs"]), (b["domain"], b["epochs"]))
                for key in ("loss", "old_weight", "new_weight"):
                    self.assertAlmostEqual(a[key], b[key], delta=ROUNDING)


if __name__ == "__main__":
    unittest.main(verbosity=2)
