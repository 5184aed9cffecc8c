"""Who may call: tokens, the token file, unix sockets, and addresses that are refused."""

import os
import signal
import socket
import stat
import time

import grpc
import pytest

from contract import Code, Stub, error_info, has_lines, info, pb, refused, run, until
from gateway import eventually, gateway


def refused_to_serve(*options, **settings):
    """The exit status and the one line that says why."""
    with gateway(*options, start=False, **settings) as g:
        g.launch()
        code = g.wait(10)
        assert code != 0
        lines = g.log().strip().splitlines()
        assert len(lines) == 1, f"not one line:\n{g.log()}"
        eventually(lambda: g.find_supervisor() is None, what="the end of its supervisor")
        return code, lines[0]


def call_with(g, *authorization):
    metadata = [("authorization", value) for value in authorization]
    return info(Stub(g.channel(), metadata))


@pytest.fixture(scope="module")
def guarded():
    with gateway() as g:
        yield g


def test_the_right_token_is_let_in(guarded):
    assert call_with(guarded, f"Bearer {guarded.token}").version


def test_a_call_without_a_token_is_unauthenticated(guarded):
    with refused(Code.UNAUTHENTICATED):
        call_with(guarded)


def test_a_wrong_token_is_unauthenticated(guarded):
    token = guarded.token
    wrong = (token[:-1], token + "x", token.swapcase(), token[1:], "x" * 5000)
    for value in [f"Bearer {each}" for each in wrong] + [
        f"Basic {token}",
        "Bearer",
        f"Bearer{token}",
    ]:
        with refused(Code.UNAUTHENTICATED):
            call_with(guarded, value)


@pytest.fixture
def other():
    """With all its patience for those who cannot say who they are."""
    with gateway() as g:
        yield g


def test_every_method_asks_for_the_token(other):
    stub = Stub(other.channel())
    process = pb.ProcessSpec(command="touch /tmp/procgate-unauthenticated")
    for call in (
        lambda: list(stub.Exec(pb.ExecRequest(process=process))),
        lambda: stub.StartProcess(pb.StartProcessRequest(process=process)),
        lambda: stub.GetProcess(pb.GetProcessRequest()),
        lambda: stub.ListProcesses(pb.ListProcessesRequest()),
        lambda: list(stub.StreamOutput(pb.StreamOutputRequest())),
        lambda: stub.WriteStdin(pb.WriteStdinRequest()),
        lambda: stub.Signal(pb.SignalRequest()),
        lambda: stub.StopProcess(pb.StopProcessRequest()),
        lambda: stub.Wait(pb.WaitRequest()),
        lambda: stub.DeleteProcess(pb.DeleteProcessRequest()),
        lambda: stub.GetGateway(pb.GetGatewayRequest()),
    ):
        with refused(Code.UNAUTHENTICATED):
            call()
    assert not os.path.exists("/tmp/procgate-unauthenticated")


