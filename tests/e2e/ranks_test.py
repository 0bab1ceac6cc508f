"""Two ranks over Gloo: the same batches, and the losses of one rank within a stated tolerance."""
import unittest

import tiny
from cluster import Cluster, wait_for
from kill_test import train_only

# Relative. The two differ only in the order in which micro-batch gradients are added.
FP32_TOLERANCE = 2e-5


class RanksTest(unittest.TestCase):
    def run_with(self, slots, disturb=False):
        with Cluster() as cluster:
            model = tiny.write_model(cluster.root / "dense")
            corpus = tiny.write_corpus(cluster.root / "corpus")
            cluster.start(slots=slots)
            cluster.submit(train_only(tiny.pipeline(model, corpus, steps=12, interval=4, slots=slots)))
            if disturb:
                wait_for(lambda: len(cluster.steps("train")) >= 6, "six steps", 90)
                import os
                import signal
                os.kill(cluster.rank_pids()[0], signal.SIGKILL)
            job = cluster.wait("train")
            return cluster.steps("train"), job["attempt"]

    def test_two_ranks_equal_one_and_resume_exactly(self):
        one, _ = self.run_with(1)
        two, _ = self.run_with(2)
        self.assertEqual([s["batch_crc32c"] for s in one], [s["batch_crc32c"] for s in two])
        self.assertEqual([s["domains"] for s in one][-1][0]["samples"], [s["domains"] for s in two][-1][0]["samples"])
        for a, b in zip(one, two):
            self.assertLess(abs(a["loss"] - b["loss"]), FP32_TOLERANCE * a["loss"], f"step {a['step']}")
            self.assertEqual(sum(int(n) for n in a["routing"][0]["load"]),
                             sum(int(n) for n in b["routing"][0]["load"]))
        killed, attempts = self.run_with(2, disturb=True)
        self.assertEqual(attempts, 2)
        self.assertEqual([(s["loss"], s["gradient_norm"]) for s in killed],
                         [(s["loss"], s["gradient_norm"]) for s in two])


if __name__ == "__main__":
    unittest.main(verbosity=2)
