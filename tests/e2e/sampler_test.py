"""The dynamic domain weights: from a job file to decisions, through every crash, to the same history.

The undisturbed run is the golden: steps, batches and decisions are compared for equality.
"""
import json
import unittest
import xml.etree.ElementTree

import tiny
from cluster import Cluster, CommandFailed, wait_for

STEPS, INTERVAL = 9, 3
REFERENCE = {d: 5.0 + 0.05 * i for i, d in enumerate(tiny.DOMAINS)}


def dynamic(pipeline, mixture):
    """The pipeline's prepare, construct and train jobs, with `mixture` in the last."""
    text = pipeline.split("  - name: evaluate")[0]
    return text + f"      mixture: {json.dumps(mixture)}\n"


class SamplerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with Cluster() as cluster:
            cluster.start()
            cluster.submit(cls.prepare(cluster), "--wait")
            cls.golden = cls.outcome(cluster)
        assert len(cls.golden["decisions"]) == STEPS // INTERVAL - 1, cls.golden

    @staticmethod
    def prepare(cluster, rule="sheared", **more):
        model = tiny.write_model(cluster.root / "dense")
        corpus = tiny.write_corpus(cluster.root / "corpus")
        mixture = {"preset": "uniform", "dynamic": {"rule": rule, "interval_steps": INTERVAL,
                                                    "heldout_samples": 4,
                                                    "reference_losses": REFERENCE}}
        return dynamic(tiny.pipeline(model, corpus, steps=STEPS, interval=2, **more), mixture)

    @staticmethod
    def decisions(cluster):
        return json.loads(cluster.moectl("sampler", "history", "train", "-o", "json").stdout)["decisions"]

    @classmethod
    def outcome(cls, cluster):
        """All that must not depend on crashes."""
        decisions = cls.decisions(cluster)
        for decision in decisions:
            del decision["time"], decision["attempt"]
        return {"steps": cluster.losses("train"), "decisions": decisions}

    def check(self, cluster):
        cluster.wait("train")
        self.assertEqual(self.outcome(cluster), self.golden)
        self.assertIn("0 differ", cluster.moectl("sampler", "replay", "train").stdout)

    def test_weights_follow_the_rule(self):
        for decision in self.golden["decisions"]:
            domains = decision["domains"]
            self.assertAlmostEqual(sum(d["new_weight"] for d in domains), 1, places=12)
            most = max(domains, key=lambda d: d["loss"] - d["reference_loss"])
            self.assertGreater(most["new_weight"], most["old_weight"])

    def test_rank_killed_at_every_point_of_the_exchange(self):
        for point in ["before_domain_losses:1", "after_domain_losses:1", "after_decision:1",
                      "after_domain_losses:2", "after_decision:2"]:
            with self.subTest(point=point), Cluster() as cluster:
                marker = cluster.root / "crashed"
                cluster.worker_env = {"MOE_UNSAFE_CRASH_AT": point, "MOE_UNSAFE_CRASH_ONCE": str(marker)}
                cluster.start()
                cluster.submit(self.prepare(cluster))
                self.check(cluster)
                self.assertTrue(marker.exists(), f"{point} was never reached")

    def test_coordinator_killed_at_every_point_of_the_exchange(self):
        for point in ["sampler_before_commit:1", "sampler_after_commit:1", "sampler_after_commit:2"]:
            with self.subTest(point=point), Cluster() as cluster:
                cluster.coordinator_env = {"MOE_UNSAFE_CRASH_AT": point}
                cluster.start()
                cluster.submit(self.prepare(cluster))
                wait_for(lambda c=cluster: c.processes["coordinator"].poll() is not None,
                         f"the coordinator to die at {point}", 90)
                cluster.coordinator_env = {}
                cluster.kill("coordinator")
                cluster.start_coordinator()
                self.check(cluster)

    def test_worker_killed_while_the_rank_waits_for_the_decision(self):
        with Cluster() as cluster:
            cluster.coordinator_env = {"MOE_UNSAFE_CRASH_AT": "sampler_before_commit:1"}
            cluster.start()
            cluster.submit(self.prepare(cluster))
            wait_for(lambda: cluster.processes["coordinator"].poll() is not None, "the crash", 90)
            cluster.kill("w1")
            cluster.coordinator_env = {}
            cluster.kill("coordinator")
            cluster.start()
            self.check(cluster)

    def test_two_ranks_apply_the_same_decisions(self):
        with Cluster() as cluster:
            cluster.start(slots=2)
            cluster.submit(self.prepare(cluster, slots=2), "--wait")
            got = self.outcome(cluster)
            self.assertEqual(len(got["decisions"]), len(self.golden["decisions"]))
            for mine, golden in zip(got["decisions"], self.golden["decisions"]):
                for a, b in zip(mine["domains"], golden["domains"]):
                    self.assertAlmostEqual(a["loss"], b["loss"], delta=2e-5)
                    self.assertAlmostEqual(a["new_weight"], b["new_weight"], delta=2e-5)

    def test_reference_of_an_evaluate_job_and_every_command(self):
        with Cluster() as cluster:
            model = tiny.write_model(cluster.root / "dense")
            corpus = tiny.write_corpus(cluster.root / "corpus")
            text = dynamic(tiny.pipeline(model, corpus, steps=400, interval=200),
                           {"dynamic": {"rule": "paper", "interval_steps": 50, "heldout_samples": 2,
                                        "reference": {"artefact": "dense-losses"}}})
            text += f"""  - name: dense-losses
    evaluate:
      dataset: {{artefact: corpus}}
      sequence_length: 32
      compute_dtype: fp32
      models: [{{label: dense, model: {{path: {model}}}}}]
"""
            cluster.start()
            cluster.submit(text)
            wait_for(lambda: cluster.state("train") == "RUNNING" and
                     cluster.moectl("sampler", "history", "train", check=False).returncode == 0,
                     "a decision", 120)
            cluster.moectl("sampler", "pin", "train")
            cluster.wait("train")
            decisions = self.decisions(cluster)
            report = cluster.artefact("dense-losses")["metadata"]["losses"][0]["domains"]
            for domain in decisions[0]["domains"]:
                self.assertEqual(domain["reference_loss"], report[domain["domain"]])
            kinds = [d["kind"] for d in decisions]
            self.assertEqual(kinds[-1], "DECISION_KIND_PINNED")
            self.assertIn("7 decisions computed again, 0 differ",
                          cluster.moectl("sampler", "replay", "train").stdout)
            self.assertIn("EXCESS", cluster.moectl("sampler", "show", "train").stdout)
            self.assertIn("RATIO", cluster.moectl("sampler", "diff", "train", "--from", 0).stdout)
            rows = cluster.moectl("sampler", "export", "train").stdout.splitlines()
            self.assertEqual(len(rows), 1 + 7 * len(tiny.DOMAINS))
            plot = cluster.root / "weights.svg"
            cluster.moectl("sampler", "plot", "train", "--file", plot)
            self.check_plot(plot.read_text(), decisions)
            with self.assertRaisesRegex(CommandFailed, "has ended"):
                cluster.moectl("sampler", "rollback", "train", "--to", 1)
            with self.assertRaisesRegex(CommandFailed, "no dynamic mixture"):
                cluster.moectl("sampler", "show", "construct")

    def check_plot(self, svg, decisions):
        """Reads the lines back with the axes that a reader sees."""
        root = xml.etree.ElementTree.fromstring(svg)
        name = "{http://www.w3.org/2000/svg}"
        texts = [(t.get("text-anchor"), float(t.get("x")), float(t.get("y")), t.text)
                 for t in root.iter(name + "text")]
        units = {"": 1, "k": 1e3, "M": 1e6}

        def axes(title):
            """From the ticks between this panel's title and the next: tokens at x, value at y, height."""
            titles = [i for i, t in enumerate(texts) if t[0] is None and t[1] == texts[0][1]]
            begin = next(i for i in titles if title in texts[i][3])
            end = min((i for i in titles if i > begin), default=len(texts))
            values = [(y - 4, float(t)) for a, _, y, t in texts[begin:end] if a == "end"]
            ticks = [(x, float(t.split()[0]) * units[(t.split() + [""])[1]])
                     for a, x, _, t in texts[begin:end] if a == "middle"]
            def line(points):
                (p, v), (q, w) = points[0], points[-1]
                return lambda at: v + (at - p) / (q - p) * (w - v)
            return line(ticks), line(values), abs(values[0][1] - values[-1][1])

        tokens = [int(d["tokens"]) for d in decisions]
        for series, title, expected in [
                ("weight", "Domain weights", lambda i: [decisions[0]["domains"][i]["old_weight"]] + [
                    w for d in decisions for w in (d["domains"][i]["old_weight"],
                                                   d["domains"][i]["new_weight"])]),
                ("loss", "Held-out loss over", lambda i: [d["domains"][i]["loss"] for d in decisions]),
                ("excess", "above the reference", lambda i: [
                    d["domains"][i]["loss"] - d["domains"][i]["reference_loss"] for d in decisions])]:
            tokens_at, value_at, span = axes(title)
            lines = [p for p in root.iter(name + "polyline") if p.get("class") == series]
            self.assertEqual([p.get("data-domain") for p in lines],
                             [d["domain"] for d in decisions[0]["domains"]])
            for i, line in enumerate(lines):
                points = [tuple(map(float, p.split(","))) for p in line.get("points").split()]
                values = expected(i)
                at = [0] + [t for t in tokens for _ in range(2)] if series == "weight" else tokens
                self.assertEqual(len(points), len(values))
                for (x, y), t, value in zip(points, at, values):
                    self.assertAlmostEqual(tokens_at(x), t, delta=max(tokens) / 1000)
                    self.assertAlmostEqual(value_at(y), value, delta=span / 1000)

    def test_bad_mixtures_are_refused_before_anything_runs(self):
        with Cluster() as cluster:
            model = tiny.write_model(cluster.root / "dense")
            corpus = tiny.write_corpus(cluster.root / "corpus")
            cluster.start()
            for settings, words in [
                ({"rule": "sheard", "reference_losses": REFERENCE}, "did you mean 'sheared'"),
                ({}, "reference_losses"),
                ({"reference_losses": {"c4": -1}}, "reference_losses.c4=-1"),
                ({"reference_losses": {"c4": 1}, "reference": {"artefact": "x"}}, "give one"),
                ({"reference": {"artefact": "nothing"}}, "nothing"),
                ({"reference_losses": REFERENCE, "interval_steps": 0}, "interval_steps=0"),
                ({"reference_losses": REFERENCE, "heldout_samples": 0}, "heldout_samples=0"),
            ]:
                with self.subTest(settings=settings):
                    text = dynamic(tiny.pipeline(model, corpus), {"dynamic": settings})
                    with self.assertRaisesRegex(CommandFailed, words):
                        cluster.submit(text)
            text = dynamic(tiny.pipeline(model, corpus), {"dynamic": {
                "interval_steps": 2, "reference_losses": {"c4": 2.0}}})
            cluster.submit(text)
            job = cluster.wait("train", "FAILED")
            self.assertIn("has no reference loss", job["reason"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
