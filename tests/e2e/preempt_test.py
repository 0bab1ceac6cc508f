"""Pre-emption, hold and release with the real trainer: slots change hands, no step is lost."""
import unittest

import tiny
from cluster import Cluster, CommandFailed, wait_for
from kill_test import train_only

STEPS = 400


class PreemptTest(unittest.TestCase):
    @staticmethod
    def job_file(cluster):
        model = tiny.write_model(cluster.root / "dense")
        corpus = tiny.write_corpus(cluster.root / "corpus")
        # The only checkpoints are the ones that a pre-emption asks for, and the last.
        return train_only(tiny.pipeline(model, corpus, steps=STEPS, interval=1000))

    def test_an_urgent_job_takes_the_slot_and_training_goes_on_where_it_was(self):
        with Cluster() as cluster:
            cluster.start()
            cluster.submit(self.job_file(cluster), "--wait")
            golden = cluster.losses("train")
        self.assertEqual(len(golden), STEPS)

        with Cluster() as cluster:
            cluster.start(coordinator_flags=["--minimum-run-seconds", "0"])
            job = self.job_file(cluster)
            cluster.submit(job)
            wait_for(lambda: len(cluster.steps("train")) >= 3, "three steps", 90)
            prepare = job[job.index("  - name:"):job.index("  - name: construct")]
            urgent = ("pipeline: urgent\njobs:\n" +
                      prepare.replace("name: corpus", "name: urgent", 1) + "    priority: 9\n")
            cluster.submit(urgent, "--wait")
            train = cluster.wait("train")
            self.assertEqual(train["preemptions"], 1, train)
            self.assertEqual(train["attempt"], 2)
            self.assertEqual(train.get("infrastructure_failures", 0), 0)
            self.assertEqual(cluster.losses("train"), golden)

            events = cluster.moectl("job", "describe", "train").stdout
            self.assertIn("pre-empted for", events)
            self.assertIn("priority 9 above 0", events)

    def test_a_held_job_waits_says_why_and_goes_on_after_its_release(self):
        with Cluster() as cluster:
            cluster.start()
            cluster.submit(self.job_file(cluster))
            wait_for(lambda: len(cluster.steps("train")) >= 3, "three steps", 90)
            held = cluster.moectl("job", "hold", "train", "--reason", "needed elsewhere").stdout
            self.assertIn("stopping held", held.lower())
            wait_for(lambda: cluster.state("train") == "PENDING", "the job to be held", 60)
            why = cluster.moectl("job", "why", "train").stdout
            self.assertIn("moectl job release", why)
            done = len(cluster.steps("train"))
            self.assertLess(done, STEPS)
            cluster.moectl("job", "release", "train")
            train = cluster.wait("train")
            self.assertEqual(train["attempt"], 2)
            self.assertEqual([s[0] for s in cluster.losses("train")], list(range(1, STEPS + 1)))
            with self.assertRaises(CommandFailed) as refused:
                cluster.moectl("job", "hold", "train")
            self.assertEqual(refused.exception.result.returncode, 1)
            self.assertIn("cannot be held", refused.exception.result.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
