"""ProcessSpec: timeouts, grace, resource limits, what becomes of descendants, output policy."""

import os
import sys
import time

import pytest

from contract import (
    EXITED,
    FAILED,
    TIMED_OUT,
    Code,
    MiB,
    collect,
    follow,
    get,
    has_lines,
    info,
    pb,
    refused,
    run,
    start,
    stop,
    until,
    wait,
)
from gateway import alive, eventually, gateway
from programs import PRINTER, TREE, PrinterProgress, tree_pids


def test_a_timeout_ends_the_command(stub):
    ran = run(stub, "echo before; sleep 1000", timeout_ms=300)
    assert ran.process.status == TIMED_OUT
    assert ran.process.termination_reason == pb.TERMINATION_REASON_TIMEOUT
    assert ran.stdout == b"before\n"
    assert ran.process.ended_at - ran.process.started_at >= 290


def test_a_timeout_sends_term_first(stub):
    ran = run(stub, "trap 'echo caught; exit 0' TERM; while :; do sleep 0.02; done", timeout_ms=300)
    assert ran.stdout == b"caught\n"
    assert ran.process.status == TIMED_OUT
    assert ran.process.termination_reason == pb.TERMINATION_REASON_TIMEOUT


def test_a_timeout_kills_after_the_grace_time_what_ignores_term():
    command = "trap '' TERM; echo ready; while :; do sleep 0.02; done"
    with gateway("--grace-period", "1h") as g:
        ran = run(g.stub, command, timeout_ms=300, grace_ms=500)
        assert ran.process.status == TIMED_OUT
        assert ran.process.ended_at - ran.process.started_at >= 790


def test_a_timeout_within_a_stops_grace_time_is_a_timeout(stub):
    command = "trap '' TERM; echo ready; while :; do sleep 0.02; done"
    id = start(stub, command, timeout_ms=700, grace_ms=200).id
    until(follow(stub, id), has_lines(1))
    process = stop(stub, id, grace_ms=3_600_000)
    assert process.status == TIMED_OUT
    assert process.termination_reason == pb.TERMINATION_REASON_TIMEOUT


def test_a_command_that_exits_in_time_has_exited_whatever_its_descendants_do(stub):
    ran = run(stub, "(while :; do echo x; sleep 0.05; done) & exit 4", timeout_ms=600)
    assert ran.process.status == EXITED
    assert ran.process.exit_code == 4
    assert ran.process.termination_reason == pb.TERMINATION_REASON_EXITED


def test_a_timeout_ends_the_whole_tree(stub):
    ran = run(stub, TREE, timeout_ms=700, grace_ms=300)
    assert ran.process.status == TIMED_OUT
    pids = tree_pids(ran.stdout)
    assert len(pids) == 4
    eventually(lambda: not any(map(alive, pids)), what="the end of the tree")


def test_a_command_within_its_timeout_just_exits(stub):
    ran = run(stub, "exit 3", timeout_ms=20_000)
    assert ran.process.status == EXITED
    assert ran.process.exit_code == 3


def test_a_timeout_counts_from_the_start_and_not_in_the_queue(tmp_path):
    with gateway("--max-running", "1") as g:
        first = start(g.stub, "sleep 1000")
        second = start(g.stub, "echo done", timeout_ms=3000)
        late = second.created_at + 3300
        eventually(lambda: time.time() * 1000 > late, what="more than its timeout in the queue")
        stop(g.stub, first.id, grace_ms=0)
        result = wait(g.stub, second.id)
        assert result.process.status == EXITED
        assert result.stdout_data == b"done\n"


def test_the_grace_period_option_is_the_default():
    command = "trap '' TERM; while :; do sleep 0.02; done"
    with gateway("--grace-period", "300ms") as g:
        process = run(g.stub, command, timeout_ms=300).process
        # Without the option it would be 5,300.
        assert 590 <= process.ended_at - process.started_at < 5000


