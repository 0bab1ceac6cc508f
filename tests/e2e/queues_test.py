"""Queues, drains, filters, etags, outcomes, plans and goodput, as a user meets them through moectl."""
import json
import signal
import time
import unittest

import tiny
from cluster import Cluster, CommandFailed, wait_for
from kill_test import train_only

QUEUES = """default: research/llama
queues:
  research:
    quota: 1
    limit: 1
    queues:
      llama: {quota: 1}
      mistral: {quota: 0}
  production: {quota: 1, lends: 0}
"""


def long_job(cluster, steps=1_000_000):
    """prepare, construct and a training run that does not end by itself within a test."""
    model = tiny.write_model(cluster.root / "dense")
    corpus = tiny.write_corpus(cluster.root / "corpus")
    return train_only(tiny.pipeline(model, corpus, steps=steps, interval=1000))


def prepare_jobs(cluster, *jobs):
    """Jobs of the kind prepare, each given as the YAML lines that it has beside that."""
    model = tiny.write_model(cluster.root / "dense")
    corpus = tiny.write_corpus(cluster.root / "corpus")
    text = "pipeline: short\njobs:\n"
    for job in jobs:
        text += job + (f"    prepare: {{tokenizer: {{path: {model}}}, domains: "
                       f"[{{name: c4, paths: [{corpus}/c4]}}]}}\n")
    return text


