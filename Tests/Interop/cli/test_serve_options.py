"""What `serve` says of options that it cannot work with: one line that names the right one."""

import contextlib
import fcntl
import os
import pty
import signal
import socket
import termios

import pytest

from certificates import Authority
from gateway import alive, eventually, gateway, procgate


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

    with gateway("--no-token") as g:
        told = answer(g)
        assert "nothing to reload" in told and "notice" in told
    certificate, key = Authority(tmp_path / "ca").issue("anew")
    with gateway("--tls-certificate", certificate, "--tls-key", key) as g:
        told = answer(g)
        assert "reloaded" in told
        assert all(str(path) in told for path in (g.home / "token", certificate, key))
        certificate.unlink()
        told = answer(g)
        assert "certificates in use stay" in told and f"{certificate}: No such file" in told


@pytest.mark.parametrize("option", ["--allow-user", "--default-user"])
def test_a_user_name_that_no_user_has_is_refused_by_its_length(option):
    told = refused(64, option, "x" * 257)
    assert option in told and "256 bytes" in told and "257" in told
    # This one is looked up.
    if option == "--default-user":
        assert "no such user" in refused(1, option, "x" * 256)
    else:
        with gateway(option, "x" * 256):
            pass


@pytest.mark.parametrize("size", ["0B", "1B", "1", "65535B", "1025MiB"])
def test_a_largest_message_in_which_no_request_fits_is_wrong_usage(size):
    told = refused(64, "--max-message-bytes", size)
    assert "--max-message-bytes is between 64KiB and 1GiB" in told


def test_every_rpc_works_with_the_smallest_messages():
    with gateway("--max-message-bytes", "64KiB") as g:
        client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        for words in (("info",), ("exec", "--", "echo", "x" * 60_000), ("ps",)):
            done = procgate(*words, environment=client)
            assert done.returncode == 0, done.stderr


def test_a_token_demanded_by_a_socket_contradicts_no_token(tmp_path):
    address = f"unix:{tmp_path}/a.sock,token"
    assert "--no-token" in refused(64, "--listen", address, "--no-token")
    assert "without a token" in refused(64, "--metrics-listen", address)
    assert "comma" in refused(64, "--listen", f"unix:{tmp_path}/a.sock,tokens")


class Terminal:
    """A pseudo-terminal that becomes the controlling one of what is started with `take`."""

    def __init__(self):
        self.master, self.slave = pty.openpty()

    def take(self):
        os.setsid()
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

    def close(self):
        for end in (self.master, self.slave):
            os.close(end)


@contextlib.contextmanager
def in_a_terminal(before=lambda: None, **settings):
    terminal = Terminal()

    def take():
        terminal.take()
        before()

    with gateway(start=False, **settings) as g:
        g.popen = {"preexec_fn": take}
        g.start()
        g.terminal = terminal
        yield g


def test_a_gateway_whose_terminal_is_closed_ends_in_order():
    with in_a_terminal() as g:
        supervisor = g.supervisor
        id = procgate(
            "start", "--", "sleep 1000",
            environment={"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token},
        )  # fmt: skip
        assert id.returncode == 0
        g.terminal.close()
        assert g.wait() == 0
        assert "the terminal is gone" in g.log()
        eventually(lambda: not alive(supervisor), what="the supervisor's end")


def test_a_sighup_by_hand_reloads_in_a_terminal():
    with in_a_terminal() as g:
        for count in (1, 2):
            g.process.send_signal(signal.SIGHUP)
            eventually(lambda: g.log().count("reloaded") == count, what="another reload")
        g.close_channels()
        g.stop()
        g.terminal.close()


def test_a_gateway_under_nohup_outlives_its_terminal():
    with in_a_terminal(lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as g:
        g.terminal.close()
        # The kernel has sent a SIGHUP by now, or this one is the first.
        g.process.send_signal(signal.SIGHUP)
        eventually(lambda: "reloaded" in g.log(), what="a reload")
        assert g.process.poll() is None
