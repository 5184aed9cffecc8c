"""Terminals: `terminal` in the spec, ResizeTerminal, and an interactive shell by Attach."""

import pytest

from contract import (
    KILLED,
    Code,
    collect,
    follow,
    get,
    has_lines,
    pb,
    refused,
    run,
    start,
    stop,
    until,
    wait,
    write,
)
from gateway import alive, eventually
from session import attach

pytestmark = pytest.mark.issue3
SIZE = pb.TerminalSize(columns=93, rows=37)


def resize(stub, id, columns, rows):
    size = pb.TerminalSize(columns=columns, rows=rows)
    return stub.ResizeTerminal(pb.ResizeTerminalRequest(process_id=id, size=size))


def test_a_terminal_is_all_three_of_the_commands_streams(stub):
    ran = run(stub, "test -t 0 && test -t 1 && test -t 2 && tty", terminal=SIZE)
    assert ran.stdout.startswith(b"/dev/pts/")


def test_a_terminals_output_is_all_stdout(stub):
    ran = run(stub, "echo out; echo err >&2", terminal=SIZE)
    assert ran.stderr == b""
    assert ran.stdout == b"out\r\nerr\r\n"
    assert ran.process.stderr_bytes == 0


def test_a_terminal_has_the_size_asked_for(stub):
    assert run(stub, "stty size", terminal=SIZE).stdout == b"37 93\r\n"


def test_term_is_xterm_256color_by_default(stub):
    assert run(stub, "echo $TERM", terminal=SIZE).stdout == b"xterm-256color\r\n"
    assert run(stub, "echo $TERM", terminal=SIZE, env={"TERM": "vt100"}).stdout == b"vt100\r\n"
    assert run(stub, "echo [$TERM]").stdout in (b"[]\n", b"[dumb]\n")


def test_a_terminal_is_the_controlling_one_of_a_session_of_its_own(stub):
    command = "echo ok >/dev/tty; cut -d ' ' -f 1,5,6,8 /proc/$$/stat"
    ran = run(stub, command, terminal=SIZE)
    ok, ids = ran.stdout.decode().split("\r\n")[:2]
    assert ok == "ok"
    pid, group, session, foreground = map(int, ids.split())
    assert pid == group == session == foreground == ran.started.pid


def test_no_terminal_is_no_controlling_terminal(stub):
    assert run(stub, "echo x >/dev/tty").process.exit_code != 0


def test_input_is_echoed_and_read_by_lines(stub):
    id = start(stub, "read a; echo got $a", terminal=SIZE).id
    write(stub, id, b"typed\n")
    assert collect(follow(stub, id)).stdout == b"typed\r\ngot typed\r\n"


def test_the_interrupt_character_is_a_signal(stub):
    id = start(stub, "echo ready; exec sleep 1000", terminal=SIZE).id
    until(follow(stub, id), has_lines(1))
    comm = f"/proc/{get(stub, id).pid}/comm"
    eventually(lambda: "sleep" in open(comm).read())
    write(stub, id, b"\x03")
    process = wait(stub, id).process
    assert (process.status, process.signal_name) == (KILLED, "SIGINT")


def test_a_resize_is_seen_by_the_command(stub):
    command = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done"
    process = start(stub, command, terminal=SIZE)
    events = follow(stub, process.id)
    ran = until(events, has_lines(1))
    resize(stub, process.id, 120, 50)
    until(events, has_lines(2), ran)
    assert ran.stdout == b"ready\r\n50 120\r\n"
    stop(stub, process.id, grace_ms=0)


def test_a_resize_without_a_terminal_is_refused(stub):
    process = start(stub, "sleep 1000")
    with refused(Code.FAILED_PRECONDITION, "NO_TERMINAL"):
        resize(stub, process.id, 80, 25)
    stop(stub, process.id, grace_ms=0)


def test_a_size_that_cannot_be_is_refused(stub):
    process = start(stub, "sleep 1000", terminal=SIZE)
    for columns, rows in ((65536, 25), (80, 65536), (2**32 - 1, 2**32 - 1)):
        with refused(Code.INVALID_ARGUMENT, "TERMINAL_INVALID"):
            resize(stub, process.id, columns, rows)
        with refused(Code.INVALID_ARGUMENT, "TERMINAL_INVALID"):
            run(stub, "true", terminal=pb.TerminalSize(columns=columns, rows=rows))
    stop(stub, process.id, grace_ms=0)