def test_both_kinds_of_lines_name_a_token(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("plain-token-0123456789\nalice alices-token-0123456789\n")
    tokens.chmod(0o600)
    with gateway("--token-file", tokens) as g:
        for token in ("plain-token-0123456789", "alices-token-0123456789"):
            assert call_with(g, f"Bearer {token}").version
        for token in ("alice", "alice alices-token-0123456789"):
            with refused(Code.UNAUTHENTICATED):
                call_with(g, f"Bearer {token}")


def test_an_empty_token_file_lets_nobody_in_or_is_refused(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("\n\n")
    tokens.chmod(0o600)
    with gateway("--token-file", tokens, start=False) as g:
        g.launch()
        eventually(lambda: g.process.poll() is not None or "listening on" in g.log())
        if g.process.poll() is None:
            g.await_listeners()
            with refused(Code.UNAUTHENTICATED):
                call_with(g, "Bearer ")
        else:
            assert g.process.returncode != 0


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o606])
def test_a_token_file_that_others_can_read_is_refused(mode, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-that-others-know\n")
    tokens.chmod(mode)
    _, line = refused_to_serve("--token-file", tokens)
    assert str(tokens) in line
    assert "a-token-that-others-know" not in line


def test_a_token_file_that_is_not_there_is_refused(tmp_path):
    _, line = refused_to_serve("--token-file", tmp_path / "none")
    assert str(tmp_path / "none") in line


def test_a_token_is_made_once_with_mode_0600():
    with gateway(token="") as g:
        path = g.home / "procgate" / "token"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        made = path.read_text()
        token = made.split()[-1]
        assert len(token) >= 20
        assert call_with(g, f"Bearer {token}").version
        with refused(Code.UNAUTHENTICATED):
            call_with(g)
        g.close_channels()
        g.stop()
        g.start()
        assert path.read_text() == made
        assert call_with(g, f"Bearer {token}").version


def test_two_gateways_make_different_tokens():
    with gateway(token="") as one, gateway(token="") as other:
        tokens = {(g.home / "procgate" / "token").read_text() for g in (one, other)}
        assert len(tokens) == 2


def test_without_a_token_anybody_on_loopback_may_call():
    with gateway("--no-token") as g:
        assert call_with(g).version
        assert call_with(g, "Bearer whatever").version
        assert run(Stub(g.channel()), "echo x").stdout == b"x\n"


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
@pytest.mark.parametrize("token", [[], ["--no-token"]])
def test_a_public_address_without_tls_is_refused(address, token):
    _, line = refused_to_serve("--listen", address, *token)
    assert "tls" in line.lower()


def test_one_public_address_among_others_is_refused():
    refused_to_serve("--listen", "127.0.0.1:0", "--listen", "0.0.0.0:0")


def test_every_loopback_address_may_be_listened_on():
    options = [
        word for host in ("127.0.0.1", "127.0.0.2", "[::1]") for word in ("--listen", f"{host}:0")
    ]
    with gateway(*options, "--no-token", listeners=3) as g:
        assert len(set(g.targets)) == 3
        for target in g.targets:
            assert info(Stub(g.channel(target=target))).version


def test_localhost_by_name_is_loopback():
    with gateway("--listen", "localhost:0", "--no-token", listeners=1) as g:
        assert info(Stub(g.channel(target=g.address))).version


# A token file that changes


def write_tokens(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)


def reload(g):
    """The line that says what became of it."""
    before = len(g.log())
    g.process.send_signal(signal.SIGHUP)
    lines = lambda: [line for line in g.log()[before:].splitlines() if "load" in line]
    return eventually(lines, what="a line in the log")[0]


def test_tokens_are_read_again_on_sighup(tmp_path):
    tokens = tmp_path / "tokens"
    write_tokens(tokens, "alice old-token-of-alice", "bob token-of-bob")
    with gateway("--token-file", tokens) as g:
        bob = Stub(g.channel(), [("authorization", "Bearer token-of-bob")])
        running = bob.Exec(pb.ExecRequest(process=pb.ProcessSpec(command="echo on; read x")))
        until(running, has_lines(1))
        write_tokens(tokens, "alice new-token-of-alice")
        assert "reloaded" in reload(g)
        assert call_with(g, "Bearer new-token-of-alice").version
        for value in ("Bearer old-token-of-alice", "Bearer token-of-bob"):
            with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
                call_with(g, value)
        # Also on a connection that was let in before; a call that runs goes on.
        with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
            info(bob)
        assert running.is_active()
        running.cancel()


def test_a_token_file_that_went_bad_leaves_the_old_tokens(tmp_path):
    tokens = tmp_path / "tokens"
    write_tokens(tokens, "first-token")
    with gateway("--token-file", tokens) as g:
        for spoil, cause in (
            (lambda: tokens.write_text("\n"), "no token"),
            (lambda: tokens.write_text("one two three\n"), "three words"),
            (lambda: tokens.chmod(0o644), "others can read it"),
            (tokens.unlink, "No such file"),
        ):
            write_tokens(tokens, "second-token")
            spoil()
            line = reload(g)
            assert str(tokens) in line and cause in line, line
            assert call_with(g, "Bearer first-token").version
            with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
                call_with(g, "Bearer second-token")


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = refused_to_serve("--listen", f"127.0.0.1:{port}")
        assert str(port) in line
        assert code == 1


def test_the_state_directory_is_closed_to_others():
    with gateway() as g:
        assert stat.S_IMODE(g.state.stat().st_mode) == 0o700


def wrong_token(g):
    """What a wrong token is answered with, over a connection of its own: code and reason."""
    with pytest.raises(grpc.RpcError) as caught:
        info(Stub(g.channel(), [("authorization", "Bearer wrong")]))
    return caught.value.code(), error_info(caught.value).reason


def test_wrong_tokens_are_limited_over_all_connections_and_soon_forgiven():
    with gateway() as g:
        began = time.monotonic()
        answers = [wrong_token(g) for _ in range(60)]
        # Twenty at once, and one more each second.
        most = 20 + time.monotonic() - began
        invalid = (Code.UNAUTHENTICATED, "TOKEN_INVALID")
        throttled = (Code.RESOURCE_EXHAUSTED, "AUTHENTICATION_THROTTLED")
        assert answers[:20] == [invalid] * 20
        assert set(answers) == {invalid, throttled}
        assert answers.count(invalid) <= most
        # A right token is never held up by that.
        assert info(g.stub).version
        # However many there were, one more second is one more try.
        eventually(lambda: wrong_token(g) == invalid, what="another try")


def test_a_token_file_may_come_from_another_system(tmp_path):
    path = tmp_path / "tokens"
    path.write_bytes(
        "\ufeff# who may call\r\n\r\nanna\tfirst-token\r\n  second-token  \r\n\t# nobody\r\n".encode()
    )
    path.chmod(0o600)
    with gateway("--token-file", path) as g:
        for token in ("first-token", "second-token"):
            assert call_with(g, f"Bearer {token}").version
        for token in ("nobody", "anna", "#"):
            with refused(Code.UNAUTHENTICATED):
                call_with(g, f"Bearer {token}")
