"""The whole way on a tiny model: five jobs, every moectl command, real Prometheus, live dashboards."""
import contextlib
import json
import pathlib
import re
import shutil
import signal
import subprocess
import unittest
import urllib.error
import urllib.parse
import urllib.request

import tiny
from cluster import BIN, SOURCE, Cluster, free_port, wait_for
from kill_test import train_only


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def ready(port):
    try:
        return get(f"http://127.0.0.1:{port}/-/ready")
    except urllib.error.URLError:
        return None


REFERENCE = json.dumps({domain: 5.0 for domain in tiny.DOMAINS})


class PipelineTest(unittest.TestCase):
    """One cluster for the class: the pipeline has run when the first test starts."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        try:
            cls.model = tiny.write_model(cls.cluster.root / "dense")
            cls.corpus = tiny.write_corpus(cls.cluster.root / "corpus")
            cls.cluster.start()
            cls.start_prometheus()
            cls.submitted = cls.cluster.submit(tiny.pipeline(cls.model, cls.corpus, steps=20, interval=8),
                                               "--wait")
            jobs = json.loads(cls.cluster.moectl("job", "list", "-o", "json").stdout)["jobs"]
            cls.ids = {j["spec"]["name"]: j["job_id"] for j in jobs}
        except BaseException as error:
            cls.cluster.__exit__(type(error), error, None)
            raise

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    @classmethod
    def start_prometheus(cls):
        folder = cls.cluster.root / "prometheus"
        folder.mkdir()
        for name in ("prometheus.yml", "rules.yml"):
            shutil.copy(SOURCE / "deploy/prometheus" / name, folder)
        config = (folder / "prometheus.yml").read_text()
        (folder / "prometheus.yml").write_text(re.sub(r"scrape_interval: \w+", "scrape_interval: 1s", config))
        (folder / "targets.json").write_text(json.dumps([
            {"targets": [f"127.0.0.1:{cls.cluster.metrics_port}"], "labels": {"component": "coordinator"}},
            {"targets": [f"127.0.0.1:{cls.cluster.worker_metrics_port}"], "labels": {"component": "worker"}}]))
        cls.prometheus_port = free_port()
        cls.cluster.spawn("prometheus", [
            "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{cls.prometheus_port}", "--log.level=warn"])
        wait_for(lambda: cls.cluster.alive("prometheus") and ready(cls.prometheus_port), "Prometheus")
        # A rate needs a scrape from before what it counts.
        wait_for(lambda: len(cls.query("up == 1")) == 2, "the first scrape of both daemons")

    @classmethod
    def query(cls, expression):
        url = f"http://127.0.0.1:{cls.prometheus_port}/api/v1/query?" + urllib.parse.urlencode(
            {"query": expression})
        answer = json.loads(get(url))
        assert answer["status"] == "success", answer
        return [s for s in answer["data"]["result"] if "values" in s or s["value"][1] != "NaN"]

    @contextlib.contextmanager
    def long_run(self, name):
        """A training job that runs until the block ends; gives its id."""
        text = tiny.pipeline(self.model, self.corpus, steps=100_000, interval=200, name=name)
        text = train_only(text).replace("- name: train", f"- name: {name}")
        text += f"      mixture: {{dynamic: {{interval_steps: 20, reference_losses: {REFERENCE}}}}}\n"
        submitted = json.loads(self.cluster.submit(text, "-o", "json").stdout)["jobs"]
        train = next(j["job_id"] for j in submitted if j["spec"]["name"] == name)
        try:
            yield train
        finally:
            self.cluster.moectl("job", "cancel", train)
            self.cluster.wait(train, "CANCELLED", timeout_s=30)

    def test_all_jobs_succeed_and_are_listed(self):
        jobs = json.loads(self.cluster.moectl("job", "list", "-o", "json").stdout)["jobs"]
        states = {j["job_id"]: j["state"] for j in jobs if j["job_id"] in self.ids.values()}
        self.assertEqual(set(self.ids), {"corpus", "construct", "train", "evaluate", "export"})
        self.assertEqual(set(states.values()), {"JOB_STATE_SUCCEEDED"})

    def test_loss_falls(self):
        steps = self.cluster.steps(self.ids["train"])
        self.assertEqual([int(s["step"]) for s in steps], list(range(1, 21)))
        self.assertLess(steps[-1]["loss"], steps[0]["loss"] - 0.05)
        for step in steps:
            self.assertEqual(len(step["routing"]), tiny.LAYERS)
            for layer in step["routing"]:
                # 4 samples of 32 tokens, two experts each.
                self.assertEqual(sum(int(n) for n in layer["load"]), 4 * 32 * 2)

    def test_evaluation_table_compares_three_models(self):
        text = self.cluster.moectl("job", "describe", self.ids["evaluate"]).stdout
        for word in ["dense", "constructed", "trained", *tiny.DOMAINS]:
            self.assertIn(word, text)
        rows = self.cluster.artefact("evaluate")["metadata"]["table"]
        self.assertGreaterEqual(len(rows), len(tiny.DOMAINS))

    def test_export_is_a_hugging_face_folder(self):
        artefact = self.cluster.artefact("export")
        folder = pathlib.Path(artefact["path"])
        config = json.loads((folder / "config.json").read_text())
        self.assertEqual(config["model_type"], "llama_moe")
        self.assertEqual((config["num_experts"], config["num_selects"]), (4, 2))
        raw = (folder / "model.safetensors").read_bytes()
        header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
        self.assertEqual(header["model.layers.1.mlp.calculator.experts.weight_gate.3"]["shape"],
                         [tiny.WIDTH // 4, tiny.HIDDEN])
        self.assertTrue((folder / "tokenizer.json").exists())

    def test_logs_events_and_workers_are_shown(self):
        self.assertTrue(self.cluster.moectl("job", "logs", self.ids["train"]).stdout)
        events = self.cluster.moectl("job", "events", self.ids["train"]).stdout
        self.assertIn("RUNNING", events)
        self.assertIn("w1", self.cluster.moectl("worker", "list").stdout)
        self.assertIn("export", self.cluster.moectl("artefact", "list").stdout)

    def test_old_checkpoints_are_removed(self):
        checkpoints = json.loads(self.cluster.moectl("artefact", "list", "-o", "json").stdout)["artefacts"]
        steps = sorted(int(a["step"]) for a in checkpoints
                       if a["kind"] == "ARTEFACT_KIND_CHECKPOINT" and a["job_id"] == self.ids["train"])
        self.assertEqual(steps, [16, 20])  # 8 was the third newest, and two are kept
        on_disk = sorted(p.name for p in self.cluster.artefacts.glob(
            f"checkpoint/{self.ids['train']}.1/step-*"))
        self.assertEqual(on_disk, ["step-00000016", "step-00000020"])

    def test_prometheus_has_the_loss_curve_and_every_panel_has_data(self):
        lines = subprocess.run(["python3", SOURCE / "tests/lint/dashboards.py", "--queries"],
                               capture_output=True, text=True, check=True).stdout.splitlines()
        self.assertGreater(len(lines), 15)
        with self.long_run("shown") as train:
            wait_for(lambda: self.cluster.steps(train), "the first step", timeout_s=60)

            def curve():
                points = self.query('moe_train_loss{job_name="shown"}[1m]')
                values = [float(value) for series in points for _, value in series["values"]]
                return len(values) >= 3 and values
            losses = wait_for(curve, "three points of the loss curve in Prometheus")
            self.assertGreater(len(set(losses)), 1, "the curve must move")
            known = [s["loss"] for s in self.cluster.steps(train)]
            # The client library prints 16 digits.
            for loss in losses:
                self.assertLess(min(abs(loss - k) for k in known), 1e-12)
            for line in lines:
                dashboard, panel, query = line.split("\t")
                with self.subTest(dashboard=dashboard, panel=panel):
                    wait_for(lambda q=query: self.query(q), f"data for {query}", timeout_s=30, every_s=0.2)
        self.assertEqual({s["value"][1] for s in self.query("up")}, {"1"})

    def test_metrics_pages_pass_promtool(self):
        for port in (self.cluster.metrics_port, self.cluster.worker_metrics_port):
            page = get(f"http://127.0.0.1:{port}/metrics")
            result = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
            self.assertEqual((result.returncode, result.stdout + result.stderr), (0, ""))

    def test_same_request_id_is_one_pipeline(self):
        text = tiny.pipeline(self.model, self.corpus, steps=1, name="twice").split("  - name: construct")[0]
        first = self.cluster.submit(text, "--request-id", "r-1", "-o", "json")
        second = self.cluster.submit(text, "--request-id", "r-1", "-o", "json")
        ids = [json.loads(r.stdout)["jobs"][0]["job_id"] for r in (first, second)]
        self.assertEqual(ids[0], ids[1])
        other = self.cluster.submit(text.replace("twice", "thrice").replace("0.2", "0.3"), "--request-id", "r-1",
                                    check=False)
        self.assertEqual(other.returncode, 1)
        self.assertIn("r-1", other.stderr)

    def test_cancel_ends_a_running_job(self):
        with self.long_run("long") as train:
            wait_for(lambda: self.cluster.steps(train), "the first step", timeout_s=60)
            self.assertTrue(self.cluster.moectl("job", "logs", train).stdout)
        wait_for(lambda: not self.cluster.rank_pids(), "the ranks to be gone", timeout_s=30)
        watched = self.cluster.moectl("job", "watch", train, check=False)
        self.assertEqual(watched.returncode, 5)

    def test_interrupted_watch_leaves_the_job_alone(self):
        with self.long_run("watched") as train:
            process = subprocess.Popen(
                [str(BIN / "moectl"), "--endpoint", f"127.0.0.1:{self.cluster.port}", "job", "watch", train],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertTrue(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=20)
            self.assertEqual(process.returncode, 130)
            self.assertIn("goes on", stderr)
            self.assertNotIn(self.cluster.state(train), ("CANCELLED", "FAILED"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