def test_a_memory_limit_stops_what_exceeds_it(stub):
    if info(stub).limits_enforced == pb.LIMITS_ENFORCEMENT_NONE:
        pytest.skip("this gateway says that it enforces no limits")
    program = "x = bytearray(1 << 30); x[::4096] = bytes(len(x[::4096])); print('had it')"
    limits = pb.ResourceLimits(memory_bytes=256 * MiB)
    ran = run(stub, sys.executable, "-I", "-c", program, limits=limits)
    assert ran.stdout == b""
    assert (ran.process.status, ran.process.exit_code) != (EXITED, 0)
    if ran.process.limits_enforced == pb.LIMITS_ENFORCEMENT_CGROUP:
        assert ran.process.termination_reason == pb.TERMINATION_REASON_OUT_OF_MEMORY


def test_a_memory_limit_lets_be_what_keeps_to_it(stub):
    program = "x = bytearray(64 << 20); print('had it')"
    limits = pb.ResourceLimits(memory_bytes=512 * MiB)
    ran = run(stub, sys.executable, "-I", "-c", program, limits=limits)
    assert ran.stdout == b"had it\n", ran.stderr


def test_a_process_limit_stops_a_command_that_forks_beyond_it(stub):
    if info(stub).limits_enforced == pb.LIMITS_ENFORCEMENT_NONE:
        pytest.skip("this gateway says that it enforces no limits")
    command = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo all"
    limits = pb.ResourceLimits(max_processes=20)
    ran = run(stub, command, limits=limits, run_as="daemon", kill_descendants=True, cwd="/")
    assert b"all" not in ran.stdout
    assert b"fork" in ran.stderr.lower()


def test_a_cpu_limit_slows_what_exceeds_it_where_it_can_be_enforced(stub):
    command = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done"
    limits = pb.ResourceLimits(cpu_millis=250)
    ran = run(stub, command, limits=limits)
    assert ran.stdout == b"done\n"
    if ran.process.limits_enforced == pb.LIMITS_ENFORCEMENT_CGROUP:
        wall = ran.process.ended_at - ran.process.started_at
        assert wall >= 2 * ran.process.usage.cpu_time_ms


def test_a_process_says_how_its_limits_are_enforced(stub):
    limits = pb.ResourceLimits(memory_bytes=512 * MiB)
    process = run(stub, "true", limits=limits).process
    assert process.limits_enforced != pb.LIMITS_ENFORCEMENT_UNSPECIFIED
    assert process.limits_enforced == info(stub).limits_enforced


def test_descendants_go_on_after_the_command_and_this_is_told(stub):
    ran = run(stub, "sleep 1000 >/dev/null 2>&1 & echo $!")
    child = int(ran.stdout)
    assert ran.process.descendants_alive
    assert alive(child)
    os.kill(child, 9)


def test_a_command_that_leaves_nobody_says_so(stub):
    assert not run(stub, "sleep 0.01 & wait").process.descendants_alive


def test_kill_descendants_kills_what_the_command_leaves(stub):
    command = "sleep 1000 >/dev/null 2>&1 & echo $!; (setsid sleep 1000 >/dev/null 2>&1 & echo $!)"
    ran = run(stub, command, kill_descendants=True)
    pids = [int(line) for line in ran.lines]
    assert len(pids) == 2
    assert ran.process.status == EXITED
    assert ran.process.exit_code == 0
    eventually(lambda: not any(map(alive, pids)), what="the end of the descendants")


def test_kill_descendants_kills_those_that_hold_the_output_open(stub):
    ran = run(stub, "sleep 1000 & echo $!", kill_descendants=True)
    eventually(lambda: not alive(int(ran.stdout)), what="the end of the descendant")


def test_a_wait_in_the_queue_ends_after_its_timeout():
    with gateway("--max-running", "1") as g:
        start(g.stub, "sleep 1000")
        ran = run(g.stub, "true", queue_timeout_ms=300)
        assert ran.queued
        assert ran.started is None
        process = ran.process
        assert process.status == FAILED
        assert process.termination_reason == pb.TERMINATION_REASON_QUEUE_TIMEOUT
        assert process.error
        assert process.pid == process.started_at == 0
        assert process.ended_at - process.created_at >= 290


def test_a_queue_timeout_does_not_touch_what_has_started(stub):
    ran = run(stub, "sleep 0.5; echo done", queue_timeout_ms=100)
    assert ran.stdout == b"done\n"


# Output


