"""How `procgate exec` is left: by ^C, by TERM, and by a gateway or a supervisor that does not answer."""

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest
from cli_screen import screen

from contract import get, listing
from gateway import BINARY, alive, eventually, gateway, procgate

DEAF = "trap '' INT; echo up; while :; do sleep 0.1; done"


@pytest.fixture
def served():
    with gateway("--resume-window", "100ms") as g:
        g.client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        yield g


def popen(g, *words, **options):
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | options
    return subprocess.Popen([BINARY, *words], env=os.environ | g.client, **options)


def mask(pid, name):
    """A set of signals of a process, as the kernel shows it."""
    try:
        with open(f"/proc/{pid}/status") as status:
            return int(re.search(name + r":\s+(\w+)", status.read()).group(1), 16)
    except OSError:
        return 0


def interrupt(client):
    """Returns when the signal has been taken: another one is another one."""
    bit = 1 << (signal.SIGINT - 1)
    eventually(lambda: client.poll() is not None or mask(client.pid, "SigCgt") & bit)
    client.send_signal(signal.SIGINT)
    eventually(lambda: client.poll() is not None or not mask(client.pid, "ShdPnd") & bit)


class Stopped:
    """The gateway or the supervisor, stopped by SIGSTOP."""

    def __init__(self, g, who):
        self.pid = g.pid if who == "gateway" else g.supervisor

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)
        eventually(lambda: all(state == "T" for state in self.states()))

    def states(self):
        """Of its threads."""
        for path in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            yield path.read_text().rpartition(")")[2].split()[0]

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGCONT)


def label(name):
    return ("--label", f"leaving={name}")


def labelled(g, name):
    return listing(g.stub, labels={"leaving": name}).processes


@pytest.mark.parametrize("who", ["gateway", "supervisor"])
def test_the_third_interrupt_leaves_a_gateway_that_does_not_answer(served, who):
    with popen(served, "exec", *label("third"), "--", DEAF) as client:
        assert client.stdout.readline() == b"up\n"
        with Stopped(served, who):
            interrupt(client)
            interrupt(client)
            assert client.poll() is None
            interrupt(client)
            assert client.wait(10) == 130
    (process,) = labelled(served, "third")
    eventually(lambda: get(served.stub, process.id).ended_at, 20)


@pytest.mark.parametrize("who", ["gateway", "supervisor"])
@pytest.mark.parametrize("options", [(), ("-i",), ("-t",)])
def test_term_leaves_a_gateway_that_does_not_answer(served, who, options):
    with popen(served, "exec", *options, *label("term"), "--", DEAF) as client:
        assert client.stdout.readline().strip() == b"up"
        with Stopped(served, who):
            client.terminate()
            assert client.wait(10) == 143
    (process,) = labelled(served, "term")
    eventually(lambda: get(served.stub, process.id).ended_at, 20)


@pytest.mark.parametrize("who", ["gateway", "supervisor"])
@pytest.mark.parametrize("options", [(), ("-t",)])
def test_what_has_not_started_is_left_the_same_way(served, who, options):
    served.supervisor  # found before it cannot answer
    with Stopped(served, who):
        with popen(served, "exec", *options, *label("early"), "--", DEAF) as client:
            for _ in range(2):
                interrupt(client)
            assert client.poll() is None
            interrupt(client)
            assert client.wait(10) == 130
        with popen(served, "exec", *options, *label("early"), "--", DEAF) as client:
            eventually(lambda: mask(client.pid, "SigCgt") & 1 << (signal.SIGTERM - 1))
            client.terminate()
            assert client.wait(10) == 143
    eventually(lambda: all(process.ended_at for process in labelled(served, "early")), 20)


def test_an_interrupt_that_came_before_the_start_reaches_the_process(served):
    supervisor = served.supervisor
    os.kill(supervisor, signal.SIGSTOP)
    with popen(served, "exec", "--", "trap 'exit 9' INT; while :; do sleep 0.05; done") as client:
        interrupt(client)
        os.kill(supervisor, signal.SIGCONT)
        # 130 where the signal came before the shell had set its trap.
        assert client.wait(20) in (9, 130)


def test_term_leaves_at_once_and_takes_the_process_along(served):
    deaf = "trap '' TERM INT; echo up; while :; do sleep 0.1; done"
    with popen(served, "exec", *label("along"), "--", deaf) as client:
        assert client.stdout.readline() == b"up\n"
        client.terminate()
        assert client.wait(10) == 143
    (process,) = labelled(served, "along")
    eventually(lambda: get(served.stub, process.id).ended_at, 10)
    told = json.loads(procgate("show", process.id, "--json", environment=served.client).stdout)
    assert told["terminationReason"] == "caller_gone"


@pytest.mark.parametrize("way", ["killed", "terminated"])
@pytest.mark.parametrize("options", [(), ("-i",), ("-t",)])
def test_a_process_that_is_kept_outlives_its_command(served, way, options):
    clients = {}
    for name, more in (("kept", ("--keep",)), ("bound", ())):
        words = ("exec", *options, *more, *label(name), "--", "echo up; sleep 1000")
        controller, terminal = pty.openpty()
        clients[name] = popen(served, *words, stdin=terminal)
        assert clients[name].stdout.readline().strip() == b"up"
        os.close(terminal)
    for client in clients.values():
        client.kill() if way == "killed" else client.terminate()
        client.wait(10)
        client.stdout.close()
    (bound,), (kept,) = labelled(served, "bound"), labelled(served, "kept")
    # A lost connection is found by its end: both are treated at the same time.
    eventually(lambda: get(served.stub, bound.id).ended_at, 20)
    assert not get(served.stub, kept.id).ended_at
    assert procgate("stop", kept.id, "--grace", "0s", environment=served.client).returncode == 0


