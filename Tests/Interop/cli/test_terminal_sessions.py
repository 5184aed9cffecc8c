"""`exec -t` and `attach` in a real terminal."""

import os
import re
import shutil
import signal
import subprocess

import pytest
from cli_screen import screen

from contract import get, listing, pb, start, stop, wait
from gateway import arguments, eventually, gateway, pids, procgate

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="there is no tmux here")


@pytest.fixture(scope="module")
def served():
    """A caller that is lost and not gone is waited for longer than any test."""
    with gateway("--resume-window", "1h") as g:
        g.client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        yield g


@pytest.fixture
def terminal(served):
    with screen(served.client) as made:
        yield made


def labelled(served, name):
    found = listing(served.stub, labels={"cli": name}).processes
    return found[0] if found else None


def modes(terminal):
    """How a terminal is set, as stty has it."""
    done = subprocess.run(["stty", "-a", "-F", terminal], capture_output=True, timeout=10)
    return done.stdout.decode().split()


def test_a_shell_in_a_session_has_a_terminal_of_this_size(terminal):
    terminal.line("$P exec -t --env PS1='% ' -- bash --norc --noprofile")
    terminal.prompts("%")
    terminal.line("stty size; echo TERM=$TERM")
    terminal.shows("24 80")
    terminal.shows(re.compile(r"TERM=(tmux|screen)").search)
    terminal.resize(100, 30)
    terminal.line("clear; stty size")
    terminal.shows("30 100")
    terminal.line("exit 5")
    terminal.prompts("$")
    terminal.line("echo left with $?")
    terminal.shows("left with 5")


def test_an_interrupt_goes_to_what_runs_in_the_session(terminal):
    terminal.line("$P exec -t --env PS1='% ' -- bash --norc --noprofile")
    terminal.prompts("%")
    terminal.line("sleep 1000; echo status=$?")
    terminal.shows("sleep 1000")
    terminal.type("C-c")
    terminal.prompts("%")
    terminal.line("echo still here")
    terminal.shows("\nstill here")
    terminal.line("exit")


def test_an_interrupt_takes_what_is_queued_out_of_the_queue(tmp_path):
    with gateway("--max-running", "1") as g:
        client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        start(g.stub, "sleep 1000")
        with screen(client) as terminal:
            terminal.line(f"$P exec -t --label cli=queued -- touch {tmp_path}/ran; echo left with $?")
            queued = eventually(lambda: listing(g.stub, labels={"cli": "queued"}).processes)[0]
            assert not queued.ended_at
            # Before the terminal is raw, ^C is a signal that ends the client alone.
            pane = terminal.tmux("display-message", "-p", "-t", "0", "#{pane_tty}").strip()
            eventually(lambda: "-isig" in modes(pane))
            terminal.type("C-c")
            terminal.shows("left with 130")
        process = get(g.stub, queued.id)
        assert process.ended_at and not process.started_at
        assert not (tmp_path / "ran").exists()


def test_a_program_that_takes_the_whole_screen_gives_it_back(terminal, tmp_path):
    numbers = tmp_path / "numbers"
    numbers.write_text("".join(f"{i}\n" for i in range(1, 501)))
    terminal.line("echo before")
    terminal.shows("\nbefore")
    terminal.line(f"$P exec -t -- less {numbers}")
    terminal.shows(lambda text: text.startswith("1\n2\n3\n"))
    terminal.type("G")
    terminal.shows("500\n")
    terminal.resize(60, 10)
    terminal.shows("\n486\n:")  # less drops a key that comes with the signal
    terminal.type("g")
    terminal.shows(lambda text: text.startswith("1\n2\n") and "\n9\n" in text)
    terminal.type("q")
    terminal.shows("before")
    terminal.prompts("$")


