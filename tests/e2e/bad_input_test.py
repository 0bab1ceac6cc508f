"""Wrong input is refused before anything starts, naming value, limit and fix."""
import contextlib
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import unittest

import tiny
from cluster import BIN, Cluster, wait_for


class BadInputTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.model = tiny.write_model(cls.cluster.root / "dense")
        cls.corpus = tiny.write_corpus(cls.cluster.root / "corpus")
        cls.good = tiny.pipeline(cls.model, cls.corpus)
        cls.cluster.start()
        # Until a worker has registered nobody knows what a slot can hold.
        wait_for(lambda: json.loads(cls.cluster.moectl("worker", "list", "-o", "json").stdout)["workers"],
                 "the worker to register")

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    def refused(self, text, *words, code=(1, 2)):
        result = self.cluster.submit(text, check=False)
        self.assertIn(result.returncode, code, result)
        for word in words:
            self.assertIn(word, result.stderr)
        jobs = json.loads(self.cluster.moectl("job", "list", "-o", "json").stdout).get("jobs", [])
        self.assertEqual(jobs, [], "a refused file must leave nothing behind")

    def test_unknown_key_names_line_and_nearest(self):
        line = 1 + self.good.splitlines().index("      top_k: 2")
        self.refused(self.good.replace("top_k: 2", "topk: 2"), "topk", "top_k", f":{line}", code=(2,))

    def test_unknown_key_at_top(self):
        self.refused("pipelines: x\n" + self.good, "pipelines", "pipeline", code=(2,))

    def test_wrong_type(self):
        self.refused(self.good.replace("steps: 8", "steps: eight"), "steps", "eight", code=(2,))

    def test_experts_that_do_not_divide_the_width(self):
        self.refused(self.good.replace("num_experts: 4", "num_experts: 7"), "7", "128", "8", "construct")

    def test_top_k_above_experts(self):
        self.refused(self.good.replace("top_k: 2", "top_k: 5"), "top_k", "5", "4")

    def test_batch_that_does_not_fit_into_memory(self):
        text = self.good.replace("global_batch_samples: 4", "global_batch_samples: 4194304")
        text = text.replace("micro_batch_samples: 2", "micro_batch_samples: 4194304")
        self.refused(text, "a slot has", "use micro_batch_samples=")

    def test_unknown_machine_of_a_plan(self):
        path = self.cluster.root / "plan.yaml"
        path.write_text(self.good)
        result = self.cluster.moectl("job", "plan", "-f", path, "--machine", "abacus", check=False)
        self.assertIn(result.returncode, (1, 2), result)
        self.assertIn("machine='abacus' is not known; use h100", result.stderr)

    def test_unknown_method(self):
        self.refused(self.good.replace("independent-random", "independent-randon"), "independent-random")

    def test_unknown_policy_for_bad_documents(self):
        self.refused(self.good.replace("heldout_fraction: 0.2", "on_bad_document: skpi"), "skpi", "skip")

    def test_batch_that_micro_batches_do_not_divide(self):
        self.refused(self.good.replace("global_batch_samples: 4", "global_batch_samples: 5"), "5", "2")

    def test_sequence_beyond_the_context(self):
        self.refused(self.good.replace("sequence_length: 32\n      global", "sequence_length: 512\n      global"),
                     "512", "256")

    def test_missing_model(self):
        self.refused(self.good.replace(str(self.model), "/nowhere/model.gguf"), "/nowhere/model.gguf")

    def test_unknown_artefact(self):
        self.refused(self.good.replace("{artefact: corpus}", "{artefact: corpse}"), "corpse")

    def test_empty_domain(self):
        empty = self.cluster.root / "empty"
        empty.mkdir(exist_ok=True)
        self.refused(self.good.replace(f"{self.corpus}/books", str(empty)), "books", str(empty))

    def damaged(self, name, change):
        folder = self.cluster.root / name
        shutil.copytree(self.model, folder)
        path = folder / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))
        self.addCleanup(shutil.rmtree, folder)
        return self.good.replace(str(self.model), str(folder))

    def test_truncated_safetensors(self):
        self.refused(self.damaged("truncated", lambda raw: raw[:-1000]), "model.safetensors", "truncated")

    def test_overlapping_tensors(self):
        def overlap(raw):
            size = int.from_bytes(raw[:8], "little")
            header = json.loads(raw[8:8 + size])
            names = [n for n in header if n.endswith("norm.weight")]
            header[names[0]]["data_offsets"] = header[names[1]]["data_offsets"]
            text = json.dumps(header).encode()
            text += b" " * (-len(text) % 8)
            return struct.pack("<Q", len(text)) + text + raw[8 + size:]
        self.refused(self.damaged("overlap", overlap), "model.safetensors", "overlap")

    def test_missing_and_truncated_gguf(self):
        path = self.cluster.root / "short.gguf"
        path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 5, 5))
        self.refused(self.good.replace(str(self.model), str(path)), "short.gguf")

    def test_unknown_quantisation_type(self):
        def string(text):
            return struct.pack("<Q", len(text)) + text.encode()
        header = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
        header += string("general.architecture") + struct.pack("<I", 8) + string("llama")
        header += string("token_embd.weight") + struct.pack("<I", 1) + struct.pack("<QIQ", 256, 99, 0)
        path = self.cluster.root / "odd.gguf"
        path.write_bytes(header + b"\0" * 4096)
        self.refused(self.good.replace(str(self.model), str(path)), "odd.gguf", "99")

    def test_vocabulary_mismatch(self):
        other = tiny.write_model(self.cluster.root / "other")
        config = json.loads((other / "config.json").read_text())
        config["vocab_size"] = 640
        (other / "config.json").write_text(json.dumps(config))
        tokenizer = (other / "tokenizer.json").read_text()
        (other / "tokenizer.json").write_text(tokenizer.replace("<unused300>", "<another>"))
        construct = f"construct:\n      model: {{path: {self.model}}}"
        text = self.good.replace(construct, construct.replace(str(self.model), str(other)))
        self.assertNotEqual(text, self.good)
        self.refused(text, "640", "320")

    def test_exit_codes(self):
        moectl = self.cluster.moectl
        self.assertEqual(moectl("job", "describe", "j999", check=False).returncode, 3)
        self.assertEqual(moectl("job", "lst", check=False).returncode, 2)
        self.assertEqual(moectl("--help").returncode, 0)
        unreachable = subprocess.run(
            [BIN / "moectl", "--endpoint", "127.0.0.1:1", "--timeout", "1", "job", "list"],
            capture_output=True, text=True)
        self.assertEqual(unreachable.returncode, 6, unreachable)


