"""GetGateway, and the options of `procgate serve` and `procgate supervise`."""

import itertools
import os
import signal
import socket
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from contract import Code, Ran, begin, get, info, pb, refused, run, start, until
from gateway import BINARY, alive, arguments, children, eventually, gateway, procgate
from wire import SERVICE, Connection

INFO = SERVICE + "GetGateway"


def test_the_gateway_tells_its_defaults(shared):
    told = info(shared.stub)
    assert told.version
    assert len(told.instance_id) >= 8
    assert told.limits_enforced != pb.LIMITS_ENFORCEMENT_UNSPECIFIED
    assert told.max_running == 1024
    assert told.max_queued == 4096
    assert told.max_message_bytes == 16 << 20
    assert told.retain_bytes == 8 << 20
    assert told.retain_ms == 600_000
    assert told.keep_alive_ms == 20_000


def test_the_gateway_tells_its_options():
    options = (
        "--max-running=7 --max-queued=9 --max-message-bytes=1MiB --retain-bytes=2MiB "
        "--retain-time=90s --keep-alive=1500ms"
    )
    with gateway(*options.split()) as g:
        told = info(g.stub)
        assert (told.max_running, told.max_queued) == (7, 9)
        assert told.max_message_bytes == 1 << 20
        assert told.retain_bytes == 2 << 20
        assert told.retain_ms == 90_000
        assert told.keep_alive_ms == 1500


@pytest.mark.parametrize(
    ("written", "told"), [("250ms", 250), ("5s", 5000), ("2m", 120_000), ("1h", 3_600_000)]
)
def test_durations_are_written_with_their_unit(written, told):
    with gateway("--retain-time", written) as g:
        assert info(g.stub).retain_ms == told


@pytest.mark.parametrize(
    ("written", "told"), [("64KiB", 65536), ("4MiB", 4 << 20), ("1GiB", 1 << 30)]
)
def test_sizes_are_written_with_their_unit(written, told):
    with gateway("--max-message-bytes", written) as g:
        assert info(g.stub).max_message_bytes == told


def test_every_option_can_come_from_the_environment(tmp_path):
    state = tempfile.mkdtemp(prefix="procgate-env-")
    tokens = tmp_path / "tokens"
    tokens.write_text("from-the-environment\n")
    tokens.chmod(0o600)
    environment = {
        "PROCGATE_LISTEN": "127.0.0.1:0",
        "PROCGATE_STATE_DIRECTORY": state,
        "PROCGATE_TOKEN_FILE": str(tokens),
        "PROCGATE_MAX_RUNNING": "5",
        "PROCGATE_KEEP_ALIVE": "3s",
        "PROCGATE_RETAIN_BYTES": "3MiB",
        "PROCGATE_SHELL": "/bin/bash",
        "PROCGATE_LOG_FORMAT": "json",
    }
    with gateway(environment=environment, token="from-the-environment", state=state) as g:
        told = info(g.stub)
        assert (told.max_running, told.keep_alive_ms, told.retain_bytes) == (5, 3000, 3 << 20)
        assert b"bash" in run(g.stub, "echo $BASH").stdout
        assert os.path.exists(f"{state}/supervisor.sock")
    os.path.exists(state) and subprocess.run(["rm", "-r", state], check=True)


def test_an_option_of_the_command_line_comes_before_the_environment():
    with gateway("--max-running", "6", environment={"PROCGATE_MAX_RUNNING": "5"}) as g:
        assert info(g.stub).max_running == 6


def test_a_bad_value_from_the_environment_is_refused():
    with gateway(environment={"PROCGATE_MAX_RUNNING": "many"}, start=False) as g:
        g.launch()
        assert g.wait(10) == 64


def test_the_version_is_told():
    done = procgate("--version")
    assert done.returncode == 0
    with gateway() as g:
        assert info(g.stub).version in done.stdout.decode()
    assert "0.1.0" in done.stdout.decode()


def test_help_names_every_option_of_serve():
    done = procgate("serve", "--help")
    assert done.returncode == 0
    text = done.stdout.decode()
    for option in (
        "listen token-file no-token tls-certificate tls-key tls-client-ca state-directory "
        "default-user allow-user shell max-running max-queued grace-period resume-window "
        "retain-bytes retain-time max-output-memory max-message-bytes max-buffer-memory max-connections max-streams "
        "keep-alive drain-timeout keep-processes metrics-listen log-level log-format"
    ).split():
        assert f"--{option}" in text, option


def test_help_names_every_command():
    text = procgate("--help").stdout.decode()
    for (
        command
    ) in "serve supervise exec start ps show logs wait attach stdin signal stop rm info".split():
        assert command in text.split(), command


@pytest.mark.parametrize(
    "words",
    [
        "nothing",
        "serve --nothing",
        "serve --max-buffer-memory 1KiB",
        "serve extra",
        "serve --max-running many",
        "serve --max-running -1",
        "serve --keep-alive 5",
        "serve --keep-alive 5parsecs",
        "serve --retain-bytes 5XB",
        "serve --listen nonsense",
        "serve --listen 127.0.0.1:99999",
        "serve --log-format yaml",
        "serve --log-level loud",
        "serve --token-file /tmp/x --no-token",
    ],
)
def test_wrong_usage_is_exit_status_64_and_one_line(words, tmp_path):
    with gateway(start=False) as g:  # for an environment that touches nothing
        done = procgate(*words.split(), environment={"XDG_RUNTIME_DIR": str(g.home)})
    assert done.returncode == 64, done.stderr
    assert len(done.stderr.decode().strip().splitlines()) == 1, done.stderr.decode()