def test_a_session_is_left_and_joined_again(served, terminal):
    terminal.line("$P exec -t --label cli=detach --env PS1='% ' -- bash --norc --noprofile")
    terminal.prompts("%")
    terminal.line("kept=value")
    terminal.type("C-p", "C-q")
    terminal.shows("detached from ")
    process = labelled(served, "detach")
    assert get(served.stub, process.id).ended_at == 0
    terminal.line(f"clear; $P attach {process.id}")
    terminal.line("echo found $kept")
    terminal.shows("\nfound value")
    terminal.line("exit 3")
    eventually(lambda: get(served.stub, process.id).ended_at)
    terminal.prompts("$")
    terminal.line("echo left with $?")
    terminal.shows("left with 3")


def test_what_is_typed_before_a_session_is_left_arrives(served, terminal):
    words = "stty -echo; while read line; do echo got $line; done"
    process = start(served.stub, words, terminal=pb.TerminalSize(columns=80, rows=24))
    pane = terminal.tmux("display-message", "-p", "-t", "0", "#{pane_tty}").strip()
    for i in range(5):
        terminal.line(f"clear; $P attach {process.id}")
        eventually(lambda: "-isig" in modes(pane))
        terminal.tmux("send-keys", "-t", "0", f"line {i}", "Enter", "C-p", "C-q")
        terminal.shows(f"detached from {process.id}")
        terminal.prompts("$")
    stop(served.stub, process.id)
    printed = wait(served.stub, process.id).stdout_data
    assert printed.split() == b"".join(b"got line %d " % i for i in range(5)).split()


def test_a_process_without_a_terminal_is_left_too(served, terminal):
    words = "echo up; while read line; do echo got $line; done; exit 3"
    process = start(served.stub, words)
    terminal.line("clear; stty -a > /tmp/$$.before")
    terminal.line(f"$P attach {process.id}")
    terminal.shows("\nup")
    terminal.line("typed")
    terminal.shows("got typed")
    terminal.type("C-p", "C-q")
    terminal.shows(f"detached from {process.id}")
    terminal.prompts("$")
    assert get(served.stub, process.id).ended_at == 0
    terminal.line("stty -a | cmp - /tmp/$$.before; echo compared with $?")
    terminal.shows("compared with 0")
    terminal.line(f"rm /tmp/$$.before; clear; $P attach {process.id}")
    terminal.line("again")
    terminal.shows("got again")
    terminal.type("C-d")
    terminal.prompts("$")
    terminal.line("echo ended with $?")
    terminal.shows("ended with 3")


def test_the_terminal_is_as_before_after_every_way_out(served, terminal):
    settings = "stty -a | md5sum"
    terminal.line(settings)
    before = terminal.shows(lambda text: re.search(r"^[0-9a-f]{32}", text, re.M))[0]

    def is_as_before():
        terminal.line("clear")
        terminal.line(settings)
        after = terminal.shows(lambda text: re.search(r"^[0-9a-f]{32}", text, re.M))[0]
        assert after == before

    terminal.line("$P exec -t -- 'echo over'")
    terminal.shows("\nover")
    is_as_before()
    terminal.line("$P exec -t -- 'kill -9 $$'; echo killed=$?")
    terminal.shows("killed=137")
    is_as_before()
    terminal.line("$P exec -t -- /no/such/command x; echo failed=$?")
    terminal.shows(re.compile(r"failed=\d").search)
    is_as_before()
    # Ended by a signal while it is raw.
    terminal.line("clear; $P exec -t --label cli=term -- 'echo up; sleep 1000'")
    terminal.shows(re.compile(r"^up$", re.M).search)
    process = labelled(served, "term")
    words = ["exec", "-t", "--label", "cli=term"]
    (client,) = [pid for pid in pids() if arguments(pid)[1:5] == words]
    os.kill(client, signal.SIGTERM)
    terminal.prompts("$")
    is_as_before()
    eventually(lambda: get(served.stub, process.id).ended_at)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("command", ["exec", "attach"])
