"""A coordinator whose disk fills up says so and ends, and once there is room nothing acknowledged is missing.

Its data directory is a small file system of its own, in a mount namespace of its own.
"""
import json
import shutil
import subprocess
import unittest

import tiny
from cluster import BIN, Cluster, wait_for

# Room for some submissions; then, for what comes after the coordinator's end, enough.
SMALL, ROOMY = "1m", "64m"
RUN = f"""mount -t tmpfs -o size={SMALL} none "$1" || exit 77
shift
setpriv --pdeathsig KILL "$@"
echo "THE COORDINATOR ENDED WITH $?"
while [ ! -e "$0" ]; do sleep 0.1; done
mount -o remount,size={ROOMY} none "$DATA"
exec "$@"
"""


def can_mount():
    return shutil.which("unshare") is not None and shutil.which("setpriv") is not None and subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "none", "/mnt"],
        capture_output=True).returncode == 0


class FullDiskCluster(Cluster):
    def start_coordinator(self, *flags):
        data = self.root / "coordinator"
        data.mkdir(exist_ok=True)
        self.spawn("coordinator", [
            "unshare", "-rm", "sh", "-c", RUN, self.root / "room", data,
            BIN / "moe-coordinator", "--listen", f"127.0.0.1:{self.port}", "--metrics-listen", "",
            "--data-dir", data, "--artefact-root", self.artefacts, *flags], env={"DATA": str(data)})
        wait_for(lambda: self.alive("coordinator") and self.answers(self.port), "the coordinator")


@unittest.skipUnless(can_mount(), "this user cannot mount a file system in a namespace of its own")
class FullDiskTest(unittest.TestCase):
    def test_full_disk_is_reported_and_nothing_acknowledged_is_lost(self):
        with FullDiskCluster() as cluster:
            cluster.artefacts.mkdir()
            cluster.start_coordinator()
            model = tiny.write_model(cluster.root / "model")
            path = cluster.root / "jobs.yaml"
            acknowledged = []
            for round_ in range(100):
                jobs = "".join(f"  - name: job-{round_}-{i}\n    construct: {{model: {{path: {model}}}, "
                               "method: independent-random, num_experts: 4, top_k: 2}\n" for i in range(40))
                path.write_text(f"pipeline: p{round_}\njobs:\n{jobs}")
                answer = cluster.moectl("--timeout", "10s", "job", "submit", "-f", path, "-o", "json",
                                        check=False)
                if answer.returncode != 0:
                    break
                jobs = json.loads(answer.stdout)["jobs"]
                acknowledged += [jobs[0]["job_id"], jobs[-1]["job_id"]]
            self.assertGreater(len(acknowledged), 0)
            wait_for(lambda: "THE COORDINATOR ENDED WITH" in cluster.log("coordinator"), "its end")
            log = cluster.log("coordinator")
            self.assertIn("THE COORDINATOR ENDED WITH 1\n", log)
            self.assertIn("free space on the disk of the data directory", log)
            self.assertNotIn("Assertion", log)

            (cluster.root / "room").touch()
            wait_for(lambda: cluster.answers(cluster.port), "the coordinator to come back")
            for job in acknowledged:
                self.assertEqual(cluster.job(job)["job_id"], job)
            cluster.moectl("job", "submit", "-f", path)


if __name__ == "__main__":
    unittest.main(verbosity=2)
