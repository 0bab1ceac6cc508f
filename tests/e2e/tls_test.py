"""A cluster that other machines can reach: TLS on every connection, a token and a role for every call.

Real certificates, made by moectl; the coordinator listens on an address that is not loopback.
"""
import contextlib
import os
import socket
import ssl
import subprocess
import unittest

import tiny
from cluster import BIN, Cluster, CommandFailed, wait_for


def own_address():
    """An address of this machine that is not loopback; nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect(("192.0.2.1", 9))
        return s.getsockname()[0]
    return None


class TlsCluster(Cluster):
    """As Cluster, on `address`, with certificates of its own authority."""

    def __init__(self, address):
        super().__init__()
        self.address = address
        self.tls = self.root / "tls"
        self.token_file = self.root / "coordinator" / "admin.token"
        self.certificates("--host", address, "--worker", "w1", "--worker", "w2", "--client", "me")

    def certificates(self, *words, folder=None):
        subprocess.run([BIN / "moectl", "cert", "init", folder or self.tls, *words], check=True,
                       capture_output=True)

    def start_coordinator(self, *flags):
        self.spawn("coordinator", [
            BIN / "moe-coordinator", "--listen", f"{self.address}:{self.port}",
            "--tls-dir", self.tls / "coordinator", "--metrics-listen", f"127.0.0.1:{self.metrics_port}",
            "--data-dir", self.root / "coordinator", "--artefact-root", self.artefacts, *flags])
        wait_for(lambda: self.alive("coordinator") and (self.root / "coordinator" / "address").exists()
                 and self.moectl("version", check=False).returncode == 0, "the coordinator")

    def start_worker(self, slots=1, worker_id="w1", tls=None):
        self.spawn(worker_id, [
            BIN / "moe-worker", "--coordinator", f"{self.address}:{self.port}", "--worker-id", worker_id,
            "--tls-dir", tls or self.tls / f"worker-{worker_id}", "--state-dir", self.root / worker_id,
            "--cpu-slots", slots, "--threads-per-slot", 1, "--metrics-listen", ""])

    def moectl(self, *words, check=True, token=None, tls=None, **_):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MOECTL_")}
        result = subprocess.run(
            [BIN / "moectl", "--endpoint", f"{self.address}:{self.port}", "--timeout", "5s",
             "--tls-dir", tls or self.tls / "client-me", *map(str, words)],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
            env={**environment, "NO_COLOR": "1", "XDG_CONFIG_HOME": str(self.root / "config"),
                 **({"MOECTL_TOKEN": token} if token is not None
                    else {"MOECTL_TOKEN_FILE": str(self.token_file)})})
        if check and result.returncode != 0:
            raise CommandFailed(result)
        return result

    def new_token(self, user, role):
        return self.moectl("token", "create", "--user", user, "--role", role).stdout.strip()


ADDRESS = own_address()


@unittest.skipIf(ADDRESS is None, "this machine has no address beyond loopback")
class TlsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = TlsCluster(ADDRESS)
        cls.addClassCleanup(cls.cluster.__exit__, None, None, None)
        cls.cluster.start()
        cls.cluster.start_worker(worker_id="w2")
        cls.job_file = cls.cluster.root / "job.yaml"
        model = tiny.write_model(cls.cluster.root / "model")
        cls.job_file.write_text(f"""pipeline: tls
jobs:
  - name: construct
    construct: {{model: {{path: {model}}}, method: independent-random, num_experts: 4, top_k: 2}}
