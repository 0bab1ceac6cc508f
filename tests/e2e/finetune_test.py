"""Instruction tuning through the front door: conversations to a dataset, a tuned model, its average."""
import json
import pathlib
import random
import unittest

import tiny
from cluster import Cluster


def write_conversations(folder, count=40, seed=3):
    """Questions about two numbers, in both common forms, and a few lines that are no conversation."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    lines = []
    for i in range(count):
        a, b = rng.randint(1, 9), rng.randint(1, 9)
        question, answer = f"What is {a} + {b}?", f"{a} + {b} is {a + b}."
        if i % 2:
            lines.append({"messages": [{"role": "system", "content": "Add."},
                                       {"role": "user", "content": question},
                                       {"role": "assistant", "content": answer}]})
        else:
            lines.append({"conversations": [{"from": "human", "value": question},
                                            {"from": "gpt", "value": answer}]})
    lines += [{"text": "no conversation"}, {"messages": [{"role": "user", "content": "Hello?"}]}]
    (folder / "chat.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def pipeline(model, corpus, chat, finetune="epochs: 2"):
    return tiny.pipeline(model, corpus, steps=2).split("  - name: evaluate")[0] + f"""
  - name: conversations
    prepare:
      tokenizer: {{path: {model}}}
      heldout_fraction: 0.2
      domains: [{{name: sums, paths: [{chat}]}}]
      conversations: {{template: vicuna, max_tokens: 128}}
  - name: tune
    finetune:
      model: {{artefact: train}}
      dataset: {{artefact: conversations}}
      {finetune}
      sequence_length: 128
      global_batch_samples: 8
      compute_dtype: fp32
      optimizer: {{learning_rate: 0.002}}
      validation: {{interval_steps: 2, heldout_samples: 4}}
      weight_average: {{decay: 0.5}}
      checkpoint: {{interval_steps: 3}}
  - name: judge
    evaluate:
      dataset: {{artefact: conversations}}
      sequence_length: 128
      compute_dtype: fp32
      models:
        - {{label: before, model: {{artefact: train}}}}
        - {{label: tuned, model: {{artefact: tune}}}}
        - {{label: average, model: {{artefact: tune}}, weights: average}}
  - name: hand-out
    export: {{model: {{artefact: tune}}, dtype: fp32, weights: average}}
"""


class FinetuneTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        try:
            cls.model = tiny.write_model(cls.cluster.root / "dense")
            cls.corpus = tiny.write_corpus(cls.cluster.root / "corpus")
            cls.chat = write_conversations(cls.cluster.root / "chat")
            cls.cluster.start()
            cls.cluster.submit(pipeline(cls.model, cls.corpus, cls.chat), "--wait")
            jobs = json.loads(cls.cluster.moectl("job", "list", "-o", "json").stdout)["jobs"]
            cls.ids = {j["spec"]["name"]: j["job_id"] for j in jobs}
        except BaseException as error:
            cls.cluster.__exit__(type(error), error, None)
            raise

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    def test_dataset_counts_conversations_and_what_it_left_out(self):
        folder = pathlib.Path(self.cluster.artefact("conversations")["path"])
        card = json.loads((folder / "card.json").read_text())
        self.assertEqual(card["conversations"]["template"], "vicuna")
        domain = card["domains"][0]
        self.assertEqual(domain["train_documents"] + domain["heldout_documents"], 40)
        self.assertEqual(domain["skipped"]["bad_json"], 2)
        self.assertLess(domain["train_targets"], domain["train_tokens"])

    def test_epochs_become_steps_and_answers_are_learnt(self):
        steps = self.cluster.steps(self.ids["tune"])
        conversations = self.cluster.artefact("conversations")["metadata"]["domains"][0]
        expected = -(-2 * int(conversations["train_documents"]) // 8)
        self.assertEqual(len(steps), expected)
        self.assertLess(steps[-1]["loss"], steps[0]["loss"])
        for step in steps:
            self.assertLess(int(step["target_tokens"]), int(step["tokens"]))
            measured = "heldout_loss" in step["domains"][0]
            self.assertEqual(measured, int(step["step"]) % 2 == 0 or int(step["step"]) == expected)
        text = self.cluster.moectl("job", "describe", self.ids["tune"]).stdout
        self.assertIn("Last validation, step", text)
        self.assertIn("finetune", text)

    def test_tuned_model_answers_better_than_the_one_before(self):
        losses = self.cluster.artefact("judge")["metadata"]["losses"]
        by_label = {entry["label"]: entry["domains"]["sums"] for entry in losses}
        self.assertLess(by_label["tuned"], by_label["before"])
        self.assertLess(by_label["average"], by_label["before"])
        self.assertNotEqual(by_label["average"], by_label["tuned"])

    def test_average_is_exported(self):
        average = pathlib.Path(self.cluster.artefact("hand-out")["path"])
        self.assertEqual(json.loads((average / "config.json").read_text())["model_type"], "llama_moe")

    def test_what_does_not_fit_is_refused_before_it_starts(self):
        for change, words in [
                ({"finetune": "epochs: 0"}, ["epochs=0"]),
                ({"finetune": "steps: 3\n      epochs: 1"}, ["steps=3 and epochs=1", "give one"]),
        ]:
            with self.subTest(words=words):
                result = self.cluster.submit(pipeline(self.model, self.corpus, self.chat, **change),
                                             check=False)
                self.assertEqual(result.returncode, 2)
                for word in words:
                    self.assertIn(word, result.stderr)
        text = tiny.pipeline(self.model, self.corpus).split("  - name: corpus")[0]
        for kind, dataset, words in [("finetune", "corpus", "needs conversations"),
                                     ("train", "conversations", "needs running text")]:
            job = (f"  - name: wrong\n    {kind}:\n      model: {{artefact: train}}\n"
                   f"      dataset: {{artefact: {dataset}}}\n      steps: 1\n      sequence_length: 64\n")
            result = self.cluster.submit(text + job, check=False)
            self.assertEqual(result.returncode, 2)
            self.assertIn(words, result.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
