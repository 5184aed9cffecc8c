"""Exec: what it streams, in which order, and how it ends."""

import hashlib
import itertools
import os
import time

from contract import (
    EXITED,
    FAILED,
    KILLED,
    QUEUED,
    RUNNING,
    STDERR,
    STDOUT,
    Code,
    MiB,
    Ran,
    begin,
    collect,
    exec_request,
    pb,
    refused,
    run,
    start,
    stop,
    until,
    wait,
)
from gateway import gateway


def test_a_command_starts_prints_and_exits(stub):
    ran = run(stub, "echo hello")
    assert [kind for kind in ran.events if kind != "keep_alive"] == ["started", "output", "exited"]
    assert ran.stdout == b"hello\n"
    assert ran.stderr == b""
    assert ran.started.status == RUNNING
    assert ran.started.pid > 0
    assert ran.started.id == ran.process.id != ""
    assert ran.process.status == EXITED
    assert ran.process.exit_code == 0


def test_every_exit_code_is_told(stub):
    for code in (0, 1, 2, 42, 127, 128, 255):
        process = run(stub, f"exit {code}").process
        assert process.status == EXITED
        assert process.WhichOneof("outcome") == "exit_code"
        assert process.exit_code == code
        assert process.termination_reason == pb.TERMINATION_REASON_EXITED


def test_a_command_that_is_killed_tells_its_signal(stub):
    for number, name in ((9, "SIGKILL"), (15, "SIGTERM"), (6, "SIGABRT"), (10, "SIGUSR1")):
        process = run(stub, f"kill -{number} $$").process
        assert process.status == KILLED
        assert process.WhichOneof("outcome") == "signal"
        assert process.signal == number
        assert process.signal_name == name
        assert process.termination_reason == pb.TERMINATION_REASON_SIGNALLED


def paced(stub, path, lines):
    """An Exec that has run each line when the chunk of the one before was there."""
    os.mkfifo(path)
    events, ran = begin(stub, f'while read -r line; do eval "$line"; done < {path}'), Ran()
    with open(path, "wb", buffering=0) as steps:
        for count, line in enumerate(lines, 1):
            steps.write(line.encode() + b"\n")
            until(events, lambda ran, count=count: len(ran.chunks) == count, ran)
    return collect(events, ran)


def test_both_streams_come_with_their_name_in_the_order_produced(stub, tmp_path):
    lines = [line for i in range(1, 5) for line in (f"echo out{i}", f"echo err{i} >&2")]
    ran = paced(stub, tmp_path / "steps", lines)
    told = [(chunk.stream, chunk.data) for chunk in ran.chunks]
    expected = [
        (stream, b"%s%d\n" % (word, i))
        for i in (1, 2, 3, 4)
        for stream, word in ((STDOUT, b"out"), (STDERR, b"err"))
    ]
    assert told == expected


def test_chunks_are_numbered_from_one_over_both_streams_without_gaps(stub):
    ran = run(stub, "for i in 1 2 3 4 5 6 7 8; do echo $i; echo $i >&2; done; seq 1 200000")
    assert ran.seqs == list(range(1, len(ran.chunks) + 1))
    assert ran.exited.last_seq == len(ran.chunks)
    assert ran.process.last_seq == len(ran.chunks)


def test_chunks_carry_the_time_of_the_epoch_in_milliseconds(stub, tmp_path):
    before = time.time() * 1000
    ran = paced(stub, tmp_path / "steps", ["echo a", "sleep 0.1; echo b"])
    times = [chunk.timestamp for chunk in ran.chunks]
    assert before - 5 <= times[0] <= times[-1] <= time.time() * 1000 + 5
    assert times[-1] - times[0] >= 90


def test_bytes_come_as_they_were_written(stub):
    data = bytes(range(256)) * 37 + b"\x00\xff no newline"
    assert run(stub, "cat", stdin=data).stdout == data


def test_a_command_without_output_has_no_chunks_and_last_seq_zero(stub):
    ran = run(stub, "true")
    assert ran.chunks == []
    assert ran.exited.last_seq == 0
    assert ran.process.stdout_bytes == ran.process.stderr_bytes == 0


def test_an_exited_event_carries_no_output(stub):
    ran = run(stub, "echo out; echo err >&2")
    assert ran.exited.stdout_data == ran.exited.stderr_data == b""


def test_stdin_is_the_bytes_given_and_then_ends(stub):
    ran = run(stub, "cat; echo; echo end", stdin=b"some input")
    assert ran.stdout == b"some input\nend\n"
    assert ran.process.stdin_bytes == 10
    assert ran.process.stdin_closed


def test_stdin_is_empty_where_no_bytes_are_given(stub):
    assert run(stub, "wc -c").stdout.strip() == b"0"


def test_eight_megabytes_of_stdin_arrive_whole(stub):
    data = os.urandom(8 * MiB)
    ran = run(stub, "sha256sum", stdin=data)
    assert ran.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_stdin_that_nobody_reads_is_no_error(stub):
    process = run(stub, "exit 3", stdin=bytes(2 * MiB)).process
    assert process.exit_code == 3


def test_stdin_and_output_flow_at_the_same_time(stub):
    data = os.urandom(6 * MiB)
    assert run(stub, "cat", stdin=data).stdout == data


def test_a_large_output_is_lossless(stub):
    ran = run(stub, "seq 1 3000000")
    expected = "".join(f"{i}\n" for i in range(1, 3000001)).encode()
    assert hashlib.sha256(ran.stdout).digest() == hashlib.sha256(expected).digest()
    assert ran.process.stdout_bytes == len(expected)


