"""What a plan says before a job runs, and what is then measured."""
import json
import unittest

import tiny
from cluster import Cluster, wait_for
from kill_test import train_only


def worker_speed(cluster):
    workers = json.loads(cluster.moectl("worker", "list", "-o", "json").stdout)["workers"]
    return workers[0]["slots"][0].get("speed") if workers else None


class PlanTest(unittest.TestCase):
    def plan(self, cluster, text, *words):
        path = cluster.root / "plan.yaml"
        path.write_text(text)
        out = cluster.moectl("job", "plan", "-f", path, "-o", "json", *words).stdout
        return json.loads(out)["estimates"]

    def test_plan_knows_the_measured_slot_and_the_run_has_the_planned_shape(self):
        with Cluster(worker_flags=()) as cluster:
            model = tiny.write_model(cluster.root / "dense")
            corpus = tiny.write_corpus(cluster.root / "corpus")
            cluster.start()
            speed = wait_for(lambda: worker_speed(cluster), "the worker to have measured itself", 60)
            self.assertGreater(speed["fp32_flops"], 1e8)
            text = train_only(tiny.pipeline(model, corpus))
            [plan] = self.plan(cluster, text)
            self.assertEqual(plan["machine"], "slot of w1, measured")
            self.assertEqual(int(plan["memory_bytes"]), sum(int(p["bytes"]) for p in plan["memory"]))
            self.assertGreater(plan["step_seconds"], 0)
            jobs = json.loads(cluster.moectl("job", "list", "-o", "json").stdout).get("jobs", [])
            self.assertEqual(jobs, [], "a plan leaves nothing behind")

            cluster.submit(text)
            cluster.wait("train")
            for step in cluster.steps("train"):
                flops = step["model_flops_per_second"] / step["tokens_per_second"]
                self.assertAlmostEqual(flops / plan["flops_per_token"], 1, places=6)
                self.assertGreater(step["model_flops_utilisation"], 0)
            # Made from the catalogue now, not from the pipeline's own output.
            alone = text.split("  - name: train")[0].split("jobs:")[0] + "jobs:\n  - name: train" + \
                text.split("  - name: train")[1]
            [again] = self.plan(cluster, alone)
            self.assertEqual(again["total_parameters"], plan["total_parameters"])
            self.assertEqual(again["flops_per_token"], plan["flops_per_token"])

    def test_restarted_worker_does_not_measure_again(self):
        with Cluster(worker_flags=()) as cluster:
            cluster.start()
            first = wait_for(lambda: worker_speed(cluster), "the first measurement", 60)
            cluster.kill("w1")
            cluster.start_worker()
            wait_for(lambda: worker_speed(cluster) == first, "the same figures", 60)


if __name__ == "__main__":
    unittest.main(verbosity=2)