def test_a_signal_from_elsewhere_gives_the_terminal_back(served, terminal, command, number):
    label = f"sent={command}{number}"
    script = "trap '' INT QUIT; echo up; sleep 1000"
    terminal.line("stty -a > /tmp/$$.before")
    if command == "attach":
        size = pb.TerminalSize(columns=80, rows=24)
        started = start(served.stub, script, labels=dict([label.split("=")]), terminal=size)
        words = ["attach", started.id]
        terminal.line("clear; $P " + " ".join(words) + "; echo left with $?")
    else:
        words = ["exec", "-t", "--label", label]
        terminal.line("clear; $P " + " ".join(words) + f' -- "{script}"; echo left with $?')
    terminal.shows(re.compile(r"^up$", re.M).search)
    (client,) = [pid for pid in pids() if arguments(pid)[1 : 1 + len(words)] == words]
    os.kill(client, number)
    terminal.shows(f"left with {128 + number}")
    terminal.line("clear; stty -a | cmp - /tmp/$$.before; echo compared with $?; rm /tmp/$$.before")
    terminal.shows("compared with 0")
    (process,) = listing(served.stub, labels=dict([label.split("=")])).processes
    assert not get(served.stub, process.id).ended_at
    assert procgate("stop", process.id, "--grace", "0s", environment=served.client).returncode == 0


def test_tables_fit_the_terminal_and_have_colour_there_alone(served, terminal):
    done = procgate("exec", "--", "true " + "word " * 60, environment=served.client)
    assert done.returncode == 0
    terminal.line("clear; $P ps --limit 1")
    text = terminal.shows(lambda text: "…" in text and text)
    row = next(line for line in text.splitlines() if "true word" in line)
    assert len(row) <= 80 and row.endswith("…")
    coloured = terminal.tmux("capture-pane", "-p", "-e", "-t", "0")
    assert "\x1b[3" in coloured
    terminal.line("clear; NO_COLOR=1 $P ps --limit 1; echo done")
    terminal.shows("\ndone")
    plain = terminal.tmux("capture-pane", "-p", "-e", "-t", "0")
    assert "\x1b[32m" not in plain
    piped = procgate("ps", "--limit", "1", environment=served.client).stdout.decode()
    assert "\x1b" not in piped and "word " * 59 + "word" in piped


def test_no_line_of_a_table_wraps_however_narrow_the_terminal(served, terminal):
    words = "echo 日本語の長い行 👩‍👩‍👧 " + "long " * 30
    done = procgate("exec", "--label", "cli=narrow", "--", words, environment=served.client)
    assert done.returncode == 0
    for columns in (70, 40, 20):
        terminal.resize(columns, 24)
        # What is printed at the end is not what was typed.
        resized = f'until [ "$(stty size)" = "24 {columns}" ]; do :; done'
        terminal.line(f"{resized}; clear; $P ps --label cli=narrow; echo $(({columns} + 1))")
        over = re.compile(rf"^{columns + 1}\n\$", re.M)
        rows = terminal.shows(lambda text: over.search(text) and text).strip().splitlines()
        assert len(rows) == 4, rows
        assert rows[0].startswith("ID ") and "…" in rows[1]


def test_ps_watch_prints_changes_below_each_other_until_an_interrupt(served, terminal):
    terminal.line("clear; $P ps --watch --label cli=watched")
    terminal.shows("COMMAND")
    for name in ("first", "second"):
        words = ("exec", "--label", "cli=watched", "--", f"echo {name}")
        assert procgate(*words, environment=served.client).returncode == 0
        terminal.shows(re.compile(rf"exited .*echo {name}").search)
        terminal.resize(100, 30)
    terminal.shows(re.compile(r"exited .*echo first").search)
    terminal.type("C-c")
    terminal.prompts("$")
    terminal.line("echo left with $?")
    terminal.shows("left with 130")


def test_a_session_outlives_a_restart_of_the_gateway():
    with gateway() as g:
        client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        with screen(client) as terminal:
            terminal.line("$P exec -t --env PS1='% ' -- bash --norc --noprofile")
            terminal.prompts("%")
            terminal.line("kept=value; echo one")
            terminal.shows("\none")
            g.kill()
            g.restart()
            terminal.line("echo found $kept")
            terminal.shows("\nfound value")
            terminal.line("exit")
            terminal.prompts("$")
