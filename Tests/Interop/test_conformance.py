"""gRPC's interoperability test cases in both directions: grpcio calls the project's server, and the
project's client calls grpcio's; with and without TLS, gzip and identity."""

import os
import subprocess
from contextlib import contextmanager

import grpc
import pytest

from certificates import Authority
from gateway import LISTENING
from interop_cases import CASES, Code, Player, check_zeros, ends_with, exchange
from interop_peer import Careless, Service, handlers, serving
from interop_service import (
    PROTO,
    EchoStatus,
    OutputRequest,
    ResponseParameters,
    SimpleRequest,
    Stub,
    parameters,
    zeros,
)

RELEASE = PROTO.parent / ".build/release"
SERVER = os.environ.get("INTEROP_SERVER", str(RELEASE / "interop-server"))
CLIENT = os.environ.get("INTEROP_CLIENT", str(RELEASE / "interop-client"))
COMPRESSIONS = {"identity": None, "gzip": grpc.Compression.Gzip}
every_case = pytest.mark.parametrize("case", CASES)
every_compression = pytest.mark.parametrize("compression", COMPRESSIONS)


@pytest.fixture(scope="module", autouse=True)
def binaries():
    for path in (SERVER, CLIENT):
        assert os.access(path, os.X_OK), f"no binary at {path}: build it, or name it"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    authority.server = authority.issue("server")
    return authority


@pytest.fixture(scope="module", params=["cleartext", "tls"])
def tls(request, authority):
    """The authority whose certificates the connection is made with, or None."""
    return authority if request.param == "tls" else None


@contextmanager
def interop_server(tls=None, *words):
    """The address of a server of the project's."""
    if tls:
        certificate, key = tls.server
        words += ("--tls-certificate", certificate, "--tls-key", key)
    started = subprocess.Popen([SERVER, *map(str, words)], stdout=subprocess.PIPE, text=True)
    try:
        found = LISTENING.search(started.stdout.readline())
        assert found, "the server did not say where it listens"
        yield found[1]
    finally:
        started.terminate()
        started.wait(10)
        started.stdout.close()


@pytest.fixture(scope="module")
def server(tls):
    with interop_server(tls) as address:
        yield address


@pytest.fixture(scope="module")
def peer(tls):
    with serving(handlers(Service()), tls and tls.server) as address:
        yield address


@pytest.fixture
def stub():
    with interop_server() as address, Player(address).open_as_it_came() as channel:
        yield Stub(channel)


def run(words):
    return subprocess.run(words, capture_output=True, text=True, timeout=50, check=False)


def play(case, address, tls, compression="identity"):
    """What interop-client's playing of the case comes to."""
    words = [CLIENT, f"{'https' if tls else 'http'}://{address}", "--case", case]
    words += ["--compression", compression]
    if tls:
        words += ["--tls-authority", str(tls.certificate)]
    return run(words)


@every_compression
@every_case
def test_a_grpcio_client_passes_against_the_server(case, compression, server, tls):
    CASES[case](Player(server, tls and tls.certificate, COMPRESSIONS[compression]))


@every_compression
@every_case
def test_the_client_passes_against_a_grpcio_server(case, compression, peer, tls):
    done = play(case, peer, tls, compression)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@every_case
def test_the_client_passes_against_the_server(case, server, tls):
    done = play(case, server, tls, "gzip")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_client_says_in_one_line_why_a_case_failed():
    nothing = grpc.method_handlers_generic_handler("grpc.testing.Nothing", {})
    with serving(nothing) as address:
        done = play("empty_unary", address, None)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("empty_unary: UNIMPLEMENTED")


@pytest.mark.parametrize("case", [case for case in CASES if "_compressed_" in case])
def test_the_client_notices_a_server_that_ignores_compression(case):
    with serving(handlers(Careless())) as address:
        done = play(case, address, None)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"{case}: ")


def test_a_half_duplex_call_answers_after_the_half_close(stub):
    requests = iter([exchange(10, 20), exchange(30, 40)])
    answers = stub.HalfDuplexCall(requests, timeout=20)
    assert [len(got.message.payload.body) for got in answers] == [20, 40]


def test_a_cacheable_call_is_a_unary_call(stub):
    request = SimpleRequest(response_size=31415, payload=zeros(27182))
    check_zeros(stub.CacheableUnaryCall(request, timeout=20), 31415)


def test_answers_keep_their_interval(stub):
    wanted = [ResponseParameters(size=1, interval_us=60_000) for _ in range(3)]
    call = stub.StreamingOutputCall(OutputRequest(response_parameters=wanted), timeout=0.1)
    assert len([next(call)]) == 1
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert caught.value.code() == Code.DEADLINE_EXCEEDED


def test_a_stream_ends_with_the_status_that_was_asked_for(stub):
    request = OutputRequest(
        response_parameters=parameters(5),
        response_status=EchoStatus(code=Code.ABORTED.value[0], message="enough"),
    )
    call = stub.StreamingOutputCall(request, timeout=20)
    check_zeros(next(call), 5)
    assert ends_with(Code.ABORTED, lambda **_: call) == "enough"


def test_a_message_over_the_limit_is_refused():
    options = ("--max-message-bytes", 1000)
    with interop_server(None, *options) as address, Player(address).open() as channel:
        stub = Stub(channel)
        stub.UnaryCall(SimpleRequest(payload=zeros(900)), timeout=20)
        large = SimpleRequest(payload=zeros(1000))
        ends_with(Code.RESOURCE_EXHAUSTED, stub.UnaryCall, large)
        ends_with(Code.INVALID_ARGUMENT, stub.UnaryCall, SimpleRequest(response_size=1001))


def test_a_port_that_is_asked_for_is_taken():
    with interop_server() as address:
        port = address.rpartition(":")[2]
    with interop_server(None, "--port", port) as again:
        assert again == f"127.0.0.1:{port}"


def test_every_case_is_known_to_the_client():
    listed = run([CLIENT, "--help"]).stdout
    assert set(CASES) <= set(listed.replace(",", " ").replace(")", " ").split())
