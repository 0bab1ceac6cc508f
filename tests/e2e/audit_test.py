"""What the coordinator refuses, limits and writes down: the audit journal, the limits of users, the paths
that jobs may name."""
import concurrent.futures
import json
import unittest

import tiny
from cluster import wait_for
from tls_test import ADDRESS, TlsCluster

BURST = 40


@unittest.skipIf(ADDRESS is None, "this machine has no address beyond loopback")
class AuditTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = TlsCluster(ADDRESS)
        cls.addClassCleanup(cls.cluster.__exit__, None, None, None)
        cls.cluster.artefacts.mkdir()
        cls.allowed = cls.cluster.root / "allowed"
        cls.secret = cls.cluster.root / "secret"
        tiny.write_model(cls.allowed / "model")
        tiny.write_model(cls.secret / "model")
        cls.start()

    @classmethod
    def start(cls):
        cls.cluster.start_coordinator("--allow-root", cls.allowed, "--user-calls-per-second", "10",
                                      "--user-burst", str(BURST))

    def submit(self, model, token, check=True):
        path = self.cluster.root / "job.yaml"
        path.write_text(f"""pipeline: audit
jobs:
  - name: construct
    construct: {{model: {{path: {model}}}, method: independent-random, num_experts: 4, top_k: 2}}
""")
        return self.cluster.moectl("job", "submit", "-f", path, token=token, check=check)

    def journal(self):
        return [json.loads(line) for line in self.cluster.moectl("audit", "export").stdout.splitlines()]

    def wait_for_entry(self, **wanted):
        def find():
            return next((e for e in self.journal() if all(e.get(k) == v for k, v in wanted.items())), None)
        return wait_for(find, f"an entry with {wanted}", every_s=0.3)

    def test_changes_are_in_the_journal_with_who_and_what(self):
        alice = self.cluster.new_token("alice", "submitter")
        self.submit(self.allowed / "model", alice)
        self.cluster.moectl("job", "cancel", "construct", token=alice)
        submitted = self.wait_for_entry(method="SubmitPipeline", user="alice", code="OK")
        self.assertRegex(submitted["target"], "^p[0-9]+$")
        cancelled = self.wait_for_entry(method="CancelJob", user="alice", code="OK")
        self.assertRegex(cancelled["target"], "^j[0-9]+$")
        self.assertIn(ADDRESS, cancelled["peer"])
        made = self.wait_for_entry(method="CreateToken", user="admin", code="OK")
        self.assertTrue(made["target"].endswith(" of alice") or " of " in made["target"])
        self.assertNotIn(alice, json.dumps(self.journal()))

    def test_refusals_are_in_the_journal_with_their_code(self):
        eve = self.cluster.new_token("eve", "viewer")
        self.assertEqual(self.submit(self.allowed / "model", eve, check=False).returncode, 4)
        entry = self.wait_for_entry(method="SubmitPipeline", user="eve", code="PERMISSION_DENIED")
        self.assertIn("needs the role submitter", entry["message"])
        self.cluster.moectl("job", "list", token="moe_" + "0" * 64, check=False)
        entry = self.wait_for_entry(method="ListJobs", code="UNAUTHENTICATED")
        self.assertEqual(len(entry["token_id"]), 16)
        self.assertIn("client/me", entry["peer"])

    def test_only_admins_read_it(self):
        olaf = self.cluster.new_token("olaf", "operator")
        refused = self.cluster.moectl("audit", "export", token=olaf, check=False)
        self.assertEqual(refused.returncode, 4, refused.stderr)

    def test_paths_out_of_the_allowed_roots_are_refused(self):
        mallory = self.cluster.new_token("mallory", "submitter")
        link = self.allowed / "link"
        link.symlink_to(self.secret / "model")
        self.addCleanup(link.unlink)
        for model in (self.secret / "model", self.allowed / ".." / "secret" / "model", link):
            refused = self.submit(model, mallory, check=False)
            self.assertEqual(refused.returncode, 2, refused.stderr)
            self.assertIn("outside the folders that jobs may read", refused.stderr)
        self.wait_for_entry(method="SubmitPipeline", user="mallory", code="INVALID_ARGUMENT")

    def test_user_who_calls_too_often_is_slowed_and_others_are_not(self):
        token = self.cluster.new_token("busy", "viewer")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            results = list(pool.map(
                lambda _: self.cluster.moectl("worker", "list", token=token, check=False),
                range(BURST + 100)))
        refused = [r for r in results if r.returncode != 0]
        self.assertTrue(refused, "the calls came too slowly for this test")
        self.assertIn("retry after", refused[0].stderr)
        self.cluster.moectl("worker", "list")
        entry = self.wait_for_entry(user="busy", code="RESOURCE_EXHAUSTED")
        self.assertGreaterEqual(int(entry["count"]), 1)
        # The summary has the others.
        wait_for(lambda: sum(int(e["count"]) for e in self.journal() if e.get("user") == "busy") >=
                 len(refused), "the number of refusals", every_s=0.5)

    def test_journal_is_verified_and_every_change_to_it_is_found(self):
        self.cluster.new_token("grace", "viewer")
        said = self.cluster.moectl("audit", "verify").stdout
        self.assertIn("entries are whole", said)
        end = said.split()[-1]
        self.cluster.kill("coordinator")
        self.start()  # the chain goes on after kill -9
        self.cluster.new_token("heidi", "viewer")
        self.cluster.moectl("audit", "verify", "--expect", end)

        lines = self.cluster.moectl("audit", "export").stdout.splitlines()
        path = self.cluster.root / "audit.jsonl"

        def verify(changed, *words):
            path.write_text("\n".join(changed) + "\n")
            return self.cluster.moectl("audit", "verify", path, *words, check=False)
        self.assertEqual(verify(lines).returncode, 0)
        last_user = json.loads(lines[-1]).get("user", "")
        for changed in (lines[:1] + lines[2:], lines[:2] + lines[1:2] + lines[2:],
                        lines[:-1] + [lines[-1].replace(last_user, "mallory")]):
            result = verify(changed)
            self.assertEqual(result.returncode, 1, result.stdout)
            self.assertIn("entry", result.stderr)
        cut = verify(lines[:1], "--expect", end)
        self.assertEqual(cut.returncode, 1)
        self.assertIn("cut or written anew", cut.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
