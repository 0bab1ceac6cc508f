"""Every construction method, from a job file to a model that is evaluated, and what is refused."""
import json
import unittest

import tiny
from cluster import SOURCE, Cluster, wait_for

TEXT = "importance: {dataset: {artefact: corpus}, samples_per_group: 4, sequence_length: 32}"
# Name, settings, and a part of the summary of the job.
METHODS = [
    ("clustering", "method: independent-clustering\n      num_experts: 8\n      top_k: 2\n"
     "      gate_init: centres\n      clustering: {restarts: 2, metric: cosine}", "8 experts of width 16"),
    ("importance", f"method: independent-importance\n      num_experts: 7\n      top_k: 2\n      {TEXT}",
     None),  # 7 does not divide 128
    ("greedy", f"method: independent-importance\n      num_experts: 8\n      top_k: 2\n      {TEXT}",
     "8 experts of width 16"),
    ("graph", f"method: coactivation-graph\n      num_experts: 4\n      top_k: 1\n      {TEXT}",
     "4 experts of width 32"),
    ("inner", "method: sharing-inner\n      num_experts: 7\n      top_k: 2\n      expert_width: 24\n"
     f"      {TEXT[:-1]}, groups: domain}}", "7 experts of width 24"),
    ("inter", "method: sharing-inter\n      num_experts: 14\n      num_shared_experts: 2\n      top_k: 2\n"
     f"      layers: [1]\n      {TEXT}", "14 experts of width 8, top-2, a shared one of width 16"),
    ("apart", "method: sharing-inter\n      num_experts: 7\n      num_shared_experts: 1\n      top_k: 1\n"
     f"      overlap: false\n      {TEXT}", "7 experts of width 16, top-1, a shared one of width 16"),
    ("switch", "method: independent-random\n      num_experts: 8\n      gate: switch\n"
     "      capacity_factor: 1.25", "8 experts of width 16, top-1"),
    ("pruned", "method: prune-random\n      retain: 0.25", "FFN width 32"),
    ("kept", f"method: prune-importance\n      retain: 0.5\n      {TEXT}", "FFN width 64"),
]


def jobs(model, corpus, methods):
    text = tiny.pipeline(model, corpus).split("  - name: construct")[0]
    for name, settings, _ in methods:
        text += f"  - name: {name}\n    construct:\n      model: {{path: {model}}}\n      {settings}\n"
    return text


class ConstructTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.model = tiny.write_model(cls.cluster.root / "dense")
        cls.corpus = tiny.write_corpus(cls.cluster.root / "corpus")
        cls.cluster.start()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    def test_every_method_makes_a_model_that_evaluates(self):
        methods = [m for m in METHODS if m[2] is not None]
        text = jobs(self.model, self.corpus, methods)
        models = "".join(f"        - {{label: {m[0]}, model: {{artefact: {m[0]}}}}}\n" for m in methods)
        text += ("  - name: evaluate\n    evaluate:\n      dataset: {artefact: corpus}\n      sequence_length: 32\n"
                 f"      compute_dtype: fp32\n      models:\n        - {{label: dense, model: {{path: {self.model}}}}}\n"
                 + models)
        submitted = self.cluster.submit(text, "-o", "json")
        ids = {job["spec"]["name"]: job["job_id"] for job in json.loads(submitted.stdout)["jobs"]}
        self.cluster.wait(ids["evaluate"])
        for name, _, summary in methods:
            page = self.cluster.moectl("job", "describe", ids[name]).stdout
            self.assertIn(summary, page)
            for column in ("OVERLAP", "UNUSED", "IMPORTANCE", "SCALE"):
                self.assertIn(column, page)
        table = self.cluster.moectl("job", "describe", ids["evaluate"]).stdout
        for name, _, _ in methods:
            self.assertIn(name, table)

    def test_the_example_compares_all_methods(self):
        text = jobs(self.model, self.corpus, [])
        self.cluster.submit(text, "--wait")
        self.cluster.submit((SOURCE / "examples/construction-methods.yaml").read_text(), "--wait",
                            "--set", f"checkpoint={self.model}", "--set", "length=32")
        rows = self.cluster.artefact("compare")["metadata"]["table"]
        labels = [title.removesuffix(" loss") for title in rows[0][1::2]]
        self.assertEqual(labels, ["dense", "random", "calibrated", "clustering", "greedy", "coactivation",
                                  "inner", "inter", "pruned"])

    def test_killed_rank_makes_the_same_model_again(self):
        name, settings, summary = next(m for m in METHODS if m[0] == "inter")
        # Enough samples that the kill comes in the middle.
        method = (name, settings.replace("samples_per_group: 4", "samples_per_group: 64"), summary)
        files = []
        for disturb in (False, True):
            text = jobs(self.model, self.corpus, [method]).replace("pipeline: tiny", f"pipeline: tiny{disturb}")
            submitted = self.cluster.submit(text, "-o", "json")
            ids = {job["spec"]["name"]: job["job_id"] for job in json.loads(submitted.stdout)["jobs"]}
            if disturb:
                wait_for(lambda: self.cluster.state(ids["inter"]) == "RUNNING" and self.cluster.rank_pids(),
                         "the rank that constructs", 60)
                self.cluster.kill_ranks()
            job = self.cluster.wait(ids["inter"])
            self.assertEqual(job["attempt"], 2 if disturb else 1)
            path = self.cluster.artefact(job["outputs"][0])["path"]
            files.append((self.cluster.root / path / "model.safetensors").read_bytes())
        self.assertEqual(files[0], files[1])

    def test_experts_that_do_not_divide_are_refused(self):
        method = next(m for m in METHODS if m[0] == "importance")
        result = self.cluster.submit(jobs(self.model, self.corpus, [method]), check=False)
        self.assertNotEqual(result.returncode, 0)
        for word in ("importance", "num_experts=7", "128", "2, 4, 8"):
            self.assertIn(word, result.stderr)

    def switch_pipeline(self, **settings):
        return tiny.pipeline(self.model, self.corpus, **settings).replace(
            "independent-random", "independent-random\n      gate: switch\n      capacity_factor: 1.25")

    def test_switch_gate_with_two_experts_is_refused(self):
        result = self.cluster.submit(self.switch_pipeline(top_k=2), check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("top_k=2 and gate=switch sends a token to one expert", result.stderr)

    def test_killed_training_of_a_switch_gate_ends_with_the_same_weights(self):
        files = []
        for disturb in (False, True):
            text = self.switch_pipeline(top_k=1, steps=30, name=f"switch-{disturb}".lower())
            submitted = self.cluster.submit(text, "-o", "json")
            ids = {job["spec"]["name"]: job["job_id"] for job in json.loads(submitted.stdout)["jobs"]}
            if disturb:
                wait_for(lambda: self.cluster.state(ids["train"]) == "RUNNING" and self.cluster.rank_pids(),
                         "the rank that trains", 60)
                self.cluster.kill_ranks()
            job = self.cluster.wait(ids["export"])
            path = self.cluster.artefact(job["outputs"][0])["path"]
            files.append((self.cluster.root / path / "model.safetensors").read_bytes())
        config = json.loads((self.cluster.root / path / "config.json").read_text())
        self.assertEqual((config["gate_type"], config["capacity_factor"]), ("SwitchBalancedGate", 1.25))
        self.assertEqual(files[0], files[1])

    def test_importance_without_text_is_refused(self):
        method = ("bare", "method: sharing-inner", None)
        result = self.cluster.submit(jobs(self.model, self.corpus, [method]), check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("importance.dataset is missing", result.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
