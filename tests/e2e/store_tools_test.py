"""moe-coordinator fsck, backup, restore and compact, on the store of a cluster that has worked."""
import pathlib
import random
import re
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))

from cluster import BIN  # noqa: E402
from control_cluster import NoopCluster  # noqa: E402


class StoreToolsTest(unittest.TestCase):
    def setUp(self):
        self.cluster = NoopCluster()
        self.addCleanup(self.cluster.__exit__, None, None, None)
        self.data = self.cluster.root / "coordinator"
        self.store = self.data / "store"
        self.backups = self.cluster.root / "backups"

    def tool(self, command, *flags, check=True):
        words = [str(w) for w in (BIN / "moe-coordinator", command, "--data-dir", self.data, *flags)]
        result = subprocess.run(words, capture_output=True, text=True, timeout=120)
        if check:
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result

    def work(self, jobs, prefix):
        self.cluster.run_load("submit", 2, jobs, prefix, self.cluster.tokenizer, self.cluster.text)
        self.cluster.wait_all_ended()
        return self.cluster.jobs()

    def stop(self):
        self.cluster.kill("coordinator")

    def damage(self):
        """As a disk does it: a block of every table and of the list of files is something else."""
        for path in [*self.store.glob("*.sst"), *self.store.glob("MANIFEST-*")]:
            with open(path, "r+b") as file:
                file.seek(8)
                file.write(b"\xff" * 32)

    def test_store_that_was_damaged_is_found_and_brought_back(self):
        self.cluster.start(slots=4)
        before = self.work(20, "a")
        self.stop()
        self.assertIn("nothing is wrong", self.tool("fsck", "--artefacts").stdout)
        self.tool("backup", "--to", self.backups)
        self.cluster.start_coordinator()
        after = self.work(10, "b")
        self.stop()
        self.assertIn("MiB", self.tool("compact").stdout)

        self.damage()
        broken = self.tool("fsck", check=False)
        self.assertEqual(broken.returncode, 1)
        self.assertIn("restore a backup", broken.stdout)
        refused = self.tool("backup", "--to", self.backups, check=False)
        self.assertEqual(refused.returncode, 1, "a damaged store must not push out good backups")

        restored = self.tool("restore", "--from", self.backups)
        self.assertIn("job numbers are left out", restored.stdout)
        self.assertIn("nothing is wrong", self.tool("fsck", "--artefacts").stdout)
        self.cluster.start_coordinator()
        self.assertEqual(self.cluster.jobs(), before)
        # What the store does not know any more is kept, and its names are free.
        aside = list(self.cluster.artefacts.glob("set-aside-*/dataset/*"))
        self.assertEqual(len(aside), len(after) - len(before))
        again = self.work(5, "c")
        new_ids = set(again) - set(before)
        self.assertFalse(new_ids & set(after), "an id was given twice")

    def test_folder_of_an_artefact_that_has_gone_is_found(self):
        self.cluster.start(slots=2)
        self.work(2, "a")
        self.stop()
        victim = next(self.cluster.artefacts.glob("dataset/*"))
        victim.rename(self.cluster.root / "gone")
        self.assertIn("nothing is wrong", self.tool("fsck").stdout)
        found = self.tool("fsck", "--artefacts", check=False)
        self.assertEqual(found.returncode, 1)
        self.assertIn("is not a complete artefact", found.stdout)

    def test_running_coordinator_keeps_its_store_for_itself(self):
        self.cluster.artefacts.mkdir()
        self.cluster.start_coordinator()
        self.backups.mkdir()
        for command in (["fsck"], ["compact"]):
            refused = self.tool(*command, check=False)
            self.assertEqual(refused.returncode, 1, command)
            self.assertIn("in use by another process", refused.stderr)

    def test_coordinator_that_works_is_backed_up(self):
        self.cluster.start(slots=4)
        before = self.work(20, "a")
        load = self.cluster.submit_load(2, 200, "b")
        done = self.tool("backup", "--to", self.backups).stdout
        self.assertIn("backup 1 of", done)
        load.communicate(timeout=120)
        self.cluster.wait_all_ended()
        audit = self.cluster.moectl("audit", "export").stdout
        self.assertIn("moe-coordinator backup", audit)
        refused = self.tool("backup", "--to", "/proc/no-such-folder", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("/proc/no-such-folder", refused.stderr)
        self.stop()
        # Of what was acknowledged before the backup nothing is missing.
        self.tool("restore", "--from", self.backups)
        self.assertIn("nothing is wrong", self.tool("fsck").stdout)
        self.cluster.start_coordinator()
        restored = self.cluster.jobs()
        self.assertEqual({job: restored.get(job) for job in before}, before)

    def test_missing_flags_and_folders(self):
        self.assertEqual(self.tool("backup", check=False).returncode, 2)
        nothing = self.tool("fsck", check=False)
        self.assertEqual(nothing.returncode, 1)
        self.assertIn("there is no store", nothing.stderr)
        nothing = self.tool("restore", "--from", self.backups, check=False)
        self.assertIn("holds no backups", nothing.stderr)

    def test_kill_in_the_middle_leaves_the_old_or_the_new(self):
        rng = random.Random(20261124)
        self.cluster.artefacts.mkdir()
        self.cluster.start_coordinator()
        self.cluster.run_load("submit", 4, 300, "a", self.cluster.tokenizer, self.cluster.text)
        self.stop()
        self.tool("backup", "--to", self.backups)
        start = time.monotonic()
        self.tool("backup", "--to", self.backups)
        seconds = time.monotonic() - start
        for command in (["backup", "--to", self.backups], ["restore", "--from", self.backups]):
            for _ in range(8):
                process = subprocess.Popen(
                    [str(w) for w in (BIN / "moe-coordinator", *command, "--data-dir", self.data)],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                # The random moment is the point of the test; nothing waits for a state here.
                time.sleep(rng.uniform(0, seconds))
                process.kill()
                process.wait()
                self.assertIn("nothing is wrong", self.tool("fsck").stdout)
                self.assertTrue(re.search("backup [0-9]+ of", self.tool(
                    "restore", "--from", self.backups, "--list").stdout))
        self.tool("restore", "--from", self.backups)
        self.cluster.start_coordinator()
        self.assertEqual(len(self.cluster.jobs()), 300)


if __name__ == "__main__":
    unittest.main(verbosity=2)
