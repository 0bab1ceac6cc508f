"""Documents apart: train.reset_attention_mask, from a job file to the loss, in a run that is killed too."""
import json
import unittest

import tiny
from cluster import Cluster

# One token each in the tiny tokenizer, which merges letters only.
DOCUMENT = "31415926535897932384626433832795"
LENGTH = len(DOCUMENT)
STEPS = 6


def same_documents(cluster, runs):
    """A pipeline with one step of training on copies of DOCUMENT for each {name: (length, settings)}."""
    model = tiny.write_model(cluster.root / "dense")
    folder = cluster.root / "copies"
    folder.mkdir()
    (folder / "all.jsonl").write_text((json.dumps({"text": DOCUMENT}) + "\n") * 64)
    text = f"""pipeline: copies
jobs:
  - name: copies
    prepare:
      tokenizer: {{path: {model}}}
      heldout_fraction: 0.01
      domains: [{{name: c4, paths: [{folder}]}}]
  - name: construct
    construct: {{model: {{path: {model}}}, method: independent-random, num_experts: 4, top_k: 2}}
"""
    for name, (length, settings) in runs.items():
        text += f"""  - name: {name}
    train:
      model: {{artefact: construct}}
      dataset: {{artefact: copies}}
      steps: 1
      sequence_length: {length}
      global_batch_samples: 2
      micro_batch_samples: 2
      compute_dtype: fp32
      gate_noise: false
{settings}"""
    return text


def training(cluster, settings):
    """A run on real text, with held-out losses, and its evaluation."""
    text = tiny.pipeline(tiny.write_model(cluster.root / "dense"),
                         tiny.write_corpus(cluster.root / "corpus"), steps=STEPS, interval=2)
    text = text.replace("sequence_length: 32", "sequence_length: 128")
    head, rest = text.split("  - name: evaluate")
    rest = rest.split("  - name: export")[0].replace(
        "      compute_dtype: fp32\n", f"      compute_dtype: fp32\n      max_samples_per_domain: 4\n{settings}")
    return (f"{head}      validation: {{interval_steps: 100, heldout_samples: 4}}\n{settings}"
            f"  - name: evaluate{rest}")


APART = "      reset_attention_mask: true\n"


class DocumentsTest(unittest.TestCase):
    def test_a_document_is_read_as_if_it_were_alone(self):
        runs = {f"apart-{n}": (n * LENGTH, APART) for n in (1, 2, 4)}
        runs["together-2"] = (2 * LENGTH, "")
        with Cluster() as cluster:
            cluster.start()
            cluster.submit(same_documents(cluster, runs), "--wait")
            loss = {name: cluster.losses(name)[0][1] for name in runs}
        # The sum over a sample: of so many documents alone, and of as many first tokens after a last one.
        document = (LENGTH - 1) * loss["apart-1"]
        first_token = (2 * LENGTH - 1) * loss["apart-2"] - 2 * document
        self.assertAlmostEqual((4 * LENGTH - 1) * loss["apart-4"], 4 * document + 3 * first_token, delta=1e-3)
        self.assertGreater(abs(loss["together-2"] - loss["apart-2"]) * (2 * LENGTH - 1), 1e-2)

    def test_killed_run_and_evaluation_keep_documents_apart(self):
        with Cluster() as cluster:
            cluster.start()
            cluster.submit(training(cluster, ""), "--wait")
            together = cluster.losses("train")
        with Cluster() as cluster:
            cluster.start()
            cluster.submit(training(cluster, APART), "--wait")
            apart = cluster.losses("train")
            self.assertEqual([step[-1] for step in apart], [step[-1] for step in together], "the same samples")
            self.assertNotEqual([step[1] for step in apart], [step[1] for step in together])
            # What the run measured on held-out text is what an evaluation of its model measures.
            measured = {d["domain"]: d["heldout_loss"] for d in cluster.steps("train")[-1]["domains"]}
            report = cluster.artefact("evaluate")["metadata"]["losses"]
            evaluated = next(m["domains"] for m in report if m["label"] == "trained")
            self.assertEqual(set(measured), set(evaluated))
            for domain, loss in evaluated.items():
                self.assertAlmostEqual(measured[domain], loss, delta=1e-5)
        with Cluster() as cluster:
            marker = cluster.root / "crashed"
            cluster.worker_env = {"MOE_UNSAFE_CRASH_AT": "step_begin:4", "MOE_UNSAFE_CRASH_ONCE": str(marker)}
            cluster.start(coordinator_flags=["--retry-backoff-ms", 10, "--max-retry-backoff-ms", 10])
            cluster.submit(training(cluster, APART), "--wait")
            self.assertTrue(marker.exists())
            self.assertEqual(cluster.losses("train"), apart)
            cluster.moectl("job", "continue", "train", "--steps", STEPS + 2)
            cluster.wait("train")
            self.assertTrue(cluster.job("train")["spec"]["train"]["reset_attention_mask"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
