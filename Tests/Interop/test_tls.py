"""TLS: versions, ALPN, client certificates, reloading."""

import os
import shutil
import signal
import socket
import ssl

import grpc
import pytest

from certificates import Authority
from contract import Code, MiB, Stub, begin, collect, has_lines, info, refused, run, until
from gateway import eventually, gateway, procgate
from wire import SERVICE, Connection

pytestmark = pytest.mark.issue3


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("strangers"), "Strangers")


def options(pair):
    return ("--tls-certificate", pair[0], "--tls-key", pair[1])


@pytest.fixture(scope="module")
def server(authority):
    return authority.issue("gateway")


@pytest.fixture(scope="module")
def secure(server):
    with gateway(*options(server)) as g:
        yield g


@pytest.fixture(scope="module")
def mutual(server, authority):
    with gateway(*options(server), "--tls-client-ca", authority.certificate) as g:
        yield g


def trusting(authority, client=None):
    certificate, key = (path.read_bytes() for path in client) if client else (None, None)
    return grpc.ssl_channel_credentials(authority.certificate.read_bytes(), key, certificate)


def local(g):
    return f"localhost:{g.port}"


def connect(g, credentials, target=None, metadata=None):
    channel = g.channel(target or g.address, credentials)
    return Stub(channel, g.metadata if metadata is None else metadata, deadline=20)


def context(authority, alpn=("h2",), **bounds):
    made = ssl.create_default_context(cafile=str(authority.certificate))
    if alpn:
        made.set_alpn_protocols(list(alpn))
    for name, value in bounds.items():
        setattr(made, name, value)
    return made


def test_calls_go_over_tls(secure, authority):
    stub = connect(secure, trusting(authority))
    assert run(stub, "echo secret").stdout == b"secret\n"
    assert len(run(stub, "head -c 20000000 /dev/zero").stdout) == 20_000_000
    data = os.urandom(4 * MiB)
    assert run(stub, "cat", stdin=data).stdout == data


def test_the_token_is_asked_over_tls_too(secure, authority):
    with refused(Code.UNAUTHENTICATED):
        info(connect(secure, trusting(authority), metadata=()))


def test_a_client_that_trusts_another_authority_does_not_connect(secure, strangers):
    with refused(Code.UNAVAILABLE):
        info(connect(secure, trusting(strangers)))


def test_cleartext_to_a_tls_port_gets_nothing(secure):
    with refused(Code.UNAVAILABLE):
        info(Stub(secure.channel(secure.address), secure.metadata))
    with socket.create_connection(("127.0.0.1", secure.port), 10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(2000))
        try:
            while data := plain.recv(4096):
                assert b"HTTP" not in data
        except ConnectionError:
            pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(secure, authority, version):
    made = context(authority, minimum_version=version, maximum_version=version)
    with Connection(secure.address, secure.token, context=made) as connection:
        assert connection.socket.version() == version.name.replace("_", ".")
        assert connection.socket.selected_alpn_protocol() == "h2"
        assert connection.call(SERVICE + "GetGateway").status == 0


def test_tls_1_1_is_not_spoken(secure, authority):
    made = context(authority)
    made.minimum_version = ssl.TLSVersion.TLSv1
    made.maximum_version = ssl.TLSVersion.TLSv1_1
    made.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Connection(secure.address, secure.token, context=made)


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)])
def test_a_client_without_alpn_h2_is_cut_off(secure, authority, alpn):
    try:
        with Connection(
            secure.address, secure.token, context=context(authority, alpn)
        ) as connection:
            assert connection.call(SERVICE + "GetGateway").closed
    except (ssl.SSLError, ConnectionError):
        pass


def test_a_handshake_that_never_comes_harms_nobody(secure, authority):
    silent = [socket.create_connection(("127.0.0.1", secure.port), 10) for _ in range(50)]
    silent[0].sendall(b"\x16\x03\x01\x02\x00\x01")
    assert info(connect(secure, trusting(authority))).version
    for plain in silent:
        plain.close()


def test_a_client_certificate_is_demanded_and_names_the_owner(mutual, authority):
    alice = trusting(authority, authority.issue("alice"))
    stub = connect(mutual, alice, local(mutual), metadata=())
    assert run(stub, "true").process.owner == "alice"


