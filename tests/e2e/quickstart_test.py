"""The newcomer's one command, deploy/quickstart.sh, on the real model, with a single training step."""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

from cluster import BIN, SOURCE

# What the script needs, relative to MOE_PORT.
PORT_OFFSETS = (0, 1, 2, 20)


def free_ports():
    """A MOE_PORT whose ports are all free."""
    for base in range(21000, 30000, 32):
        try:
            for offset in PORT_OFFSETS:
                with socket.socket() as s:
                    s.bind(("127.0.0.1", base + offset))
            return base
        except OSError:
            continue
    raise AssertionError("no free ports between 21000 and 30000")


def mean_losses(output):
    """{"dense": 2.7, ...} from the table that the quickstart ends with."""
    header = next(line for line in output.splitlines() if re.search(r"\bdense\b.*\btrained\b", line))
    labels = [word for word in header.split() if word in ("dense", "constructed", "trained")]
    row = next(line for line in output.splitlines() if line.split()[:1] == ["mean"])
    return dict(zip(labels, map(float, re.findall(r"\d+\.\d+", row))))


class QuickstartTest(unittest.TestCase):
    def setUp(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="moe-e2e-"))
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        self.port = free_ports()

    def script(self, *args):
        return subprocess.run(
            [SOURCE / "deploy/quickstart.sh", *args], text=True, capture_output=True,
            env={**os.environ, "MOE_HOME": str(self.home / "moe"), "MOE_PORT": str(self.port),
                 "MOE_PRESET": BIN.parent.name})

    def test_one_command_gives_a_table_and_the_others_undo_it(self):
        self.addCleanup(self.script, "--clean")
        run = self.script("--set", "steps=1", "--set", "heldout_samples=1")
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        losses = mean_losses(run.stdout)
        self.assertLess(losses["dense"], 4, run.stdout)
        self.assertLess(losses["dense"], losses["constructed"], run.stdout)
        self.assertIn("quickstart.sh --stop", run.stdout)

        self.assertEqual(self.script("--status").returncode, 0)
        again = self.script("--up")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertNotIn("is up on port", again.stderr)  # what runs is left running

        self.assertEqual(self.script("--stop").returncode, 0)
        stopped = self.script("--status")
        self.assertEqual(stopped.returncode, 1)
        self.assertEqual(stopped.stdout.count("not running"), 3, stopped.stdout)
        self.assertTrue((self.home / "moe/artefacts").is_dir())
        self.assertEqual(self.script("--clean").returncode, 0)
        self.assertFalse((self.home / "moe").exists())

    def test_a_port_in_use_is_named_with_the_way_out(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", self.port + 20))
            other.listen()
            run = self.script("--up")
        self.addCleanup(self.script, "--clean")
        self.assertEqual(run.returncode, 1)
        self.assertIn(f"port {self.port + 20} is in use", run.stderr)
        self.assertIn("MOE_PORT=", run.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
