"""The coordinator with TLS as a client meets it that shares no code with ours: grpcio, over reflection."""
import contextlib
import hashlib
import json
import os
import pathlib
import site
import socket
import ssl
import threading
import time
import unittest

CACHE = pathlib.Path(os.environ.get("MOE_CACHE_DIR", pathlib.Path.home() / ".cache" / "moe"))
for packages in (CACHE / "grpc-venv").glob("lib/python*/site-packages"):
    site.addsitedir(str(packages))

try:
    import grpc
    from google.protobuf import message_factory
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase)
except ImportError as missing:
    raise SystemExit(f"{missing}: run deploy/install_deps.sh test") from missing

from cluster import wait_for
from tls_test import ADDRESS, TlsCluster


@unittest.skipIf(ADDRESS is None, "this machine has no address beyond loopback")
class ForeignClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = TlsCluster(ADDRESS)
        cls.addClassCleanup(cls.cluster.__exit__, None, None, None)
        cls.cluster.artefacts.mkdir()
        cls.cluster.start_coordinator()
        cls.admin = cls.cluster.token_file.read_text().strip()

    def channel(self, token=None, tls=None, options=()):
        folder = tls or self.cluster.tls / "client-me"
        credentials = grpc.ssl_channel_credentials(
            (folder / "ca.pem").read_bytes(), (folder / "key.pem").read_bytes(),
            (folder / "cert.pem").read_bytes())
        if token:
            credentials = grpc.composite_channel_credentials(
                credentials, grpc.access_token_call_credentials(token))
        channel = grpc.secure_channel(f"{ADDRESS}:{self.cluster.port}", credentials, options=options)
        self.addCleanup(channel.close)
        return channel

    def call(self, service, method, token, **fields):
        """A unary call of which only names are known; its types come from reflection."""
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel(self.admin)))
        rpc = pool.FindServiceByName(f"moe.v1.{service}").FindMethodByName(method)
        request = message_factory.GetMessageClass(rpc.input_type)(**fields)
        answer = message_factory.GetMessageClass(rpc.output_type)
        return self.channel(token).unary_unary(
            f"/moe.v1.{service}/{method}", request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString)(request, timeout=20)

    def metric(self, name, **labels):
        """The sum of the series with these labels."""
        with socket.create_connection(("127.0.0.1", self.cluster.metrics_port)) as s:
            s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            lines = s.makefile().read().splitlines()
        wanted = [f'{k}="{v}"' for k, v in labels.items()]
        return sum(float(line.split()[-1]) for line in lines
                   if line.startswith(name + "{") and all(w in line for w in wanted))

    def journal(self, **wanted):
        """The audit journal's entries with these fields."""
        lines = self.cluster.moectl("audit", "export").stdout.splitlines()
        return [e for e in map(json.loads, lines) if all(e.get(k) == v for k, v in wanted.items())]

    def counted(self, entries):
        return sum(int(e["count"]) for e in entries)

    def handshake(self, context):
        """A connection of Python's own TLS, up to the first thing that the coordinator says."""
        context.set_alpn_protocols(["h2"])  # without it no client would be answered
        with self.assertRaises(OSError), socket.create_connection((ADDRESS, self.cluster.port)) as raw, \
                context.wrap_socket(raw, server_hostname=ADDRESS) as tls:
            tls.settimeout(20)
            if not tls.recv(1):
                raise ConnectionResetError("closed")

    def session(self, messages):
        """A worker's stream with the certificate of w1, whose windows stay small."""
        return self.channel(tls=self.cluster.tls / "worker-w1",
                            options=[("grpc.http2.bdp_probe", 0)]).stream_stream(
            "/moe.v1.WorkerService/Session")(messages)

    def session_message(self, **fields):
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel(self.admin)))
        kind = pool.FindServiceByName("moe.v1.WorkerService").FindMethodByName("Session").input_type
        return message_factory.GetMessageClass(kind)(**fields).SerializeToString()

    def refused(self, code, call):
        with self.assertRaises(grpc.RpcError) as error:
            call()
        self.assertEqual(error.exception.code(), code, error.exception.details())

    def test_health_needs_a_certificate_and_no_token(self):
        answer = health_pb2_grpc.HealthStub(self.channel()).Check(
            health_pb2.HealthCheckRequest(), timeout=20)
        self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING)

    def test_reflection_needs_a_token(self):
        names = ProtoReflectionDescriptorDatabase(self.channel(self.admin)).get_services()
        self.assertIn("moe.v1.AccessService", names)
        self.refused(grpc.StatusCode.UNAUTHENTICATED,
                     lambda: list(ProtoReflectionDescriptorDatabase(self.channel()).get_services()))

    def test_calls_need_a_token_of_the_right_role(self):
        self.assertEqual(len(self.call("JobService", "ListJobs", self.admin).jobs), 0)
        self.refused(grpc.StatusCode.UNAUTHENTICATED, lambda: self.call("JobService", "ListJobs", None))
        viewer = self.cluster.new_token("eve", "viewer")
        self.refused(grpc.StatusCode.PERMISSION_DENIED,
                     lambda: self.call("AccessService", "ListTokens", viewer))

    def test_unknown_rpc_is_refused(self):
        call = self.channel(self.admin).unary_unary("/moe.v1.JobService/DropEverything")
        self.refused(grpc.StatusCode.PERMISSION_DENIED, lambda: call(b"", timeout=20))

    def test_expired_token(self):
        token = "moe_" + "5" * 64
        made = self.call("AccessService", "CreateToken", self.admin, user="brief", role=1,
                         token_sha256=hashlib.sha256(token.encode()).digest(),
                         expire_time={"seconds": int(time.time()) + 3})
        self.call("JobService", "ListJobs", token)

        def code():
            try:
                self.call("JobService", "ListJobs", token)
            except grpc.RpcError as error:
                return error.code() == grpc.StatusCode.UNAUTHENTICATED and "expired" in error.details()
            return False
        wait_for(code, f"token {made.token.token_id} to expire", timeout_s=30)

    def test_oversized_message_is_refused_counted_and_in_the_journal(self):
        def counted():
            return self.metric("moe_rpc_requests_total", method="GetJob", code="RESOURCE_EXHAUSTED")
        before = counted()
        self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: self.call(
            "JobService", "GetJob", self.admin, job="x" * (17 << 20)))
        wait_for(lambda: counted() == before + 1, "the call to be counted")
        entry = wait_for(lambda: self.journal(method="GetJob", code="RESOURCE_EXHAUSTED"), "the entry",
                         every_s=0.5)[-1]
        self.assertIn("the limit is 16777216", entry["message"])
        self.assertEqual(entry["user"], "admin")
        # What is below the limit comes through.
        self.refused(grpc.StatusCode.NOT_FOUND, lambda: self.call(
            "JobService", "GetJob", self.admin, job="x" * (15 << 20)))

    def test_message_above_what_grpc_takes_is_refused_and_missing_in_the_counts(self):
        def missing():
            return (self.metric("moe_rpc_admitted_total", method="GetJob")
                    - self.metric("moe_rpc_requests_total", method="GetJob"))
        before = missing()
        for _ in range(3):
            self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: self.call(
                "JobService", "GetJob", self.admin, job="x" * (33 << 20)))
        wait_for(lambda: missing() == before + 3, "the counts to differ")

    def test_request_that_is_no_request_is_counted_and_in_the_journal(self):
        def counted():
            return self.metric("moe_rpc_requests_total", method="GetJob", code="INVALID_ARGUMENT")
        before = counted()
        call = self.channel(self.admin).unary_unary("/moe.v1.JobService/GetJob")
        self.refused(grpc.StatusCode.UNIMPLEMENTED, lambda: call(b"\xff" * 40, timeout=20))
        wait_for(lambda: counted() == before + 1, "the call to be counted")
        entry = wait_for(lambda: self.journal(method="GetJob", code="INVALID_ARGUMENT"), "the entry",
                         every_s=0.5)[-1]
        self.assertIn("not what GetJob takes", entry["message"])
        self.assertEqual(entry["user"], "admin")

    def test_failed_handshakes_are_counted_and_in_the_journal_in_few_entries(self):
        self.cluster.certificates("--client", "me", folder=self.cluster.root / "strange")
        before = {reason: self.metric("moe_rpc_handshake_failures_total", reason=reason)
                  for reason in ("no_certificate", "bad_certificate", "not_tls")}
        for _ in range(25):
            trusting = ssl.create_default_context(cafile=self.cluster.tls / "ca" / "ca.pem")
            self.handshake(trusting)
            strange = self.cluster.root / "strange" / "client-me"
            trusting.load_cert_chain(strange / "cert.pem", strange / "key.pem")
            self.handshake(trusting)
        with socket.create_connection((ADDRESS, self.cluster.port)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            plain.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                while plain.recv(4096):
                    pass
        for reason, more in (("no_certificate", 25), ("bad_certificate", 25), ("not_tls", 1)):
            wait_for(lambda: self.metric("moe_rpc_handshake_failures_total", reason=reason)
                     >= before[reason] + more, f"{reason} to be counted")
        entries = wait_for(
            lambda: self.counted(found := self.journal(method="Handshake", code="UNAUTHENTICATED")) >= 50
            and found, "the entries", every_s=0.5)
        self.assertLess(len(entries), 10)
        self.assertTrue(any("certificate" in e["message"] for e in entries), entries)
        wait_for(lambda: self.journal(method="Handshake", code="INVALID_ARGUMENT"), "the entry of what is "
                 "not TLS", every_s=0.5)

    def test_certificate_of_another_authority(self):
        other = self.cluster.root / "other"
        self.cluster.certificates("--client", "me", folder=other)
        stub = health_pb2_grpc.HealthStub(self.channel(tls=other / "client-me"))
        self.refused(grpc.StatusCode.UNAVAILABLE,
                     lambda: stub.Check(health_pb2.HealthCheckRequest(), timeout=20))

    def test_connections_with_a_slow_handshake_are_closed_counted_and_in_the_journal(self):
        before = self.metric("moe_rpc_handshake_failures_total", reason="timeout")
        record = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)  # how a ClientHello begins
        start = time.monotonic()
        with socket.create_connection((ADDRESS, self.cluster.port)) as silent, \
                socket.create_connection((ADDRESS, self.cluster.port)) as dribbling:
            silent.settimeout(30)
            dribbling.settimeout(0.2)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                for byte in record:
                    dribbling.send(bytes([byte]))
                    with contextlib.suppress(TimeoutError):
                        self.assertEqual(dribbling.recv(1), b"")
                        break
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(silent.recv(1), b"")
        self.assertLess(time.monotonic() - start, 20)
        wait_for(lambda: self.metric("moe_rpc_handshake_failures_total", reason="timeout") >= before + 2,
                 "the timeouts to be counted")
        wait_for(lambda: self.journal(method="Handshake", code="DEADLINE_EXCEEDED"), "the entry", every_s=0.5)

    def test_session_that_does_not_register_is_ended(self):
        quiet = threading.Event()
        self.addCleanup(quiet.set)
        stream = self.session(iter(lambda: quiet.wait() and b"", b""))
        self.refused(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: list(stream))
        self.assertGreaterEqual(
            self.metric("moe_rpc_requests_total", method="Session", code="DEADLINE_EXCEEDED"), 1)
        entry = wait_for(lambda: self.journal(method="Session", code="DEADLINE_EXCEEDED"), "the entry",
                         every_s=0.3)[0]
        self.assertEqual(entry["worker_id"], "w1")

    def test_worker_that_asks_and_does_not_read_is_ended(self):
        register = self.session_message(register={
            "worker_id": "w1", "protocol_version": 1, "host": "localhost", "slots": [{"index": 0}]})
        heartbeat = self.session_message(heartbeat={"seq": 1})
        sent = threading.Event()

        def messages():
            yield register
            for _ in range(40_000):  # what fits into buffers on the way comes on top of the limit
                yield heartbeat
            sent.set()
        stream = self.session(messages())
        self.addCleanup(stream.cancel)
        self.assertTrue(sent.wait(90), "the heartbeats are not taken")
        self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: list(stream))
        entry = wait_for(lambda: self.journal(method="Session", code="RESOURCE_EXHAUSTED"), "the entry",
                         every_s=0.3)[0]
        self.assertEqual(entry["worker_id"], "w1")


if __name__ == "__main__":
    unittest.main(verbosity=2)
