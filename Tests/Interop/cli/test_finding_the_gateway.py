"""How a client command finds its gateway, and what it says where it does not."""

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from certificates import Authority
from gateway import gateway, procgate

# What Swift prints of its own values.
RAW = re.compile(r"\w+\(\w+: |NIOSSL|\berror:\d|lost\(|Optional\(")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("trusted"))


def refused(status, *words, **options):
    """Asks for the gateway's word, and gives the one line that came instead."""
    done = procgate("info", *words, **options)
    told = done.stderr.decode().strip()
    assert done.returncode == status, (words, told)
    assert len(told.splitlines()) == 1 and not RAW.search(told), told
    return told


@pytest.mark.parametrize(
    "address",
    [
        "localhost:+80", "localhost:0x50", "localhost: 80", "localhost:", ":80", "localhost:0",
        "localhost:65536", "", "::1:80", "[localhost]:80", "http://", "http://localhost:80/path",
        "ftp://localhost:80", "unix:", "unix:/" + "x" * 107,
    ],
)  # fmt: skip
def test_what_is_no_address_is_wrong_usage(address):
    assert f"'{address}'" in refused(64, "--address", address)
    if address:
        assert f"'{address}'" in refused(64, environment={"PROCGATE_ADDRESS": address})


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "http://[::1]:1/", "unix:/tmp/no"])
def test_an_address_where_nobody_listens_is_named(address):
    assert address in refused(69, "--address", address)


@pytest.mark.parametrize("host", ["127.99.99.99", "[::1%lo]"])
def test_a_host_alone_has_the_gateways_port(host):
    assert f"{host}:7070" in refused(69, "--address", host)


def test_a_server_that_speaks_no_grpc_is_no_gateway():
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            address = f"127.0.0.1:{server.server_port}"
            told = refused(69, "--address", address)
            assert address in told and "--address" in told and "codec" not in told
        finally:
            server.shutdown()
            serving.join()


def test_a_gateway_whose_certificate_is_not_trusted_is_not_reached(authority):
    certificate, key = authority.issue("here")
    with gateway("--tls-certificate", certificate, "--tls-key", key) as g:
        address = f"https://localhost:{g.port}"
        told = refused(69, "--address", address, environment={"PROCGATE_TOKEN": g.token})
        assert address in told and "--tls-ca" in told


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_gateway_with_tls_is_to_be_named_by_https(authority, scheme):
    certificate, key = authority.issue("plain")
    with gateway("--tls-certificate", certificate, "--tls-key", key) as g:
        told = refused(69, "--address", scheme + g.address)
        assert f"https://{g.address}" in told and "no gateway answers" not in told


def test_roots_are_no_advice_for_what_they_do_not_help(authority):
    with gateway() as g:
        told = refused(69, "--address", f"https://{g.address}", "--tls-ca", authority.certificate)
        assert "--tls-ca" not in told


def test_a_key_that_is_not_the_certificates_is_told_before_anybody_is_called(authority):
    certificate, _ = authority.issue("one")
    _, key = authority.issue("two")
    words = ("--tls-certificate", certificate, "--tls-key", key)
    told = refused(1, "--address", "https://localhost:1", *words)
    assert "do not belong together" in told
    assert "--tls-certificate and --tls-key" in told and "--tls-ca" not in told


def test_a_gateway_that_demands_a_certificate_says_no_raw_words(authority):
    certificate, key = authority.issue("demands")
    files = ("--tls-certificate", certificate, "--tls-key", key)
    with gateway(*files, "--tls-client-ca", authority.certificate) as g:
        words = ("--address", f"https://localhost:{g.port}", "--tls-ca", authority.certificate)
        done = procgate("info", *words, environment={"PROCGATE_TOKEN": g.token})
        # 77 where the alert came before the connection was gone.
        assert done.returncode in (69, 77)
        told = done.stderr.decode().strip()
        assert len(told.splitlines()) == 1 and not RAW.search(told), told


def test_the_file_that_is_wrong_is_the_one_that_is_named(authority, tmp_path):
    certificate, key = authority.issue("files")
    missing = tmp_path / "missing.pem"
    address = ("--address", "https://localhost:1")
    pair = {"--tls-certificate": certificate, "--tls-key": key}

    def told(**changed):
        changed = pair | {"--" + name.replace("_", "-"): path for name, path in changed.items()}
        return refused(1, *address, *(word for option in changed.items() for word in option))

    for name, wrong in (("tls_certificate", key), ("tls_key", certificate), ("tls_ca", key)):
        line = told(**{name: wrong})
        assert f"--{name.replace('_', '-')} {wrong}: there is no " in line
        assert f"{missing}: No such file or directory" in told(**{name: missing})
        assert f"{tmp_path}: not a file" in told(**{name: tmp_path})
