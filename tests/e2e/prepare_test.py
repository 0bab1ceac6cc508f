"""What a dataset is made of: filters through the job file, and attempts that go on where one died."""
import json
import re
import unittest
import unittest.mock

import tiny
from cluster import Cluster, CommandFailed, wait_for
from finetune_test import write_conversations

ADVERTISEMENT = ("Our team offers affordable prices for your home. Call us today for a free quote! Shop now "
                 "and save: free shipping on every order of our products, for only $49.99. Number {}.")
REPORT = ("The council met on Tuesday to discuss the results of the inquiry. Several members said that they "
          "had not seen the report before it was published, and the vote number {} was held the next day.")
GERMAN = ("Der Rat kam am Dienstag zusammen, um über die Ergebnisse der Untersuchung zu sprechen. Mehrere "
          "Mitglieder sagten, sie hätten den Bericht nicht gesehen, bevor er veröffentlicht wurde.")


def prepare_only(pipeline):
    return pipeline.split("  - name: construct")[0]


class PrepareTest(unittest.TestCase):
    @staticmethod
    def job(cluster, settings=""):
        model = tiny.write_model(cluster.root / "dense")
        corpus = tiny.write_corpus(cluster.root / "corpus")
        return prepare_only(tiny.pipeline(model, corpus)).replace(
            "      heldout_fraction: 0.2\n", "      heldout_fraction: 0.2\n" + settings)

    @staticmethod
    def files(cluster, name="corpus"):
        artefact = cluster.artefact(name)
        with open(f"{artefact['path']}/manifest.json") as manifest:
            return {f["path"]: f["crc32c"] for f in json.load(manifest)["files"]
                    if f["path"] != "card.json"}  # it names the paths, which differ

    def test_attempt_that_is_killed_is_gone_on_with(self):
        with Cluster() as cluster:
            cluster.start()
            cluster.submit(self.job(cluster), "--wait")
            golden = self.files(cluster)
        for point in ["prepare_batch:5", "prepare_synced:3", "prepare_saved:1", "prepare_saved:7",
                      "prepare_linked:1"]:
            with self.subTest(point=point), Cluster() as cluster:
                marker = cluster.root / "crashed"
                cluster.worker_env = {"MOE_UNSAFE_CRASH_AT": point, "MOE_UNSAFE_CRASH_ONCE": str(marker)}
                cluster.start()
                cluster.submit(self.job(cluster))
                job = cluster.wait("corpus")
                self.assertTrue(marker.exists(), f"{point} was never reached")
                self.assertEqual(job["attempt"], 2)
                self.assertEqual(self.files(cluster), golden)
                self.assertIn("going on from an earlier attempt",
                              cluster.moectl("job", "logs", "corpus").stdout)
                folder = cluster.artefacts / "dataset"
                wait_for(lambda f=folder: [p.name for p in f.iterdir()] == ["j1.2"],
                         "only the dataset to be left", 30)

    def test_attempt_on_conversations_that_is_killed_is_gone_on_with(self):
        def job(cluster):
            folders = [write_conversations(cluster.root / f"chat{i}", seed=i) for i in range(2)]
            domains = "".join(f"        - {{name: sums{i}, paths: [{f}]}}\n" for i, f in enumerate(folders))
            text = self.job(cluster, "      conversations: {template: vicuna, max_tokens: 128}\n")
            return re.sub(r"(      domains:\n)(        - .*\n)+", lambda m: m[1] + domains, text)

        with Cluster() as cluster:
            cluster.start()
            cluster.submit(job(cluster), "--wait")
            golden = self.files(cluster)
        self.assertIn("train/sums1.targets", golden)
        for point in ["prepare_batch:2", "prepare_synced:1", "prepare_saved:1", "prepare_linked:1"]:
            with self.subTest(point=point), Cluster() as cluster:
                marker = cluster.root / "crashed"
                cluster.worker_env = {"MOE_UNSAFE_CRASH_AT": point, "MOE_UNSAFE_CRASH_ONCE": str(marker)}
                cluster.start()
                cluster.submit(job(cluster))
                cluster.wait("corpus")
                self.assertTrue(marker.exists(), f"{point} was never reached")
                self.assertEqual(self.files(cluster), golden)
                if point != "prepare_synced:1":  # before the first save there is nothing to go on from
                    self.assertIn("going on from an earlier attempt",
                                  cluster.moectl("job", "logs", "corpus").stdout)

    def test_finished_job_has_read_every_byte(self):
        with Cluster() as cluster:
            cluster.start()
            cluster.submit(self.job(cluster, "      max_tokens_per_domain: 200\n"), "--wait")
            progress = cluster.job("corpus")["progress"]
            self.assertEqual(progress["done"], progress["total"])

    def test_cancelled_job_leaves_nothing(self):
        with Cluster() as cluster:
            cluster.worker_env = {"MOE_UNSAFE_CRASH_AT": "prepare_saved:1"}  # every attempt
            cluster.start()
            cluster.submit(self.job(cluster))
            work = cluster.artefacts / "dataset" / "j1.unfinished"
            wait_for(lambda: cluster.state("corpus") == "QUEUED" and work.exists(), "a failed attempt", 60)
            cluster.moectl("job", "cancel", "corpus")
            wait_for(lambda: not work.exists(), "the unfinished work to go", 30)

    def test_filters_drop_what_they_say_and_can_be_moved(self):
        with Cluster() as cluster:
            text = self.job(cluster)
            folder = cluster.root / "corpus" / "commoncrawl"
            for file in folder.iterdir():
                file.unlink()
            texts = [REPORT.format(i) for i in range(60)] + [ADVERTISEMENT.format(i) for i in range(40)]
            texts += [GERMAN, texts[0], "Too short."]
            (folder / "all.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
            settings = """      remove_duplicates: true
      min_characters: 20
      near_duplicates: {similarity: 0.99}
      language: {languages: [en], domains: [commoncrawl]}
      filters: [{score: advertisement, domains: [commoncrawl], drop: %s}]
"""
            place = "      heldout_fraction: 0.2\n"
            cluster.start()
            cluster.submit(text.replace(place, place + settings % 0.4), "--wait")

            def dropped(name):
                domains = cluster.artefact(name)["metadata"]["domains"]
                return {d["name"]: d for d in domains}["commoncrawl"]["dropped"]

            self.assertEqual(dropped("corpus:1"), {"too_short": 1, "language": 1, "duplicate": 1,
                                                   "advertisement": 40})
            shown = cluster.moectl("artefact", "describe", "corpus").stdout
            self.assertIn("advertisement", shown)
            shown = cluster.moectl("job", "describe", "corpus").stdout
            self.assertRegex(shown, r"commoncrawl")

            again = settings % 0.1 + "      scores_from: {artefact: 'corpus:1'}\n"
            moved = text.replace(place, place + again).replace("  - name: corpus", "  - name: moved")
            cluster.submit(moved, "--wait")
            self.assertEqual(dropped("moved"), {"too_short": 1, "language": 1, "duplicate": 1,
                                                "advertisement": 10})
            cluster.submit(moved.replace("      scores_from: {artefact: 'corpus:1'}\n", "")
                           .replace("name: moved", "name: scored"), "--wait")
            # The inputs differ, and so does what the manifest says of them; the files do not.
            self.assertEqual(self.files(cluster, "moved"), self.files(cluster, "scored"))

    def test_model_with_a_padded_vocabulary_trains_on_its_own_tokenizer(self):
        with Cluster() as cluster:
            padded = tiny.VOCAB + 64
            with unittest.mock.patch.object(tiny, "VOCAB", padded):
                model = tiny.write_model(cluster.root / "dense")
            tiny.write_tokenizer(model)
            corpus = tiny.write_corpus(cluster.root / "corpus")
            cluster.start()
            cluster.submit(tiny.pipeline(model, corpus, steps=3), "--wait")
            self.assertEqual(cluster.artefact("corpus")["metadata"]["vocab_size"], tiny.VOCAB)
            self.assertEqual(cluster.artefact("train")["metadata"]["vocab_size"], padded)

    def test_bad_filters_are_refused_before_anything_runs(self):
        with Cluster() as cluster:
            cluster.start()
            for settings, words in [
                ("      filters: [{score: fluent}]\n", "did you mean 'fluency'"),
                ("      filters: [{score: fluency, drop: 1.5}]\n", "filters.drop=1.5"),
                ("      filters: [{score: fluency, domains: [cc]}]\n", "'cc' is no domain"),
                ("      near_duplicates: {similarity: 0.1}\n", "near_duplicates.similarity=0.1"),
                ("      language: {languages: []}\n", "language.languages is empty"),
                ("      language: {languages: [english]}\n", "two letters"),
                ("      scores_from: {artefact: nothing}\n", "nothing"),
                ("      max_characters: 5\n      min_characters: 6\n", "below min_characters"),
                ("      filter: []\n", re.escape("did you mean 'filters'")),
            ]:
                with self.subTest(settings=settings):
                    with self.assertRaisesRegex(CommandFailed, words):
                        cluster.submit(self.job(cluster, settings))
            # A code that only the detector can judge fails the job with its name.
            cluster.submit(self.job(cluster, "      language: {languages: [xx]}\n"))
            self.assertIn("'xx'", cluster.wait("corpus", "FAILED")["reason"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
