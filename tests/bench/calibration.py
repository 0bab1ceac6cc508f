"""Where mixtures of experts start and how far equal training takes them: every method, as published
and calibrated, through the front door.

The model is SmolLM2-135M as the quickstart has it, the text the seven domains of the RedPajama
sample. Each row is a pipeline: construct, train on the same samples in the same order, evaluate both
on held-out text. Losses are means over the domains, nats per token.
"""
import argparse
import json
import os
import pathlib
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from cluster import Cluster  # noqa: E402

GOAL = 4.5
# Folders of the sample, by the names that the domains have in mixtures.
DOMAINS = {"commoncrawl": "cc", "c4": "c4-rp", "github": "github", "wikipedia": "wiki", "books": "book",
           "arxiv": "arxiv", "stackexchange": "stackexchange"}
# The spec of each method as published, beside `method`: 4 of 16 experts are active.
METHODS = {
    "independent-random": {},
    "independent-clustering": {"clustering": "{restarts: 2}"},
    "independent-importance": {"importance": "{dataset: {artefact: corpus}, samples_per_group: SAMPLES}"},
    "coactivation-graph": {"importance": "{dataset: {artefact: corpus}, samples_per_group: SAMPLES}"},
    "sharing-inner": {"importance": "{dataset: {artefact: corpus}, samples_per_group: SAMPLES}"},
    "sharing-inter": {"num_experts": 14, "num_shared_experts": 2, "top_k": 2,
                      "importance": "{dataset: {artefact: corpus}, samples_per_group: SAMPLES}"},
}
# As many neurons active, in experts of half the width, of which the most useful are shared; where the
# method makes no shared experts itself.
CALIBRATED = {method: {"num_experts": 32, "top_k": 8} for method in METHODS if method != "sharing-inter"}
RECOMMENDED = "independent-random"


def corpus(folder, model):
    domains = "\n".join(f"        - {{name: {name}, paths: [\"{folder / path}\"]}}"
                        for name, path in DOMAINS.items())
    return f"""pipeline: corpus
jobs:
  - name: corpus
    prepare:
      tokenizer: {{path: {model}}}
      domains:
{domains}
      heldout_fraction: 0.05
"""


def evaluate(name, models, heldout):
    listed = "\n".join(f"        - {{label: {label}, model: {model}}}" for label, model in models.items())
    return f"""  - name: {name}
    evaluate:
      dataset: {{artefact: corpus}}
      sequence_length: 512
      max_samples_per_domain: {heldout}
      compute_dtype: fp32
      models:
{listed}
"""


def row_pipeline(name, method, calibrated, model, size):
    spec = {"method": method, "num_experts": 16, "top_k": 4, **METHODS[method]}
    if calibrated:
        spec |= {"gate_network": "linear", **CALIBRATED.get(method, {}),
                 "calibrate": f"{{dataset: {{artefact: corpus}}, tokens: {size['calibration_tokens']}}}"}
    fields = "\n".join(f"      {key}: {value}" for key, value in spec.items())
    fields = fields.replace("SAMPLES", str(size["samples_per_group"]))
    return f"""pipeline: {name}
jobs:
  - name: construct-{name}
    construct:
      model: {{path: {model}}}
{fields}
  - name: train-{name}
    train:
      model: {{artefact: construct-{name}}}
      dataset: {{artefact: corpus}}
      steps: {size['steps']}
      sequence_length: 512
      global_batch_samples: {size['batch']}
      micro_batch_samples: {size['batch'] // 2}
      optimizer: {{learning_rate: 2e-4, warmup_steps: 2}}
      mixture: {{preset: llama1}}
      compute_dtype: bf16
""" + evaluate(f"evaluate-{name}", {"constructed": f"{{artefact: construct-{name}}}",
                                    "trained": f"{{artefact: train-{name}}}"}, size["heldout"])


def mean_losses(cluster, name):
    """{label: mean over the domains} of an evaluate job."""
    return {model["label"]: sum(model["domains"].values()) / len(model["domains"])
            for model in cluster.artefact(name)["metadata"]["losses"]}


def active_millions(job):
    return float(re.search(r"of which ([0-9.]+)M are active", json.dumps(job)).group(1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--folder")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    options = parser.parse_args()
    size = ({"calibration_tokens": 4096, "samples_per_group": 1, "heldout": 1, "steps": 8, "batch": 4}
            if options.quick else
            {"calibration_tokens": 8192, "samples_per_group": 4, "heldout": 4, "steps": 20, "batch": 8})
    trained_tokens = size["steps"] * size["batch"] * 512
    rows = []
    with tempfile.TemporaryDirectory(prefix="moe-calibration-", dir=options.folder) as root:
        with Cluster(root=root) as cluster:
            cluster.threads_per_slot = 0
            cluster.start()
            cluster.submit(corpus(options.text, options.model) +
                           evaluate("dense", {"dense": f"{{path: {options.model}}}"}, size["heldout"]))
            cluster.wait("dense", timeout_s=600)
            dense = mean_losses(cluster, "dense")["dense"]
            print(f"dense: loss {dense:.3f}", flush=True)
            print(f"{'method':<24} {'calibrated':<10} {'active M':>8} {'starting loss':>13} "
                  f"{f'after {trained_tokens} tokens':>22}", flush=True)
            for method in options.methods:
                for calibrated in (False, True):
                    name = f"{method}-{'calibrated' if calibrated else 'paper'}"
                    cluster.submit(row_pipeline(name, method, calibrated, options.model, size))
                    made = cluster.wait(f"construct-{name}", timeout_s=3600)
                    cluster.wait(f"evaluate-{name}", timeout_s=3600)
                    losses = mean_losses(cluster, f"evaluate-{name}")
                    rows.append({"method": method, "calibrated": calibrated,
                                 "active_millions": active_millions(made),
                                 "starting_loss": round(losses["constructed"], 4),
                                 "trained_loss": round(losses["trained"], 4)})
                    print(f"{method:<24} {'yes' if calibrated else 'no':<10} {rows[-1]['active_millions']:8.1f} "
                          f"{losses['constructed']:13.3f} {losses['trained']:22.3f}", flush=True)
    goals = [{"name": "starting_loss", "value": row["starting_loss"], "goal": GOAL,
              "met": row["starting_loss"] <= GOAL}
             for row in rows if row["method"] == RECOMMENDED and row["calibrated"]]
    print(json.dumps({"bench": "calibration", "quick": options.quick, "dense_loss": round(dense, 4),
                      "rows": rows, "goals": goals, "machine": f"{os.cpu_count()} CPUs"}))


if __name__ == "__main__":
    main()