def test_a_token_is_judged_alone_whatever_certificate_comes_with_it(mutual, authority):
    credentials = trusting(authority, authority.issue("bob"))
    right = connect(mutual, credentials, local(mutual))
    assert run(right, "true").process.owner == ""
    for value in ("Bearer wrong", "Basic " + mutual.token, ""):
        wrong = connect(mutual, credentials, local(mutual), (("authorization", value),))
        with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
            info(wrong)


def test_a_token_is_refused_where_there_are_only_certificates(server, authority):
    words = (*options(server), "--tls-client-ca", authority.certificate)
    with gateway(*words, token="") as g:
        credentials = trusting(authority, authority.issue("carl"))
        assert info(connect(g, credentials, local(g))).version
        with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
            info(connect(g, credentials, local(g), (("authorization", "Bearer any"),)))


def test_a_client_without_a_certificate_is_refused(mutual, authority):
    with refused(Code.UNAVAILABLE):
        info(connect(mutual, trusting(authority), local(mutual)))


def test_a_certificate_of_another_authority_is_refused(mutual, authority, strangers):
    credentials = trusting(authority, strangers.issue("mallory"))
    with refused(Code.UNAVAILABLE):
        info(connect(mutual, credentials, local(mutual)))


def test_certificates_are_read_anew_on_sighup_without_dropping_a_connection(authority, tmp_path):
    first, second = authority.issue("first"), authority.issue("second")
    paths = tmp_path / "now.pem", tmp_path / "now.key"
    for source, target in zip(first, paths):
        shutil.copy(source, target)

    def presented(g):
        with socket.create_connection(("127.0.0.1", g.port), 10) as plain:
            with context(authority).wrap_socket(plain, server_hostname="localhost") as secured:
                return dict(item[0] for item in secured.getpeercert()["subject"])["commonName"]

    with gateway(*options(paths)) as g:
        stub = connect(g, trusting(authority))
        command = f"echo one; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo two"
        call = begin(stub, command)
        ran = until(call, has_lines(1))
        assert presented(g) == "first"
        for source, target in zip(second, paths):
            shutil.copy(source, target)
        assert presented(g) == "first"
        g.process.send_signal(signal.SIGHUP)
        eventually(lambda: presented(g) == "second", what="the new certificate")
        assert info(stub).version
        (tmp_path / "go").touch()
        collect(call, ran)
        assert ran.stdout == b"one\ntwo\n"


def test_a_bad_certificate_at_sighup_leaves_the_old_one(authority, tmp_path):
    paths = tmp_path / "now.pem", tmp_path / "now.key"
    for source, target in zip(authority.issue("stays"), paths):
        shutil.copy(source, target)
    with gateway(*options(paths)) as g:
        paths[0].write_text("garbage")
        before = len(g.log())
        g.process.send_signal(signal.SIGHUP)
        eventually(lambda: len(g.log()) > before, what="a line in the log")
        assert info(connect(g, trusting(authority))).version


def broken(authority, tmp_path, option):
    """What is wrong with one of the files, by its name."""
    certificate, key = authority.issue("other")
    damaged = tmp_path / "damaged.pem"
    lines = (key if option == "--tls-key" else certificate).read_text().splitlines()
    damaged.write_text("\n".join([lines[0], "AAAA", lines[-1]]) + "\n")
    yield "damaged", damaged
    yield "without what is meant", certificate if option == "--tls-key" else key
    yield "missing", None
    if option == "--tls-key":
        yield "of another certificate", key