def test_output_is_streamed_while_the_command_runs(stub):
    events = begin(stub, "echo first; read never; echo second", timeout=20, stdin=b"")
    ran = collect(events)
    assert ran.stdout == b"first\nsecond\n"
    events = begin(stub, "echo first; sleep 100", timeout=20)
    ran = until(events, lambda ran: ran.stdout == b"first\n")
    assert ran.exited is None
    events.cancel()


def test_a_command_that_is_not_there_has_failed_to_start(stub):
    for words in (
        ("no-such-command", "x"),
        ("/no/such/command", "x"),
        ("/etc/passwd", "x"),
        ("/tmp", "x"),
    ):
        ran = run(stub, *words)
        assert ran.process.status == FAILED, words
        assert ran.process.WhichOneof("outcome") == "error"
        assert ran.process.error
        assert ran.process.termination_reason == pb.TERMINATION_REASON_START_FAILED
        assert ran.chunks == []


def test_a_command_that_the_shell_does_not_find_exits_with_127(stub):
    ran = run(stub, "no-such-command")
    assert ran.process.status == EXITED
    assert ran.process.exit_code == 127
    assert b"no-such-command" in ran.stderr


def test_the_end_is_told_though_a_descendant_holds_the_output_open(stub):
    ran = run(stub, "sleep 1000 & echo $!")
    assert ran.process.descendants_alive
    os.kill(int(ran.stdout), 9)


def test_what_a_descendant_writes_within_the_drain_time_arrives(stub):
    # As soon as the command has ended, which is within the drain time.
    ran = run(stub, "(while [ -e /proc/$$/exe ]; do :; done; echo late) & echo early")
    assert ran.stdout == b"early\nlate\n"


def test_keep_alives_come_while_the_stream_is_idle():
    with gateway("--keep-alive", "1s") as g:
        events = begin(g.stub, "sleep 1000")
        ran = until(events, lambda ran: ran.events.count("keep_alive") == 2)
        assert ran.events == ["started", "keep_alive", "keep_alive"]
        events.cancel()


def test_keep_alives_do_not_come_while_there_is_output():
    with gateway("--keep-alive", "2s") as g:
        ran = run(g.stub, "for i in $(seq 30); do echo $i; sleep 0.1; done")
        assert ran.events.count("keep_alive") == 0


def test_a_command_that_waits_for_a_place_is_told_queued_then_started():
    with gateway("--max-running", "1") as g:
        first = start(g.stub, "sleep 1000")
        events = begin(g.stub, "echo ran")
        event = next(events)
        assert event.WhichOneof("event") == "queued"
        assert event.queued.status == QUEUED
        assert event.queued.id
        assert event.queued.pid == event.queued.started_at == 0
        stop(g.stub, first.id, grace_ms=0)
        ran = collect(itertools.chain([event], events))
        kinds = [kind for kind in ran.events if kind != "keep_alive"]
        assert kinds == ["queued", "started", "output", "exited"]
        assert ran.queued.id == ran.started.id == ran.process.id
        assert ran.process.exit_code == 0


def test_a_command_that_need_not_wait_is_not_told_queued(stub):
    assert "queued" not in run(stub, "true").events


def test_a_hundred_at_once_do_not_mix(stub):
    calls = [(i, begin(stub, f"echo {i}; cat; echo {i} >&2", stdin=b"%d" % i)) for i in range(100)]
    for i, events in calls:
        ran = collect(events)
        assert ran.stdout == b"%d\n%d" % (i, i)
        assert ran.stderr == b"%d\n" % i


def test_ids_differ_and_cannot_be_guessed(stub):
    ids = [run(stub, "true").id for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(len(id) >= 16 for id in ids)
    for one, next_one in zip(ids, ids[1:]):
        assert sum(a != b for a, b in zip(one, next_one)) >= 8


def test_a_process_of_exec_can_be_asked_for_after_its_end(stub):
    ran = run(stub, "echo kept; exit 4")
    result = wait(stub, ran.id)
    assert result.process.exit_code == 4
    assert result.stdout_data == b"kept\n"


def test_an_empty_command_is_refused(stub):
    with refused(Code.INVALID_ARGUMENT, "COMMAND_REQUIRED"):
        run(stub, "")
    with refused(Code.INVALID_ARGUMENT, "COMMAND_REQUIRED"):
        list(stub.Exec(pb.ExecRequest()))
    with refused(Code.INVALID_ARGUMENT, "COMMAND_REQUIRED"):
        run(stub, "", "an argument")


def test_arguments_beyond_what_the_system_takes_are_refused(stub):
    with refused(Code.INVALID_ARGUMENT, "ARGUMENTS_TOO_LONG"):
        run(stub, "echo", "x" * 200_000)
    with refused(Code.INVALID_ARGUMENT, "ARGUMENTS_TOO_LONG"):
        run(stub, "true " + "x" * 200_000)
    with refused(Code.INVALID_ARGUMENT, "ARGUMENTS_TOO_LONG"):
        run(stub, "echo", *["x" * 1000] * 9000)


def test_arguments_that_the_system_takes_are_not_refused(stub):
    ran = run(stub, "printf", "%s", "x" * 100_000)
    assert ran.stdout == b"x" * 100_000
    ran = run(stub, "echo", *["x" * 100] * 10_000)
    assert len(ran.stdout) == 101 * 10_000


def test_a_refused_exec_leaves_no_process(stub):
    request = exec_request("true", cwd="/no/such/directory", labels={"refused": "exec"})
    with refused(Code.INVALID_ARGUMENT, "CWD_INVALID"):
        list(stub.Exec(request))
    listed = stub.ListProcesses(pb.ListProcessesRequest(labels={"refused": "exec"}))
    assert not listed.processes
