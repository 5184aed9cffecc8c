"""Every field of Process and ProcessResult that other files do not look at."""

import sys
import time

from contract import (
    EXITED,
    RUNNING,
    MiB,
    collect,
    follow,
    get,
    info,
    pb,
    run,
    start,
    stop,
    wait,
    write,
)
from gateway import eventually, gateway


def test_times_are_of_the_epoch_and_in_order(stub):
    before = time.time() * 1000
    ran = run(stub, "sleep 0.3")
    after = time.time() * 1000
    process = ran.process
    assert before - 5 <= process.created_at <= process.started_at < process.ended_at <= after + 5
    assert process.ended_at - process.started_at >= 290
    assert ran.started.ended_at == 0
    assert ran.started.created_at == process.created_at
    assert ran.started.started_at == process.started_at


def test_an_outcome_is_set_only_at_the_end(stub):
    process = start(stub, "sleep 1000")
    assert process.WhichOneof("outcome") is None
    assert process.termination_reason == pb.TERMINATION_REASON_UNSPECIFIED
    assert process.signal_name == ""
    assert process.expires_at == 0
    ended = stop(stub, process.id, grace_ms=0)
    assert ended.WhichOneof("outcome") == "signal"
    assert ended.expires_at > ended.ended_at


def test_an_ended_process_says_when_it_is_forgotten():
    with gateway("--retain-time", "90s") as g:
        process = run(g.stub, "true").process
        assert process.expires_at == process.ended_at + 90_000
        assert info(g.stub).retain_ms == 90_000


def test_usage_counts_cpu_time(stub):
    command = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done"
    process = run(stub, command).process
    wall = process.ended_at - process.started_at
    assert 20 <= process.usage.cpu_time_ms <= wall + 100
    assert run(stub, "sleep 0.2").process.usage.cpu_time_ms < 100


def test_usage_counts_peak_memory(stub):
    program = "x = b'x' * (200 << 20)"
    process = run(stub, sys.executable, "-I", "-c", program).process
    assert 200 * MiB <= process.usage.peak_memory_bytes <= 300 * MiB
    assert 0 < run(stub, "true").process.usage.peak_memory_bytes < 50 * MiB


def test_usage_counts_what_the_command_waited_for(stub):
    program = "x = bytearray(100 << 20); x[::4096] = b'x' * 25600; sum(range(3000000))"
    process = run(stub, f'{sys.executable} -I -c "{program}"; true').process
    assert process.usage.peak_memory_bytes >= 100 * MiB
    assert process.usage.cpu_time_ms >= 20


def test_output_bytes_are_counted_by_stream(stub):
    process = run(stub, "head -c 100000 /dev/zero; head -c 777 /dev/zero >&2").process
    assert process.stdout_bytes == 100_000
    assert process.stderr_bytes == 777


def test_counters_grow_while_it_runs(stub):
    process = start(stub, "while read line; do echo $line; done")
    for i in range(1, 4):
        write(stub, process.id, b"12345\n")
        eventually(lambda i=i: get(stub, process.id).stdout_bytes == 6 * i)
    now = get(stub, process.id)
    assert now.stdin_bytes == 18
    assert not now.stdin_closed
    assert now.first_retained_seq == 1
    assert now.last_seq == 3
    stop(stub, process.id, grace_ms=0)


def test_first_retained_seq_is_the_first_that_can_be_replayed(stub):
    policy = pb.OutputPolicy(retain_bytes=MiB)
    id = start(stub, "seq 1 1000000", output=policy).id
    process = wait(stub, id).process
    assert 1 < process.first_retained_seq <= process.last_seq
    replay = collect(follow(stub, id, from_seq=process.first_retained_seq))
    assert replay.seqs[0] == process.first_retained_seq
    assert replay.seqs[-1] == process.last_seq


def test_stdin_closed_is_told(stub):
    process = start(stub, "cat; sleep 1000")
    assert not process.stdin_closed
    write(stub, process.id, b"x", eof=True)
    assert get(stub, process.id).stdin_closed
    stop(stub, process.id, grace_ms=0)
    assert start(stub, "true", no_stdin=True).stdin_closed


def test_the_owner_is_the_name_of_the_token(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("alice token-of-alice\nbob token-of-bob\ntoken-without-name\n")
    tokens.chmod(0o600)
    with gateway("--token-file", tokens, token="token-of-alice") as g:
        assert run(g.stub, "true").process.owner == "alice"
        g.token = "token-of-bob"
        bobs = run(g.connect(), "true").process
        assert bobs.owner == "bob"
        g.token = "token-without-name"
        assert run(g.connect(), "true").process.owner not in ("alice", "bob")
        assert get(g.connect(), bobs.id).owner == "bob"


def test_signal_names_are_those_of_linux(stub):
    for number, name in (
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (31, "SIGSYS"),
    ):
        process = run(stub, f"kill -{number} $$").process
        assert (process.signal, process.signal_name) == (number, name)


def test_a_result_holds_the_process_and_its_output(stub):
    id = start(stub, "echo out; echo err >&2; exit 2").id
    result = wait(stub, id)
    assert result.process == get(stub, id)
    assert result.process.status == EXITED
    assert result.stdout_data == b"out\n"
    assert result.stderr_data == b"err\n"
    assert not result.output_truncated
    assert result.last_seq == result.process.last_seq == 2


def test_a_process_that_stops_itself_still_runs(stub):
    process = start(stub, "kill -STOP $$; echo resumed")
    state = f"/proc/{process.pid}/stat"
    eventually(lambda: open(state).read().rpartition(")")[2].split()[0] == "T")
    assert get(stub, process.id).status == RUNNING
    stub.Signal(pb.SignalRequest(process_id=process.id, signal="CONT"))
    assert wait(stub, process.id).stdout_data == b"resumed\n"