@pytest.mark.parametrize("option", ["--tls-certificate", "--tls-key", "--tls-client-ca"])
def test_a_failed_reload_names_the_file_and_the_cause_and_changes_nothing(
    option, authority, tmp_path
):
    files = {"--tls-client-ca": tmp_path / "ca.pem", "--token-file": tmp_path / "tokens"}
    files |= {"--tls-certificate": tmp_path / "now.pem", "--tls-key": tmp_path / "now.key"}
    for source, target in zip((*authority.issue("now"), authority.certificate), (
        files["--tls-certificate"], files["--tls-key"], files["--tls-client-ca"],
    )):  # fmt: skip
        shutil.copy(source, target)
    files["--token-file"].write_text("first-token\n")
    files["--token-file"].chmod(0o600)
    right = files[option].read_bytes()
    words = [str(word) for pair in files.items() for word in pair]
    credentials = trusting(authority, authority.issue("client"))

    def call(g, token):
        stub = connect(g, credentials, local(g), (("authorization", f"Bearer {token}"),))
        return info(stub).version

    def reload(g):
        before = len(g.log())
        g.process.send_signal(signal.SIGHUP)
        told = lambda: [line for line in g.log()[before:].splitlines() if "load" in line]
        return eventually(told, what="a line in the log")[0]

    with gateway(*words, token="first-token") as g:
        assert call(g, "first-token")
        for what, wrong in broken(authority, tmp_path, option):
            files["--token-file"].write_text("second-token\n")
            if wrong is None:
                files[option].unlink()
            else:
                shutil.copy(wrong, files[option])
            line = reload(g)
            assert "cannot reload" in line and str(files[option]) in line, (what, line)
            assert "NIO" not in line.split(str(files[option]))[1].split(":")[1], (what, line)
            # The tokens were in order, and are not taken all the same.
            assert call(g, "first-token")
            with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
                call(g, "second-token")
        files[option].write_bytes(right)
        line = reload(g)
        assert "reloaded" in line and all(str(path) in line for path in files.values())
        assert call(g, "second-token")
        with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
            call(g, "first-token")


def test_sighup_without_tls_ends_nothing():
    with gateway() as g:
        g.process.send_signal(signal.SIGHUP)
        assert run(g.stub, "echo x").stdout == b"x\n"


@pytest.mark.parametrize("missing", [0, 1])
def test_a_certificate_without_its_key_is_refused(server, missing):
    with gateway(*options(server)[2 * missing :][:2], start=False) as g:
        g.launch()
        assert g.wait(10) != 0


def test_a_certificate_that_is_none_is_refused(server, tmp_path):
    bad = tmp_path / "bad.pem"
    bad.write_text("garbage")
    with gateway(*options((bad, server[1])), start=False) as g:
        g.launch()
        assert g.wait(10) == 1
        assert str(bad) in g.log()


def test_several_listeners_and_ipv6(server, authority):
    words = ("--listen", "127.0.0.1:0", "--listen", "[::1]:0")
    with gateway(*words, *options(server), listeners=2) as g:
        for target in g.targets:
            assert info(connect(g, trusting(authority), target)).version


def test_the_client_commands_speak_tls(mutual, authority):
    certificate, key = authority.issue("carol")
    words = ("--address", f"https://localhost:{mutual.port}", "--tls-ca", authority.certificate)
    pair = ("--tls-certificate", certificate, "--tls-key", key)
    environment = {"PROCGATE_TOKEN": mutual.token}
    done = procgate("exec", *words, *pair, "--", "echo over tls", environment=environment)
    assert done.stdout == b"over tls\n", done.stderr
    # The gateway refuses who shows no certificate; the caller refuses whom it does not trust.
    done = procgate("exec", *words, "--", "true", environment=environment)
    assert done.returncode == 77
    assert b"client certificate" in done.stderr
    done = procgate("exec", *words[:2], "--", "true", environment=environment)
    assert done.returncode == 69
    assert b"not trusted" in done.stderr


def test_a_peer_that_never_ends_its_handshake_does_not_hold_up_the_end(server):
    with gateway(*options(server)) as g:
        hello = bytes.fromhex("160301020001")  # the first bytes of a record that never ends
        with socket.create_connection(("127.0.0.1", g.port)) as half:
            half.sendall(hello)
            with socket.create_connection(("127.0.0.1", g.port)):
                g.terminate()
                assert g.wait(5) == 0


def test_a_peer_that_does_not_answer_the_end_of_tls_does_not_hold_up_the_end(server):
    with gateway(*options(server)) as g:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with Connection(g.address, g.token, context) as connection:
            assert connection.call(SERVICE + "GetGateway").status == 0
            g.terminate()
            assert g.wait(8) == 0