""")

    def refused(self, exit_code, text, *words, **how):
        result = self.cluster.moectl(*words, check=False, **how)
        self.assertEqual(result.returncode, exit_code, result.stderr)
        self.assertIn(text, result.stderr)

    def test_a_job_runs_on_workers_over_tls_and_belongs_to_its_user(self):
        cluster = self.cluster
        wait_for(lambda: cluster.moectl("worker", "list").stdout.count("READY") == 2, "two workers")
        alice = cluster.new_token("alice", "submitter")
        cluster.moectl("job", "submit", "-f", self.job_file, token=alice)
        self.assertEqual(cluster.wait("construct")["user"], "alice")
        other = cluster.new_token("mallory", "submitter")
        self.refused(4, "is of user 'alice'; to change it, mallory needs the role operator",
                     "job", "cancel", "construct", token=other)

    def test_without_a_good_token(self):
        self.refused(4, "no token", "job", "list", token="")
        self.refused(4, "not known", "job", "list", token="moe_" + "0" * 64)

    def test_roles(self):
        viewer = self.cluster.new_token("eve", "viewer")
        self.cluster.moectl("job", "list", token=viewer)
        self.refused(4, "needs the role admin; user eve has viewer", "token", "list", token=viewer)
        self.refused(4, "needs the role submitter", "job", "submit", "-f", self.job_file, token=viewer)

    def test_revoked_token(self):
        token = self.cluster.new_token("bob", "operator")
        self.cluster.moectl("job", "list", token=token)
        listed = self.cluster.moectl("token", "list").stdout
        token_id = next(line.split()[0] for line in listed.splitlines() if " bob " in line)
        self.cluster.moectl("token", "revoke", token_id)
        self.refused(4, "is revoked", "job", "list", token=token)

    def test_certificate_of_another_authority(self):
        other = self.cluster.root / "other"
        self.cluster.certificates("--client", "me", folder=other)
        self.refused(6, "no coordinator answers", "job", "list", tls=other / "client-me")

    def test_worker_with_the_certificate_of_another_worker(self):
        cluster = self.cluster
        cluster.start_worker(worker_id="w3", tls=cluster.tls / "worker-w2")
        self.addCleanup(cluster.kill, "w3")
        wait_for(lambda: "came with the certificate of worker 'w2'" in cluster.log("w3"), "the refusal")

    def test_client_that_poses_as_a_worker(self):
        cluster = self.cluster
        cluster.start_worker(worker_id="w4", tls=cluster.tls / "client-me")
        self.addCleanup(cluster.kill, "w4")
        wait_for(lambda: "is for certificates of workers" in cluster.log("w4"), "the refusal")

    def test_without_tls_and_without_a_certificate(self):
        plain = subprocess.run([BIN / "moectl", "--endpoint", f"{ADDRESS}:{self.cluster.port}", "job", "list"],
                               capture_output=True, text=True)
        self.assertEqual(plain.returncode, 2)
        self.assertIn("needs TLS", plain.stderr)
        context = ssl.create_default_context(cafile=self.cluster.tls / "ca" / "ca.pem")
        context.set_alpn_protocols(["h2"])  # without it no client would be answered
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            with socket.create_connection((ADDRESS, self.cluster.port)) as raw, \
                    context.wrap_socket(raw, server_hostname=ADDRESS) as tls:
                tls.settimeout(10)
                if not tls.recv(1):
                    raise ConnectionResetError("closed")

    def test_refusals_are_counted(self):
        self.refused(4, "no token", "artefact", "list", token="")
        with socket.create_connection(("127.0.0.1", self.cluster.metrics_port)) as s:
            s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = s.makefile().read()
        line = next(x for x in text.splitlines() if "ListArtefacts" in x and "UNAUTHENTICATED" in x)
        self.assertGreaterEqual(float(line.split()[-1]), 1)

    def test_renewed_certificate_is_served_without_a_restart(self):
        def serial():
            context = ssl.create_default_context(cafile=self.cluster.tls / "ca" / "ca.pem")
            context.load_cert_chain(self.cluster.tls / "client-me" / "cert.pem",
                                    self.cluster.tls / "client-me" / "key.pem")
            with contextlib.suppress(OSError):
                with socket.create_connection((ADDRESS, self.cluster.port)) as raw, \
                        context.wrap_socket(raw, server_hostname=ADDRESS) as tls:
                    return tls.getpeercert()["serialNumber"]
            return None
        before = wait_for(serial, "a certificate")
        self.cluster.certificates("--host", ADDRESS, "--renew")
        wait_for(lambda: serial() not in (None, before), "the new certificate")
        self.cluster.moectl("job", "list")

    def test_secrets_are_for_their_owner_only(self):
        for path in [self.cluster.token_file, *self.cluster.tls.glob("*/key.pem")]:
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)
        secret = self.cluster.token_file.read_text().strip()
        self.assertNotIn(secret, self.cluster.log("coordinator"))
        for path in (self.cluster.root / "coordinator" / "store").iterdir():
            if path.is_file():
                self.assertNotIn(secret.encode(), path.read_bytes(), path)

    def test_key_that_others_may_read(self):
        self.cluster.certificates("--client", "loose")
        loose = self.cluster.tls / "client-loose" / "key.pem"
        loose.chmod(0o644)
        self.addCleanup(loose.chmod, 0o600)
        self.refused(1, "chmod 600", "job", "list", tls=self.cluster.tls / "client-loose")


if __name__ == "__main__":
    unittest.main(verbosity=2)
