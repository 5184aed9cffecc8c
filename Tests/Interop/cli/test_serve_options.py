"""What `serve` says of options that it cannot work with: one line that names the right one."""

import os
import signal
import socket

import pytest

from certificates import Authority
from gateway import eventually, gateway, procgate


def refused(status, *words, **settings):
    with gateway(*words, start=False, **settings) as g:
        g.launch()
        assert g.wait(15) == status, g.log()
        told = g.log().strip()
        assert len(told.splitlines()) == 1, told
        return told


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    "option", ["--state-directory", "--token-file", "--default-user", "--shell"]
)
def test_an_empty_value_is_wrong_usage(option):
    assert option in refused(64, option, "")


def test_a_state_directory_whose_socket_has_no_room_is_wrong_usage(tmp_path):
    path = "/tmp/" + "x" * 87
    told = refused(64, "--state-directory", path)
    assert "91 bytes" in told and path in told
    done = procgate("supervise", "--state-directory", path)
    assert done.returncode == 64 and b"91 bytes" in done.stderr
    assert not os.path.exists(path)


def test_why_a_supervisor_cannot_begin_is_told_once(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir(mode=0o700)
    link.symlink_to(real)
    reason = f"{link} is no directory; --state-directory names another"
    assert refused(1, "--state-directory", link) == f"procgate: no supervisor: {reason}"
    done = procgate("supervise", "--state-directory", link)
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.decode() == f"procgate: cannot supervise: {reason}\n"


def test_a_supervisor_beside_another_says_so():
    with gateway() as g:
        done = procgate("supervise", "--state-directory", g.state)
        assert done.returncode == 1
        told = f"procgate: cannot supervise: a supervisor runs in {g.state} already\n"
        assert done.stderr.decode() == told


def test_a_socket_path_without_room_is_wrong_usage():
    assert "107 bytes" in refused(64, "--listen", "unix:/tmp/" + "x" * 110)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become another user")
def test_a_runtime_directory_that_is_not_absolute_is_none(tmp_path):
    for value in ("run", "./run"):
        done = procgate(
            "serve", "--listen", "127.0.0.1:0", environment={"XDG_RUNTIME_DIR": value},
            user="daemon", cwd="/",
        )  # fmt: skip
        assert done.returncode == 1
        assert b"XDG_RUNTIME_DIR is no absolute path" in done.stderr
    done = procgate(
        "serve", "--listen", "127.0.0.1:0", environment={"XDG_RUNTIME_DIR": ""}, user="daemon",
        cwd="/",
    )  # fmt: skip
    assert done.returncode == 1 and len(done.stderr.decode().splitlines()) == 1
    assert b"XDG_RUNTIME_DIR is not set: " in done.stderr


def test_a_default_user_that_the_host_does_not_know_is_refused():
    assert "--default-user nosuch" in refused(1, "--default-user", "nosuch")
    done = procgate("supervise", "--state-directory", "/tmp/procgate-none", "--default-user", "no")
    assert done.returncode == 1 and b"--default-user no:" in done.stderr
    assert not os.path.exists("/tmp/procgate-none")


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "example.org:9464"])
def test_metrics_are_not_served_to_other_hosts(address):
    assert "--metrics-listen" in refused(1, "--metrics-listen", address)


@pytest.mark.parametrize("place", [0, 1])
def test_of_several_listeners_the_one_that_fails_is_named(taken, place):
    addresses = ["127.0.0.1:0", "[::1]:0"]
    addresses.insert(place, f"127.0.0.1:{taken}")
    words = [word for address in addresses for word in ("--listen", address)]
    told = refused(1, *words)
    assert told == f"procgate: cannot listen on 127.0.0.1:{taken}: Address already in use"


def test_a_metrics_address_that_is_taken_is_named(taken):
    words = ("--listen", "127.0.0.1:0", "--metrics-listen", f"127.0.0.1:{taken}")
    assert f"cannot listen on 127.0.0.1:{taken}: Address already in use" in refused(1, *words)


def test_the_pem_file_that_is_wrong_is_the_one_that_is_named(tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("named")
    right = {
        "--tls-certificate": certificate, "--tls-key": key,
        "--tls-client-ca": authority.certificate,
    }  # fmt: skip
    for option in right:
        for wrong in (key if option != "--tls-key" else certificate, tmp_path / "missing"):
            words = [word for pair in (right | {option: wrong}).items() for word in pair]
            told = refused(1, *words)
            assert told.startswith(f"procgate: {option} {wrong}: "), told


def test_sighup_says_what_was_read_anew(tmp_path):
    def answer(g):
        before = len(g.log())
        g.process.send_signal(signal.SIGHUP)
        return eventually(lambda: g.log()[before:].endswith("\n") and g.log()[before:])

    with gateway() as g:
        told = answer(g)
        assert "nothing to read anew" in told and "notice" in told
    certificate, key = Authority(tmp_path / "ca").issue("anew")
    with gateway("--tls-certificate", certificate, "--tls-key", key) as g:
        assert "certificates read anew" in answer(g)
        certificate.unlink()
        told = answer(g)
        assert "the certificates stay" in told and str(certificate) in told
