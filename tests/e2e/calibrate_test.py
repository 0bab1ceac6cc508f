"""A calibrated mixture through all jobs, and its exports, as a user makes them."""
import json
import pathlib
import unittest

import tiny
from cluster import Cluster
from kill_test import train_only

CALIBRATE = """
      gate_network: linear
      calibrate:
        dataset: {artefact: corpus}
        tokens: 2048
        shared_experts: 1
        active_ffn_share: 0.8"""
MORE = """
  - name: native
    export: {model: {artefact: train}, dtype: fp32, format: qwen2-moe}
  - name: whole
    export: {model: {artefact: construct}, dtype: fp32, format: llama}
  - name: published
    export: {model: {artefact: train}, dtype: fp32}
  - name: evaluate
    evaluate:
      dataset: {artefact: corpus}
      sequence_length: 32
      compute_dtype: fp32
      top_k: 3
      models:
        - {label: constructed, model: {artefact: construct}}
        - {label: whole, model: {artefact: whole}}
"""


class CalibrateTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        try:
            model = tiny.write_model(cls.cluster.root / "dense")
            corpus = tiny.write_corpus(cls.cluster.root / "corpus")
            cls.text = train_only(tiny.pipeline(model, corpus, steps=4))
            cls.text = cls.text.replace("      top_k: 2\n", f"      top_k: 2{CALIBRATE}\n") + MORE
            cls.cluster.start()
            cls.cluster.submit(cls.text, "--wait")
        except BaseException as error:
            cls.cluster.__exit__(type(error), error, None)
            raise

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    def config(self, artefact):
        return json.loads((pathlib.Path(self.cluster.artefact(artefact)["path"]) / "config.json").read_text())

    def test_construct_reports_what_it_chose_and_where_the_model_starts(self):
        calibration = self.cluster.artefact("construct")["metadata"]["calibration"]
        dense = [layer["stays_dense"] for layer in calibration["layers"]]
        self.assertEqual(sum(dense), 1, "0.8 leaves one of two layers dense beside one at 2/4")
        most = max(range(len(dense)), key=lambda i: calibration["layers"][i]["sensitivity"])
        self.assertTrue(dense[most])
        self.assertLess(abs(calibration["loss"] - calibration["dense_loss"]), 0.2)

    def test_training_keeps_the_shape(self):
        config = self.config("published")
        self.assertEqual(config["model_type"], "llama_moe_extended")
        self.assertEqual((config["num_experts"], config["num_selects"]), (3, 1))
        self.assertEqual(config["shared_expert_width"], tiny.WIDTH // 4)
        self.assertEqual(len(config["dense_layers"]), 1)

    def test_exports_are_what_other_programs_know(self):
        self.assertEqual(self.config("native")["architectures"], ["Qwen2MoeForCausalLM"])
        self.assertEqual(self.config("whole")["architectures"], ["LlamaForCausalLM"])

    def test_a_format_that_cannot_hold_the_model_says_what_to_do(self):
        text = """pipeline: bad
jobs:
  - name: bad
    export: {model: {artefact: train}, format: mixtral}
"""
        self.cluster.submit(text)
        job = self.cluster.wait("bad", "FAILED", timeout_s=60)
        self.assertIn("use qwen2-moe", json.dumps(job))


if __name__ == "__main__":
    unittest.main()
