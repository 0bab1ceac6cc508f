"""Two ranks that share out the experts: the losses of one rank that has them all, whatever happens on the way."""
import json
import os
import signal
import unittest

import tiny
from cluster import Cluster, CommandFailed, wait_for
from hung_test import pid_of_rank
from kill_test import train_only
from ranks_test import FP32_TOLERANCE

STEPS, INTERVAL = 40, 8


def shared_out(text, expert=2):
    """A pipeline whose train job has groups of `expert` ranks."""
    line = "      compute_dtype: fp32\n      optimizer:"
    assert line in text
    return text.replace(line, f"      parallel: {{expert: {expert}}}\n{line}")


class ExpertParallelTest(unittest.TestCase):
    @staticmethod
    def job(cluster, slots, expert=None):
        model = tiny.write_model(cluster.root / "dense")
        corpus = tiny.write_corpus(cluster.root / "corpus")
        text = tiny.pipeline(model, corpus, steps=STEPS, interval=INTERVAL, slots=slots, global_batch=8)
        # Steps that take longer than a look at them, and slow learning: what ranks round otherwise does
        # not grow into other routes.
        for old, new in [("sequence_length: 32", "sequence_length: 128"),
                         ("learning_rate: 0.002", "learning_rate: 0.00001")]:
            assert old in text, old
            text = text.replace(old, new)
        return text if expert is None else shared_out(text, expert)

    @classmethod
    def setUpClass(cls):
        with Cluster() as cluster:
            text = cls.job(cluster, slots=1)
            cluster.start()
            cluster.submit(text, "--wait")
            cls.golden = cluster.steps("train")
            cls.evaluated = cls.losses_of_trained(cluster)
        with Cluster() as cluster:
            text = cls.job(cluster, slots=2, expert=2)
            cluster.start(slots=2)
            cluster.submit(text, "--wait")
            cls.shared = cluster.steps("train")
            cls.undisturbed = cluster.losses("train")
            cls.evaluated_shared = cls.losses_of_trained(cluster)

    @staticmethod
    def losses_of_trained(cluster):
        """Domain to held-out loss of the last checkpoint, as an evaluate job reads it."""
        [model] = [m for m in cluster.artefact("evaluate")["metadata"]["losses"] if m["label"] == "trained"]
        return model["domains"]

    def assert_golden(self, steps, golden=None):
        golden = golden or self.golden
        self.assertEqual([s["batch_crc32c"] for s in steps], [s["batch_crc32c"] for s in golden])
        for a, b in zip(golden, steps, strict=True):
            self.assertLess(abs(a["loss"] - b["loss"]), FP32_TOLERANCE * a["loss"], f"step {a['step']}")
            self.assertEqual([sum(int(n) for n in layer["load"]) for layer in a["routing"]],
                             [sum(int(n) for n in layer["load"]) for layer in b["routing"]])

    def test_losses_are_those_of_one_rank_and_what_follows_reads_the_checkpoint(self):
        self.assert_golden(self.shared)
        self.assertEqual(self.evaluated_shared.keys(), self.evaluated.keys())
        for domain, loss in self.evaluated.items():
            self.assertAlmostEqual(self.evaluated_shared[domain], loss, delta=FP32_TOLERANCE * loss)

    def disturb(self, cluster, sig):
        """Sends rank 1 a signal after a checkpoint, and checks that the run ends as if nothing had been."""
        text = train_only(self.job(cluster, slots=2, expert=2))
        cluster.start(slots=2)
        cluster.submit(text)
        wait_for(lambda: len(cluster.steps("train")) >= INTERVAL + 2, "steps after a checkpoint", 90)
        os.kill(pid_of_rank(cluster, 1), sig)
        self.assertEqual(cluster.wait("train")["attempt"], 2)
        self.assertEqual(cluster.losses("train"), self.undisturbed)

    def test_killed_rank_resumes_exactly(self):
        with Cluster() as cluster:
            self.disturb(cluster, signal.SIGKILL)

    def test_rank_that_stands_still_is_named_and_replaced(self):
        with Cluster() as cluster:
            self.disturb(cluster, signal.SIGSTOP)
            events = json.loads(cluster.moectl("job", "events", "train", "-o", "json").stdout)["events"]
            hung = [e["message"] for e in events if e.get("cause") == "CAUSE_HUNG"]
            self.assertTrue(hung, events)
            self.assertIn("rank 1 on w1 stands still", hung[0])

    def go_on(self, cluster, before, *flags):
        """Holds the run after `before` steps and lets a new job go on. Returns the steps until there."""
        wait_for(lambda: len(cluster.steps("train")) >= before, f"{before} steps", 90)
        cluster.moectl("job", "hold", "train")
        wait_for(lambda: cluster.state("train") == "PENDING", "the run to be held", 60)
        with self.assertRaisesRegex(CommandFailed, "parallel.expert=2 does not divide the 1 slots"):
            cluster.moectl("job", "continue", "train", "--slots", 1, "--expert-parallel", 2)
        steps = cluster.steps("train")
        cluster.moectl("job", "continue", "train", *flags)
        return steps

    def test_run_goes_on_with_other_groups(self):
        ways = [((2, 2), ("--slots", 1, "--expert-parallel", 1)),
                ((1, None), ("--slots", 2, "--expert-parallel", 2))]
        for (slots, expert), flags in ways:
            with self.subTest(flags=flags), Cluster() as cluster:
                text = train_only(self.job(cluster, slots, expert))
                cluster.start(slots=2)
                cluster.submit(text)
                steps = self.go_on(cluster, 2, *flags)
                cluster.wait("train")
                self.assert_golden(steps + cluster.steps("train"))

    def test_groups_that_cannot_be_are_refused(self):
        with Cluster() as cluster:
            cluster.start(slots=2)
            good = self.job(cluster, slots=2, expert=2)
            for text, words in [
                    (good.replace("expert: 2", "expert: 4"), "parallel.expert=4 does not divide the 2 slots of the job; use one of 1, 2"),
                    (good.replace("num_experts: 4", "num_experts: 1").replace("top_k: 2", "top_k: 1"),
                     "parallel.expert=2 does not share out the model's 1 experts")]:
                result = cluster.submit(text, check=False)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(words, result.stderr)

    def test_plan_counts_what_a_rank_holds_and_sends(self):
        def plan(cluster, text):
            path = cluster.root / "plan.yaml"
            path.write_text(train_only(text))
            out = cluster.moectl("job", "plan", "-f", path, "-o", "json").stdout
            [estimate] = json.loads(out)["estimates"]
            return {p["name"]: int(p["bytes"]) for p in estimate["memory"]}, estimate
        with Cluster() as cluster:
            cluster.start(slots=2)
            whole, _ = plan(cluster, self.job(cluster, slots=2))
            part, estimate = plan(cluster, self.job(cluster, slots=2, expert=2))
            half_of_experts = tiny.LAYERS * 3 * tiny.HIDDEN * tiny.WIDTH // 2
            self.assertEqual(whole["gradients"] - part["gradients"], 4 * half_of_experts)
            self.assertGreater(int(estimate["all_to_all_bytes_per_step"]), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
