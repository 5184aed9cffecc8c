"""The client commands of the command line."""

import json
import os
import pty
import signal
import subprocess

import pytest

from contract import KILLED, RUNNING, follow, get, has_lines, listing, run, start, stop, until
from gateway import BINARY, eventually, gateway, procgate


@pytest.fixture(scope="module")
def served():
    with gateway() as g:
        g.client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        yield g


@pytest.fixture
def command(served):
    def call(*words, **options):
        return procgate(*words, environment=served.client, **options)

    return call


def popen(g, *words, **options):
    environment = os.environ | g.client
    return subprocess.Popen([BINARY, *words], env=environment, **options)


# exec


def test_exec_gives_one_word_to_the_shell(command):
    done = command("exec", "--", "echo $((40 + 2)); echo err >&2")
    assert (done.stdout, done.stderr, done.returncode) == (b"42\n", b"err\n", 0)


def test_exec_runs_several_words_directly(command):
    assert command("exec", "--", "echo", "$HOME", "a  b").stdout == b"$HOME a  b\n"


def test_exec_exits_as_the_command_did(command):
    for code in (0, 1, 3, 255):
        assert command("exec", "--", f"exit {code}").returncode == code
    assert command("exec", "--", "kill -9 $$").returncode == 137
    assert command("exec", "--", "kill -TERM $$").returncode == 143
    assert command("exec", "--timeout", "200ms", "--", "sleep 1000").returncode == 124


def test_exec_takes_its_options(command):
    done = command(
        "exec", "--cwd", "/tmp", "--env", "A=1", "--env", "B=x=y", "--label", "from=cli",
        "--run-as", "daemon", "--", "pwd; echo $A $B; id -un",
    )  # fmt: skip
    assert done.stdout == b"/tmp\n1 x=y\ndaemon\n"


def test_exec_gives_its_stdin_where_asked(command):
    assert command("exec", "-i", "--", "cat", input=b"typed \0\xff").stdout == b"typed \0\xff"
    data = os.urandom(3_000_000)
    assert command("exec", "-i", "--", "cat", input=data).stdout == data


def test_exec_without_i_has_an_empty_stdin(command):
    assert command("exec", "--", "wc -c", input=b"not this").stdout.strip() == b"0"


def test_exec_streams_binary_output_whole(command):
    done = command("exec", "--", "seq 1 500000")
    assert done.stdout == "".join(f"{i}\n" for i in range(1, 500001)).encode()