def test_a_resize_of_an_unknown_process_is_not_found(stub):
    with refused(Code.NOT_FOUND, "PROCESS_NOT_FOUND"):
        resize(stub, "none", 80, 25)


def test_a_terminals_whole_tree_can_be_stopped(stub):
    command = "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; wait"
    process = start(stub, command, terminal=SIZE)
    ran = until(follow(stub, process.id), has_lines(2))
    stop(stub, process.id)
    assert not any(alive(int(line)) for line in ran.lines)


def test_the_foreground_group_gets_sighup_when_the_terminal_goes(stub, tmp_path):
    command = (
        f"(trap 'touch {tmp_path}/hup; exit' HUP; touch {tmp_path}/ready; "
        "while :; do sleep 0.02; done) & "
        f"until [ -e {tmp_path}/ready ]; do sleep 0.02; done"
    )
    assert run(stub, command, terminal=SIZE).process.exit_code == 0
    eventually((tmp_path / "hup").exists, what="SIGHUP to what the leader left")


def test_a_terminals_output_is_replayed_like_any(stub):
    ran = run(stub, "seq 1 5000", terminal=SIZE)
    again = collect(follow(stub, ran.id))
    assert again.stdout == ran.stdout == b"".join(b"%d\r\n" % i for i in range(1, 5001))


def test_terminals_are_the_users(stub):
    ran = run(stub, "stat -c %U $(tty)", terminal=SIZE, run_as="daemon", cwd="/")
    assert ran.stdout == b"daemon\r\n"


def test_eof_on_a_terminal_is_refused(stub):
    session = attach(stub, "cat", terminal=SIZE)
    session.until(lambda ran: ran.started)
    session.send(eof=True)
    with refused(Code.FAILED_PRECONDITION):
        session.end()


def test_the_end_of_file_character_ends_input(stub):
    session = attach(stub, "cat; echo ended", terminal=SIZE)
    session.type("line\n")
    session.sees("line\r\nline\r\n")
    session.type("\x04")
    ran = session.end()
    assert ran.stdout.endswith(b"ended\r\n")
    assert ran.process.exit_code == 0


def test_an_interactive_shell_by_attach(stub):
    """Prompt, size seen after a resize, ^C, job control, exit code."""
    shell = attach(
        stub,
        "/bin/bash",
        "--norc",
        "--noprofile",
        "-i",
        terminal=SIZE,
        env={"PS1": "ready> ", "HISTFILE": "/dev/null", "INPUTRC": "/dev/null"},
    )
    shell.sees("ready> ")
    shell.type("stty size\n")
    shell.sees("37 93")
    shell.sees("ready> ")
    shell.send(resize=pb.TerminalSize(columns=101, rows=43))
    shell.type("stty size\n")
    shell.sees("43 101")
    shell.sees("ready> ")
    foreground = "sh -c 'echo run$((1+1)); exec sleep 1000'\n"  # tells when it has the terminal
    shell.type(foreground)
    shell.sees("run2")
    shell.type("\x03")
    shell.sees("ready> ")
    shell.type("echo status=$?\n")
    shell.sees("status=130")
    shell.sees("ready> ")
    shell.type(foreground)
    shell.sees("run2")
    shell.type("\x1a")
    shell.sees("Stopped")
    shell.sees("ready> ")
    shell.type("bg\n")
    shell.sees("ready> ")
    shell.type("jobs\n")
    shell.sees("Running")
    shell.sees("ready> ")
    shell.type("kill %1; wait; jobs; echo no$((1))jobs\n")
    shell.sees("no1jobs\r\n")
    shell.sees("ready> ")
    shell.type("exit 42\n")
    ran = shell.end()
    assert ran.process.exit_code == 42


def test_a_session_that_resizes_wrongly_is_refused(stub):
    session = attach(stub, "sleep 1000", terminal=SIZE)
    session.until(lambda ran: ran.started)
    session.send(resize=pb.TerminalSize(columns=70_000, rows=1))
    with refused(Code.INVALID_ARGUMENT, "TERMINAL_INVALID"):
        session.end()
