"""A checkpoint that the disk does not give back as it was written: the run goes on from the one before."""
import pathlib
import unittest

import tiny
from cluster import Cluster, wait_for
from kill_test import train_only

STEPS, INTERVAL = 400, 100


def damage(folder):
    """One bit of the state's last number."""
    state = next(pathlib.Path(folder).glob("state-*.safetensors"))
    with open(state, "r+b") as file:
        file.seek(-1, 2)
        byte = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([byte ^ 1]))


class DamagedCheckpointTest(unittest.TestCase):
    def run_with(self, num_damaged):
        """(job, its description, losses, step of the older checkpoint) of a run that was held after
        its second checkpoint, while the newest `num_damaged` were damaged; 0: of one that was not."""
        with Cluster() as cluster:
            model = tiny.write_model(cluster.root / "dense")
            corpus = tiny.write_corpus(cluster.root / "corpus")
            cluster.start()
            cluster.submit(train_only(tiny.pipeline(model, corpus, steps=STEPS, interval=INTERVAL)))
            wait_for(lambda: len(cluster.steps("train")) > 2 * INTERVAL, "two checkpoints", 90)
            wait_for(lambda: int(cluster.artefact("train")["step"]) >= 2 * INTERVAL,
                     "the second to be catalogued", 60)
            older = None
            if num_damaged:
                cluster.moectl("job", "hold", "train")
                wait_for(lambda: cluster.state("train") == "PENDING", "the job to be held", 60)
                # The newest is that of the hold.
                folder = pathlib.Path(cluster.artefact("train")["path"]).parent
                newest = sorted(folder.iterdir(), reverse=True)
                self.assertEqual(len(newest), 2, newest)
                older = int(newest[1].name.removeprefix("step-"))
                for checkpoint in newest[:num_damaged]:
                    damage(checkpoint)
                cluster.moectl("job", "release", "train")
            job = cluster.wait("train")
            events = cluster.moectl("job", "describe", "train").stdout
            return job, events, cluster.losses("train"), older

    def test_the_run_goes_on_from_the_one_before_and_says_so(self):
        _, _, golden, _ = self.run_with(0)
        self.assertEqual([step[0] for step in golden], list(range(1, STEPS + 1)))
        job, events, losses, older = self.run_with(1)
        self.assertEqual(job["attempt"], 3)
        self.assertEqual(job["infrastructure_failures"], 1)
        self.assertIn("DAMAGED_CHECKPOINT", events)
        self.assertIn(f"goes on from step {older} ", events)
        self.assertEqual(losses, golden)
        # None is left: from the start.
        job, events, losses, _ = self.run_with(2)
        self.assertEqual(job["attempt"], 4)
        self.assertIn("the job starts over", events)
        self.assertEqual(losses, golden)


if __name__ == "__main__":
    unittest.main(verbosity=2)