def test_exec_gives_an_interrupt_to_the_process(served):
    words = (
        "exec",
        "--",
        "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.02; done",
    )
    with popen(served, *words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
        assert client.stdout.readline() == b"ready\n"
        client.send_signal(signal.SIGINT)
        assert client.stdout.read() == b"caught\n"
        assert client.wait(10) == 9


def test_exec_that_is_killed_kills_its_process(served):
    words = ("exec", "--label", "cli=killed", "--", "echo ready; sleep 1000")
    with popen(served, *words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
        assert client.stdout.readline() == b"ready\n"
        (process,) = listing(served.stub, labels={"cli": "killed"}).processes
        assert process.status == RUNNING
        client.kill()
    gone = lambda: get(served.stub, process.id).ended_at
    eventually(gone, 30, "the end of a process whose caller was killed")
    assert get(served.stub, process.id).status == KILLED


def test_exec_of_what_is_not_there_tells_why(command):
    done = command("exec", "--", "/no/such/command", "x")
    assert done.returncode == 127
    assert len(done.stderr.decode().strip().splitlines()) == 1


def test_exec_refused_tells_why_in_one_line(command):
    done = command("exec", "--cwd", "/no/such/directory", "--", "true")
    assert done.returncode == 1
    assert len(done.stderr.decode().strip().splitlines()) == 1
    assert b"/no/such/directory" in done.stderr


# The others


def test_start_prints_the_id(command, served):
    id = command("start", "--", "echo started; exit 3").stdout.decode().strip()
    assert get(served.stub, id).id == id
    done = command("wait", id)
    assert done.returncode in (0, 3)
    assert command("logs", id).stdout == b"started\n"


def test_ps_is_a_table(command, served):
    process = start(served.stub, "sleep 1000", labels={"cli": "ps"})
    done = command("ps", "--label", "cli=ps")
    assert done.returncode == 0
    shown = process.id[:12]
    assert shown + "  running" in done.stdout.decode()
    assert "sleep 1000" in done.stdout.decode()
    assert shown in command("ps", "--status", "running").stdout.decode()
    assert shown not in command("ps", "--status", "exited").stdout.decode()
    lines = command("ps", "--limit", "1").stdout.decode().strip().splitlines()
    assert len(lines) <= 2
    stop(served.stub, process.id, grace_ms=0)


def test_ps_prints_json(command, served):
    id = run(served.stub, "true", labels={"cli": "json"}).id
    text = command("ps", "--json", "--label", "cli=json").stdout.decode()
    try:
        told = json.loads(text)
    except json.JSONDecodeError:
        told = [json.loads(line) for line in text.splitlines()]
    assert id in json.dumps(told)


def test_logs_prints_both_streams(command, served):
    id = run(served.stub, "echo out; sleep 0.05; echo err >&2").id
    done = command("logs", id)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert command("logs", id, "--from-seq", "2").stdout == b""


def test_logs_ends_with_what_is_there_unless_it_follows(served, command):
    process = start(served.stub, "echo one; read x; echo two")
    until(follow(served.stub, process.id), has_lines(1))
    assert command("logs", process.id).stdout == b"one\n"
    words = ("logs", process.id, "--follow")
    with popen(served, *words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
        assert client.stdout.readline() == b"one\n"
        command("stdin", process.id, input=b"\n")
        assert client.stdout.read() == b"two\n"
        assert client.wait(10) == 0


def test_stop_stops_each(command, served):
    ids = [start(served.stub, "sleep 1000").id for _ in range(3)]
    assert command("stop", *ids).returncode == 0
    assert {get(served.stub, id).status for id in ids} == {KILLED}


def test_each_that_cannot_be_stopped_is_told_once(command, served):
    id = start(served.stub, "sleep 1000").id
    done = command("stop", "nobody", id, "noone", "nobody", id)
    assert done.returncode == 1
    assert done.stdout.decode().split() == [id]
    lines = done.stderr.decode().strip().splitlines()
    assert len(lines) == 2 and "nobody" in lines[0] and "noone" in lines[1]


def test_stop_takes_a_grace_time(command, served):
    deaf = "trap '' TERM; echo x; while :; do sleep 0.02; done"
    process = start(served.stub, deaf, grace_ms=3_600_000)
    until(follow(served.stub, process.id), has_lines(1))
    assert command("stop", "--grace", "300ms", process.id).returncode == 0
    assert get(served.stub, process.id).signal_name == "SIGKILL"


def test_signal_and_rm_and_show(command, served):
    id = start(served.stub, "sleep 1000", labels={"cli": "show"}).id
    assert "sleep 1000" in command("show", id).stdout.decode()
    assert command("signal", id, "TERM").returncode == 0
    eventually(lambda: get(served.stub, id).ended_at)
    assert json.loads(command("show", id, "--json").stdout)
    assert command("rm", id).returncode == 0
    done = command("show", id)
    assert done.returncode == 1
    assert len(done.stderr.decode().strip().splitlines()) == 1


def test_stdin_writes_a_file(command, served, tmp_path):
    id = start(served.stub, "wc -c").id
    (tmp_path / "input").write_bytes(bytes(100_000))
    assert command("stdin", id, tmp_path / "input").returncode == 0
    assert command("logs", "--follow", id).stdout.strip() == b"100000"


def test_info_tells_of_the_gateway(command, served):
    done = command("info")
    assert done.returncode == 0
    assert b"0.1.0" in done.stdout
    assert "0.1.0" in json.dumps(json.loads(command("info", "--json").stdout))


def test_completions_come_with_it():
    done = procgate("--generate-completion-script", "bash")
    assert done.returncode == 0
    assert b"procgate" in done.stdout


@pytest.mark.issue3
def test_attach_follows_a_process_and_gives_it_input(served):
    id = start(served.stub, "while read x; do echo got $x; done; exit 4").id
    with popen(served, "attach", id, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        client.stdin.write(b"one\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"got one\n"
        client.stdin.close()
        assert client.wait(10) in (0, 4)
    assert eventually(lambda: get(served.stub, id).ended_at)


@pytest.mark.issue3
def test_ps_watch_shows_changes(served):
    words = ("ps", "--watch", "--label", "cli=watch")
    with popen(served, *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as client:
        id = run(served.stub, "true", labels={"cli": "watch"}).id
        seen = b""
        while id[:12].encode() not in seen:
            data = os.read(client.stdout.fileno(), 4096)
            assert data, seen
            seen += data
        client.terminate()


@pytest.mark.issue3
def test_exec_t_makes_a_terminal_session(served):
    controller, terminal = pty.openpty()
    words = ("exec", "-t", "--", "test -t 0 && stty size && echo $TERM")
    with popen(served, *words, stdin=terminal, stdout=terminal, stderr=terminal) as client:
        os.close(terminal)
        assert client.wait(15) == 0
        told = os.read(controller, 4096)
        os.close(controller)
    assert b"xterm" in told or b"0 0" in told


# Finding the gateway


def test_a_gateway_that_is_not_there_is_exit_status_69(served):
    for words in (("info",), ("exec", "--", "true"), ("ps",)):
        environment = {"PROCGATE_ADDRESS": "127.0.0.1:1", "PROCGATE_TOKEN": "x"}
        done = procgate(*words, environment=environment, timeout=45)
        assert done.returncode == 69, done.stderr
        assert len(done.stderr.decode().strip().splitlines()) == 1


def test_a_gateway_that_refuses_the_caller_is_exit_status_77(served):
    environment = served.client | {"PROCGATE_TOKEN": "wrong"}
    for words in (("info",), ("exec", "--", "true"), ("ps",)):
        done = procgate(*words, environment=environment)
        assert done.returncode == 77, done.stderr
        assert len(done.stderr.decode().strip().splitlines()) == 1


def test_the_address_and_the_token_file_are_options_too(served):
    tokens = served.home / "token"
    done = procgate("info", "--address", served.address, "--token-file", tokens)
    assert done.returncode == 0, done.stderr


def test_wrong_usage_is_exit_status_64(command):
    for words in (
        ("exec",),
        ("stop",),
        ("ps", "--status", "nonsense"),
        ("show",),
        ("exec", "--timeout", "x", "--", "a"),
    ):
        done = command(*words)
        assert done.returncode == 64, (words, done.stderr)
        assert len(done.stderr.decode().strip().splitlines()) == 1


def test_wrong_usage_names_the_values_there_are(command):
    told = command("ps", "--status", "nonsense").stderr.decode()
    assert "running" in told and "timed_out" in told


def test_a_certificate_without_its_key_is_wrong_usage(command):
    done = command("info", "--tls-certificate", "/no/such/file")
    assert done.returncode == 64, done.stderr
