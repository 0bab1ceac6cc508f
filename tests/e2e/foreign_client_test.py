"""The coordinator with TLS as a client meets it that shares no code with ours: grpcio, over reflection."""
import hashlib
import os
import pathlib
import site
import socket
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

    def channel(self, token=None, tls=None):
        folder = tls or self.cluster.tls / "client-me"
        credentials = grpc.ssl_channel_credentials(
            (folder / "ca.pem").read_bytes(), (folder / "key.pem").read_bytes(),
            (folder / "cert.pem").read_bytes())
        if token:
            credentials = grpc.composite_channel_credentials(
                credentials, grpc.access_token_call_credentials(token))
        channel = grpc.secure_channel(f"{ADDRESS}:{self.cluster.port}", credentials)
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

    def test_oversized_message(self):
        self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: self.call(
            "JobService", "GetJob", self.admin, job="x" * (17 << 20)))

    def test_certificate_of_another_authority(self):
        other = self.cluster.root / "other"
        self.cluster.certificates("--client", "me", folder=other)
        stub = health_pb2_grpc.HealthStub(self.channel(tls=other / "client-me"))
        self.refused(grpc.StatusCode.UNAVAILABLE,
                     lambda: stub.Check(health_pb2.HealthCheckRequest(), timeout=20))

    def test_connection_that_never_begins_its_handshake_is_closed(self):
        with socket.create_connection((ADDRESS, self.cluster.port)) as slow:
            slow.settimeout(30)
            start = time.monotonic()
            try:
                self.assertEqual(slow.recv(1), b"")
            except ConnectionResetError:
                pass
            self.assertLess(time.monotonic() - start, 20)


if __name__ == "__main__":
    unittest.main(verbosity=2)