class BadPlaceTest(unittest.TestCase):
    """Daemons that cannot start say why."""

    def coordinator(self, cluster, **changes):
        flags = {"--listen": f"127.0.0.1:{cluster.port}", "--metrics-listen": f"127.0.0.1:{cluster.metrics_port}",
                 "--data-dir": cluster.root / "coordinator", "--artefact-root": cluster.artefacts} | changes
        words = [str(w) for pair in flags.items() for w in pair]
        return subprocess.run([BIN / "moe-coordinator", *words], capture_output=True, text=True, timeout=30)

    def test_port_in_use(self):
        with Cluster() as cluster, socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            result = self.coordinator(cluster, **{"--listen": f"127.0.0.1:{port}"})
            self.assertEqual(result.returncode, 1)
            self.assertIn(str(port), result.stderr)

    def test_artefact_root_that_is_a_file(self):
        with Cluster() as cluster:
            cluster.artefacts.write_text("in the way")
            result = self.coordinator(cluster)
            self.assertEqual(result.returncode, 1)
            self.assertIn(str(cluster.artefacts), result.stderr)

    def test_beyond_loopback_without_tls(self):
        with Cluster() as cluster:
            result = self.coordinator(cluster, **{"--listen": "0.0.0.0:0"})
            self.assertEqual(result.returncode, 1)
            self.assertIn("TLS", result.stderr)


class FullDiskTest(unittest.TestCase):
    """The artefact root is a real file system, a small one."""

    @contextlib.contextmanager
    def cluster_on(self, size):
        if os.geteuid() != 0:
            self.skipTest("needs root to mount a small file system")
        with Cluster() as cluster:
            cluster.artefacts.mkdir()
            mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", cluster.artefacts],
                                     capture_output=True, text=True)
            if mounted.returncode != 0:
                self.skipTest(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
            try:
                # A full disk may become free: such jobs are tried again.
                cluster.start(coordinator_flags=["--retry-backoff-ms", "50", "--max-retry-backoff-ms", "100"])
                yield cluster
            finally:
                for name in list(cluster.processes):
                    cluster.kill(name)
                cluster.kill_ranks()
                subprocess.run(["umount", "-l", cluster.artefacts], check=False)

    def test_checkpoint_that_does_not_fit(self):
        """The run goes on, the failure is reported, nothing is half visible."""
        with self.cluster_on("12m") as cluster:
            model = tiny.write_model(cluster.root / "dense")
            corpus = tiny.write_corpus(cluster.root / "corpus")
            text = tiny.pipeline(model, corpus, steps=400, interval=20, keep=1)
            cluster.submit(text.split("  - name: train")[0], "--wait")
            filler = cluster.artefacts / "filler"
            free = shutil.disk_usage(cluster.artefacts).free
            filler.write_bytes(b"\0" * (free - 300_000))
            train = text[:text.index("jobs:")] + "jobs:\n" + text[text.index("  - name: train"):].split(
                "  - name: evaluate")[0]
            cluster.submit(train)
            wait_for(lambda: "heckpoint" in cluster.moectl("job", "events", "train").stdout and
                     len(cluster.steps("train")) > 25, "the failed checkpoint to be reported", 60)
            self.assertEqual(cluster.state("train"), "RUNNING")
            shown = json.loads(cluster.moectl("artefact", "list", "-o", "json").stdout)["artefacts"]
            self.assertEqual([a for a in shown if a["kind"] == "ARTEFACT_KIND_CHECKPOINT"], [])
            filler.unlink()
            cluster.wait("train")
            steps = [s for s, *_ in cluster.losses("train")]
            self.assertEqual(steps, list(range(1, 401)))
            for manifest in cluster.artefacts.glob("checkpoint/*/*"):
                self.assertTrue((manifest / "manifest.json").exists(), manifest)

    def test_dataset_that_does_not_fit(self):
        """The job fails and says why, its unfinished files go, and there is no dataset."""
        with self.cluster_on("100k") as cluster:
            model = tiny.write_model(cluster.root / "dense")
            corpus = tiny.write_corpus(cluster.root / "corpus", documents=200)
            text = tiny.pipeline(model, corpus).split("  - name: construct")[0]
            cluster.submit(text)
            job = cluster.wait("corpus", "FAILED")
            self.assertIn("No space left on device", job["reason"])
            shown = json.loads(cluster.moectl("artefact", "list", "-o", "json").stdout)
            self.assertEqual(shown.get("artefacts", []), [])
            left = [path for path in cluster.artefacts.glob("*/**/*") if path.is_file()]
            self.assertEqual(left, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