def test_a_session_that_is_left_by_its_keys_goes_on(served):
    with screen(served.client) as terminal:
        for name, keys in (("usual", ()), ("own", ("--detach-keys", "ctrl-x,q"))):
            words = " ".join(("exec", "-t", *keys, *label(name)))
            terminal.line(f"clear; $P {words} -- cat")
            (process,) = eventually(lambda: labelled(served, name))
            terminal.line("typed")
            terminal.shows(lambda text: text.count("typed") >= 2)
            terminal.type(*(("C-x", "q") if keys else ("C-p", "C-q")))
            terminal.shows(f"detached from {process.id}")
            terminal.prompts("$")
        # One that is killed with its command shows that the others had the time for it.
        with popen(served, "exec", *label("killed"), "--", "echo up; sleep 1000") as client:
            assert client.stdout.readline() == b"up\n"
            client.kill()
        (killed,) = labelled(served, "killed")
        eventually(lambda: get(served.stub, killed.id).ended_at, 20)
        for name in ("usual", "own"):
            (process,) = labelled(served, name)
            assert not get(served.stub, process.id).ended_at
            words = ("stop", process.id, "--grace", "0s")
            assert procgate(*words, environment=served.client).returncode == 0


class Session:
    """A client on a pseudo-terminal, read and written by the test itself."""

    def __init__(self, g, *words):
        self.controller, terminal = pty.openpty()
        self.client = popen(g, *words, stdin=terminal, stdout=terminal, stderr=terminal)
        os.close(terminal)
        self.seen = b""

    def type(self, keys):
        os.write(self.controller, keys)

    def shows(self, text, times=1):
        while self.seen.count(text) < times:
            data = os.read(self.controller, 4096)
            assert data, self.seen
            self.seen += data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.kill()
        self.client.wait()
        os.close(self.controller)


# Prints each key as it comes, in hexadecimal.
KEYS = "stty raw -echo; echo up; while :; do dd bs=1 count=1 2>/dev/null | od -An -tx1; done"


def test_the_beginning_of_the_keys_reaches_the_command_by_itself(served):
    with Session(served, "exec", "-t", "--", KEYS) as session:
        session.shows(b"up")
        session.type(b"\x10")
        session.shows(b" 10")
        session.type(b"\x11")
        session.shows(b" 11")
    with Session(served, "exec", "-t", "--detach-keys", "ctrl-x,x", "--", KEYS) as session:
        session.shows(b"up")
        session.type(b"\x10\x11")
        session.shows(b" 11")


@pytest.mark.parametrize("who", ["gateway", "supervisor"])
def test_a_terminal_session_is_left_by_the_third_interrupt_where_nobody_answers(served, who):
    with Session(served, "exec", "-t", *label("raw"), "--", KEYS) as session:
        session.shows(b"up")
        # While the gateway answers, ^C is a key like others.
        session.type(b"\x03" * 5)
        session.shows(b" 03", times=5)
        with Stopped(served, who):
            for _ in range(3):
                session.type(b"\x03")
            assert session.client.wait(10) == 130
    (process,) = labelled(served, "raw")
    eventually(lambda: get(served.stub, process.id).ended_at, 20)


@pytest.mark.parametrize("command", ["exec", "attach"])
def test_the_keys_leave_a_session_where_nobody_answers(served, command):
    words = ("start", "-i", *label("keys"), "--", "echo up; sleep 1000")
    if command == "attach":
        id = procgate(*words, environment=served.client).stdout.decode().strip()
        words = ("attach", id)
    else:
        words = ("exec", "-t", *label("keys"), "--", "echo up; sleep 1000")
    with Session(served, *words) as session:
        session.shows(b"up")
        with Stopped(served, "gateway"):
            session.type(b"typed\r\x10\x11")
            assert session.client.wait(20) == 0
            session.shows(b"detached from ")
    for process in labelled(served, "keys"):
        procgate("stop", process.id, "--grace", "0s", environment=served.client)


def test_an_attached_process_that_nobody_answers_for_is_left_by_interrupts(served):
    words = ("start", "-i", *label("attached"), "--", DEAF)
    id = procgate(*words, environment=served.client).stdout.decode().strip()
    with Session(served, "attach", id) as session:
        session.shows(b"up")
        with Stopped(served, "gateway"):
            for _ in range(3):
                interrupt(session.client)
            assert session.client.wait(10) == 130
    assert not get(served.stub, id).ended_at
    assert procgate("stop", id, "--grace", "0s", environment=served.client).returncode == 0


def test_the_end_of_a_lost_supervisors_command_is_said_not_to_be_known():
    with gateway() as g:
        g.client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        with popen(g, "exec", "--", "echo up; sleep 1000", stderr=subprocess.PIPE) as client:
            assert client.stdout.readline() == b"up\n"
            supervisor = g.supervisor
            os.kill(supervisor, signal.SIGKILL)
            eventually(lambda: not alive(supervisor))
            assert client.wait(20) == 1
            told = client.stderr.read().decode()
        assert len(told.splitlines()) == 1, told
        assert "how the command ended is not known" in told
        assert "could not be run" not in told