def test_ids_of_the_instance_stay_while_the_supervisor_does():
    with gateway() as g:
        first = info(g.stub).instance_id
        g.kill()
        g.start()
        assert info(g.stub).instance_id == first
    with gateway() as g:
        assert info(g.stub).instance_id != first


def test_a_supervisor_can_be_started_ahead(tmp_path):
    with gateway(start=False) as g:
        g.state.mkdir(mode=0o700)
        words = [BINARY, "supervise", "--state-directory", str(g.state), "--max-running", "3"]
        with subprocess.Popen(words, env=g.environment, stdin=subprocess.DEVNULL) as ahead:
            eventually((g.state / "supervisor.sock").exists, what="the supervisor's socket")
            g.start()
            assert g.supervisor == ahead.pid
            assert info(g.stub).max_running == 3
            run(g.stub, "true")
            g.close_channels()
            g.process.terminate()
            assert g.wait() == 0
            if ahead.poll() is None:
                ahead.terminate()
            ahead.wait(10)


def test_the_supervisor_is_detached_from_the_gateway(shared):
    def session(pid):
        return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[3])

    assert session(shared.supervisor) != session(shared.pid)
    assert arguments(shared.supervisor)[1] == "supervise"


def test_a_supervisor_that_dies_is_replaced_and_its_processes_are_gone():
    with gateway() as g:
        before = info(g.stub).instance_id
        process = start(g.stub, "sleep 1000")
        events = begin(g.stub, "sleep 1000")
        ran = until(events, lambda ran: ran.started, Ran())
        mine = {process.pid, ran.started.pid}
        os.kill(g.supervisor, signal.SIGKILL)
        try:
            for event in events:
                ran.add(event)
            assert ran.process.termination_reason == pb.TERMINATION_REASON_LOST
        except Exception as error:
            assert getattr(error, "code", lambda: None)() in (Code.UNAVAILABLE, Code.ABORTED), error

        def replaced():
            try:
                return info(g.stub).instance_id != before
            except Exception:
                return False

        eventually(replaced, what="another supervisor")
        assert run(g.stub, "echo again").stdout == b"again\n"
        try:
            assert get(g.stub, process.id).termination_reason == pb.TERMINATION_REASON_LOST
        except Exception as error:
            assert error.code() == Code.NOT_FOUND
        for pid in mine:
            alive(pid) and os.kill(pid, signal.SIGKILL)
        eventually(lambda: not any(map(alive, mine)))
        for pid in children(os.getpid()):
            if pid in mine:
                os.waitpid(pid, 0)


def test_max_connections_bounds_the_connections():
    with gateway("--max-connections", "5") as g:
        held = [Connection(g.address, g.token) for _ in range(5)]
        assert all(connection.call(INFO).status == 0 for connection in held)
        more = Connection(g.address, g.token)
        try:
            assert more.call(INFO, timeout=5).closed
        except AssertionError as error:
            assert "nothing came" in str(error)  # it waits for a place
        more.close()
        assert held[0].call(INFO).status == 0
        held.pop().close()

        def room():
            with Connection(g.address, g.token) as connection:
                try:
                    return connection.call(INFO, timeout=2).status == 0
                except AssertionError:
                    return False

        eventually(room, what="a place for another connection")
        for connection in held:
            connection.close()


def test_max_streams_bounds_the_calls_of_a_connection():
    with gateway("--max-streams", "3") as g:
        with Connection(g.address, g.token) as connection:
            assert connection.call(INFO).status == 0
            assert connection.h2.remote_settings.max_concurrent_streams == 3
        stub = g.connect()
        with ThreadPoolExecutor(9) as pool:  # the client waits for room
            outputs = pool.map(lambda i: run(stub, f"sleep 0.1; echo {i}").stdout, range(9))
            assert list(outputs) == [b"%d\n" % i for i in range(9)]


def test_log_lines_are_json_where_that_is_asked_for():
    import json

    with gateway("--log-format", "json", "--log-level", "debug") as g:
        run(g.stub, "true")
        lines = [line for line in g.log().splitlines() if line.strip()]
        assert lines
        for line in lines:
            if not line.startswith("listening on"):
                assert isinstance(json.loads(line), dict)


def test_a_log_level_leaves_out_what_is_below_it():
    with gateway("--log-level", "error") as g:
        run(g.stub, "true")
        assert len(g.log().splitlines()) <= 1


def test_a_port_can_be_taken_again_at_once():
    with gateway() as g:
        port = g.port
        for _ in range(3):
            connection = socket.create_connection(("127.0.0.1", port))
            run(g.stub, "true")
            g.close_channels()
            g.kill()
            g.restart()
            assert g.port == port
            connection.close()


def test_the_default_user_and_shell_of_the_supervisor_hold():
    with gateway("--default-user", "daemon", "--shell", "/bin/bash") as g:
        lines = run(g.stub, "id -un; echo $BASH", cwd="/").lines
        assert lines[0] == "daemon"
        assert "bash" in lines[1]


def test_requests_from_many_connections_at_once():
    with gateway() as g:
        connections = [Connection(g.address, g.token) for _ in range(200)]
        ids = [connection.request(INFO) for connection in connections]
        for connection, id in itertools.zip_longest(connections, ids):
            assert connection.response(id).status == 0
            connection.close()
    with refused(Code.UNAVAILABLE):
        info(g.connect())