class QueuesTest(unittest.TestCase):
    def test_quotas_bind_why_names_them_and_the_queue_list_shows_them(self):
        with Cluster() as cluster:
            queues = cluster.root / "queues.yaml"
            queues.write_text(QUEUES)
            cluster.start(slots=2, coordinator_flags=["--queues", queues])
            cluster.submit(long_job(cluster))
            wait_for(lambda: cluster.state("train") == "RUNNING", "the training", 90)
            cluster.submit(prepare_jobs(
                cluster, "  - name: behind\n    queue: research/mistral\n",
                "  - name: allowed\n    queue: production\n"))
            cluster.wait("allowed")
            self.assertEqual(cluster.state("behind"), "QUEUED")
            self.assertEqual(cluster.job("behind")["cause"], "CAUSE_QUEUE_FULL")
            why = cluster.moectl("job", "why", "behind").stdout
            self.assertIn("queue 'research' may use 1", why)
            self.assertIn("Full: 'research' uses 1 slots; quota 1, limit 1", why)
            table = cluster.moectl("queue", "list").stdout
            self.assertIn("research/mistral", table)
            rows = {q["name"]: q for q in json.loads(
                cluster.moectl("queue", "list", "-o", "json").stdout)["queues"]}
            self.assertEqual(rows["research"]["used_slots"], "1")
            self.assertEqual(rows["research/mistral"]["queued_jobs"], 1)
            self.assertEqual(rows["production"]["lends_slots"], "0")
            listed = cluster.moectl("job", "list", "--queue", "research", "-o", "name").stdout
            self.assertIn("job/j4", listed)
            self.assertNotIn("job/j5", listed)

            refused = cluster.submit(prepare_jobs(cluster, "  - name: x\n    queue: reserch/llama\n"),
                                     check=False)
            self.assertEqual(refused.returncode, 2)
            self.assertIn("did you mean 'research/llama'?", refused.stderr)
            refused = cluster.submit(prepare_jobs(cluster, "  - name: x\n    queue: research\n"),
                                     check=False)
            self.assertIn("takes no jobs itself; use research/llama, research/mistral",
                          refused.stderr)

            # What binds is the coordinator's file, and it still does after a restart.
            cluster.kill("coordinator")
            cluster.start_coordinator("--queues", queues)
            self.assertEqual(cluster.job("behind")["state"], "JOB_STATE_QUEUED")
            cluster.moectl("job", "cancel", "train", "--wait")
            cluster.wait("behind")

    def test_a_bad_queue_file_is_refused_with_its_line(self):
        with Cluster() as cluster:
            queues = cluster.root / "queues.yaml"
            queues.write_text("default: a\nqueues:\n  a: {quota: 4, limit: 2}\n")
            with self.assertRaises(AssertionError) as refused:
                cluster.start(coordinator_flags=["--queues", queues])
            self.assertIn("queues.yaml:3: queue 'a': limit=2 is below its quota 4",
                          str(refused.exception))

    def test_queue_file_is_read_again_on_sighup(self):
        with Cluster() as cluster:
            queues = cluster.root / "queues.yaml"
            text = "default: a\nqueues:\n  a: {quota: 4}\n  b: {quota: 4}\n"

            def reload(text, said):
                queues.write_text(text)
                cluster.processes["coordinator"].send_signal(signal.SIGHUP)
                wait_for(lambda: said in cluster.log("coordinator"), said)

            def quotas():
                rows = json.loads(cluster.moectl("queue", "list", "-o", "json").stdout)["queues"]
                return [row["quota_slots"] for row in rows]

            queues.write_text(text)
            cluster.start(coordinator_flags=["--queues", queues])
            reload(text.replace("b: {quota: 4}", "b: {quota: 7}"), "read again")
            self.assertEqual(quotas(), ["4", "7"])
            reload(text.replace("  b:", "  c:"), "queue 'b' is gone; to remove queues, restart")
            reload(text.replace("quota: 4", "quota: -4"), "queues.yaml:3: queue 'a'")
            reload(text.replace("default: a", "default: b"), "default='b' was 'a'")
            self.assertEqual(quotas(), ["4", "7"])
            self.assertIn("ReloadQueues", cluster.moectl("audit", "export").stdout)

    def test_plan_says_what_would_happen_and_changes_nothing(self):
        with Cluster() as cluster:
            cluster.start(coordinator_flags=["--minimum-run-seconds", "0"])
            cluster.submit(long_job(cluster))
            wait_for(lambda: len(cluster.steps("train")) >= 2, "two steps", 90)
            path = cluster.root / "plan.yaml"
            path.write_text(prepare_jobs(cluster, "  - name: urgent\n    priority: 9\n",
                                         "  - name: then\n    after_ok: [urgent]\n"))
            plan = json.loads(cluster.moectl("plan", "-f", path, "-o", "json").stdout)["jobs"]
            self.assertEqual(plan[0]["stops"][0]["name"], "train")
            self.assertGreater(plan[0]["stops"][0]["lost_slot_seconds"], 0)
            self.assertEqual(plan[1]["cause"], "CAUSE_NEEDS_UNMET")
            self.assertIn("waits for urgent", cluster.moectl("plan", "-f", path).stdout)
            self.assertEqual(cluster.state("train"), "RUNNING")
            path.write_text("pipeline: x\njobs: []\n")
            self.assertEqual(cluster.moectl("plan", "-f", path, check=False).returncode, 2)

    def test_drained_worker_gets_no_work_over_restarts_and_its_jobs_move(self):
        with Cluster() as cluster:
            cluster.start()
            cluster.submit(long_job(cluster))
            wait_for(lambda: len(cluster.steps("train")) >= 2, "two steps", 90)
            no_reason = cluster.moectl("worker", "drain", "w1", check=False)
            self.assertEqual(no_reason.returncode, 2)
            unknown = cluster.moectl("worker", "drain", "w11", "--reason", "x", check=False)
            self.assertEqual(unknown.returncode, 3)
            self.assertIn("did you mean 'w1'?", unknown.stderr)
            out = cluster.moectl("worker", "drain", "w1", "--reason", "fan is broken", "--stop-jobs")
            self.assertIn("worker/w1 drain", out.stdout)
            wait_for(lambda: cluster.state("train") == "QUEUED", "the training to stop", 60)
            self.assertEqual(cluster.job("train")["preemptions"], 1)

            cluster.kill("coordinator")
            cluster.start_coordinator()
            table = wait_for(lambda: (t := cluster.moectl("worker", "list").stdout) and
                             "DRAINED" in t and t, "the drained worker", 30)
            self.assertIn("fan is broken", table)
            self.assertEqual(cluster.state("train"), "QUEUED")
            cluster.start_worker(worker_id="w2")
            wait_for(lambda: cluster.state("train") == "RUNNING", "the training elsewhere", 60)
            self.assertEqual(cluster.job("train")["placements"][0]["worker_id"], "w2")
            cluster.moectl("worker", "undrain", "w1")
            self.assertNotIn("fan is broken", cluster.moectl("worker", "list").stdout)

    def test_time_limit_outcomes_filters_and_etags(self):
        with Cluster() as cluster:
            cluster.start()
            job = long_job(cluster).replace("  - name: train\n",
                                            "  - name: train\n    time_limit_seconds: 8\n"
                                            "    labels: {team: search}\n", 1)
            follow = prepare_jobs(cluster, "  - name: cleanup\n    after_not_ok: [train]\n",
                                  "  - name: always\n    after_any: [train]\n",
                                  "  - name: deploy\n    after_ok: [train]\n")
            cluster.submit(job + follow.split("jobs:\n")[1])
            self.assertEqual(cluster.state("cleanup"), "PENDING")
            train = cluster.wait("train", "FAILED", 120)
            self.assertEqual(train["cause"], "CAUSE_TIME_LIMIT")
            self.assertIn("time_limit_seconds=8", train["reason"])
            self.assertTrue(train["outputs"], "a checkpoint was written in time")
            cluster.wait("cleanup")
            cluster.wait("always")
            self.assertEqual(cluster.job("deploy")["cause"], "CAUSE_NEED_FAILED")

            names = cluster.moectl("job", "list", "--label", "team=search", "-o", "name").stdout
            self.assertEqual(names.split(), ["job/" + train["job_id"]])
            self.assertEqual(cluster.moectl("job", "list", "--label", "team=ads", "-o", "name").stdout,
                             "")
            bad = cluster.moectl("job", "list", "--label", "team", check=False)
            self.assertEqual(bad.returncode, 2)
            self.assertIn("expected KEY=VALUE", bad.stderr)

            cluster.moectl("worker", "drain", "w1", "--reason", "nothing more")
            cluster.submit(prepare_jobs(cluster, "  - name: waits\n"))
            seen = cluster.job("waits")["etag"]
            cluster.moectl("job", "hold", "waits")
            with self.assertRaises(CommandFailed) as stale:
                cluster.moectl("job", "cancel", "waits", "--if-etag", seen)
            self.assertIn("has changed since etag", stale.exception.result.stderr)
            self.assertEqual(cluster.state("waits"), "PENDING")
            cluster.moectl("job", "cancel", "waits", "--if-etag", cluster.job("waits")["etag"])
            self.assertEqual(cluster.state("waits"), "CANCELLED")

    def test_goodput_adds_up_to_wall_clock(self):
        with Cluster() as cluster:
            cluster.start()
            model = tiny.write_model(cluster.root / "dense")
            corpus = tiny.write_corpus(cluster.root / "corpus")
            cluster.submit(train_only(tiny.pipeline(model, corpus, steps=30, interval=10)))
            wait_for(lambda: cluster.state("train") == "RUNNING", "the training", 90)
            begin = time.monotonic()
            cluster.wait("train")
            ran = time.monotonic() - begin
            goodput = json.loads(cluster.moectl("goodput", "train", "-o", "json").stdout)
            parts = {k: v for k, v in goodput["slot_seconds"].items() if k != "queued"}
            self.assertAlmostEqual(sum(parts.values()), goodput["total_slot_seconds"], 6)
            held = goodput["attempts"][0]["held_seconds"]
            self.assertAlmostEqual(held, goodput["total_slot_seconds"], 6)
            self.assertGreater(held, ran - 1)
            self.assertGreater(parts["productive"], 0)
            self.assertGreater(parts["starting"], 0)
            self.assertIn("productive", cluster.moectl("goodput").stdout)
            self.assertEqual(cluster.moectl("goodput", "nobody", check=False).returncode, 3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