def test_the_newest_output_is_retained_and_the_oldest_dropped(stub):
    policy = pb.OutputPolicy(retain_bytes=MiB)
    id = start(stub, "seq 1 1500000", output=policy).id
    process = wait(stub, id).process
    whole = "".join(f"{i}\n" for i in range(1, 1500001)).encode()
    assert process.stdout_bytes == len(whole)
    assert process.first_retained_seq > 1
    kept = collect(follow(stub, id, from_seq=process.first_retained_seq))
    assert whole.endswith(kept.stdout)
    assert MiB - 256 * 1024 <= len(kept.stdout) <= 2 * MiB
    assert kept.seqs == list(range(process.first_retained_seq, process.last_seq + 1))


def test_the_retain_bytes_option_is_the_default():
    with gateway("--retain-bytes", "1MiB") as g:
        id = start(g.stub, "head -c 5M /dev/zero").id
        process = wait(g.stub, id).process
        assert process.first_retained_seq > 1
        kept = collect(follow(g.stub, id, from_seq=process.first_retained_seq))
        assert MiB - 256 * 1024 <= len(kept.stdout) <= 2 * MiB
        assert info(g.stub).retain_bytes == MiB


def test_a_started_process_is_not_held_back_where_nobody_reads(stub):
    process = wait(stub, start(stub, "head -c 100M /dev/zero").id).process
    assert process.exit_code == 0
    assert process.stdout_bytes == 100 * MiB


def test_hold_when_full_holds_the_process_back_until_a_reader_has_caught_up(shared, tmp_path):
    import hashlib

    stub, total = shared.connect(), 24 * MiB
    progress = PrinterProgress(tmp_path / "progress")
    policy = pb.OutputPolicy(retain_bytes=MiB, hold_when_full=True)
    words = (sys.executable, "-I", "-c", PRINTER, str(progress.path), str(total))
    id = start(stub, *words, output=policy).id
    held = progress.stalls()
    assert held <= 4 * MiB
    assert get(stub, id).status == pb.PROCESS_STATUS_RUNNING
    ran = collect(follow(stub, id))
    assert len(ran.stdout) == total
    assert progress.digest() == hashlib.sha256(ran.stdout).hexdigest()
    assert ran.process.exit_code == 0


def test_a_held_process_can_be_stopped(stub):
    policy = pb.OutputPolicy(retain_bytes=MiB, hold_when_full=True)
    id = start(stub, "echo $$; cat /dev/zero", output=policy).id
    eventually(lambda: get(stub, id).stdout_bytes >= MiB // 2, what="output up to its window")
    process = stop(stub, id)
    assert process.termination_reason == pb.TERMINATION_REASON_STOPPED
    assert not alive(process.pid)


def test_all_retained_output_together_is_bounded():
    with gateway("--retain-bytes", "2MiB", "--max-output-memory", "8MiB") as g:
        command = "head -c 2000000 /dev/zero"
        ids = []
        for i in range(12):
            # One after the other: the oldest is the one that ended first.
            ids.append(start(g.stub, command, key=f"key {i}").id)
            wait(g.stub, ids[-1], max_output_bytes=1)
        newest = collect(follow(g.stub, ids[-1]))
        assert len(newest.stdout) == 2_000_000
        kept = 0
        for id in ids:
            kept += len(collect(follow(g.stub, id, allow_gaps=True)).stdout)
        assert kept <= 10 * MiB
        # The oldest ended give way first; what came of them is still known.
        with refused(Code.OUT_OF_RANGE, "REPLAY_WINDOW_EXPIRED"):
            collect(follow(g.stub, ids[0]))
        for id in ids:
            process = get(g.stub, id)
            assert process.exit_code == 0 and process.stdout_bytes == 2_000_000
        assert get(g.stub, ids[0]).first_retained_seq > get(g.stub, ids[0]).last_seq
        assert wait(g.stub, ids[0]).output_truncated
        assert start(g.stub, command, key="key 0").id == ids[0]


def test_lines_within_retention_are_replayed_whole(stub):
    id = start(stub, "for i in 1 2 3; do echo $i; done").id
    wait(stub, id)
    assert has_lines(3)(collect(follow(stub, id)))
