"""StreamOutput: replay, following, gaps, filters, many followers."""

import hashlib
import threading

import pytest

from contract import (
    QUEUED,
    STDERR,
    STDOUT,
    Code,
    MiB,
    Ran,
    collect,
    error_info,
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
from gateway import eventually, gateway
from programs import paced

FIVE = [line for i in range(1, 6) for line in (f"echo out{i}", f"echo err{i} >&2")]


def dropped(stub, **fields):
    """A process that has ended and whose oldest output is gone."""
    id = start(stub, "seq 1 1000000", output=pb.OutputPolicy(retain_bytes=MiB), **fields).id
    process = wait(stub, id).process
    assert process.first_retained_seq > 1
    return process


def test_the_output_is_replayed_after_the_end_and_exited_comes_last(stub):
    id = paced(stub, FIVE, then="exit 3")
    ran = collect(follow(stub, id))
    assert ran.stdout == b"".join(b"out%d\n" % i for i in range(1, 6))
    assert ran.stderr == b"".join(b"err%d\n" % i for i in range(1, 6))
    assert ran.seqs == list(range(1, 11))
    assert ran.process.exit_code == 3
    assert ran.exited.last_seq == 10
    assert ran.exited.stdout_data == ran.exited.stderr_data == b""


def test_a_replay_is_byte_for_byte_what_the_first_reader_got(stub):
    ran = run(stub, "seq 1 100000; seq 1 1000 >&2; seq 1 5")
    again = collect(follow(stub, ran.id))
    assert [chunk.SerializeToString() for chunk in again.chunks] == [
        chunk.SerializeToString() for chunk in ran.chunks
    ]


def test_a_running_process_is_replayed_and_then_followed(stub):
    id = start(stub, "echo first; read line; echo second $line").id
    eventually(lambda: get(stub, id).last_seq == 1)
    events = follow(stub, id)
    ran = until(events, has_lines(1))
    write(stub, id, b"x\n")
    collect(events, ran)
    assert ran.stdout == b"first\nsecond x\n"
    assert ran.process.exit_code == 0


def test_started_is_not_in_it(stub):
    id = start(stub, "echo x").id
    assert [kind for kind in collect(follow(stub, id)).events] == ["output", "exited"]


def test_from_seq_is_the_first_chunk_wanted(stub):
    id = paced(stub, FIVE)
    for seq in range(1, 11):
        assert collect(follow(stub, id, from_seq=seq)).seqs == list(range(seq, 11))


def test_zero_and_one_both_mean_from_the_beginning(stub):
    id = paced(stub, FIVE)
    zero, one = (collect(follow(stub, id, from_seq=seq)) for seq in (0, 1))
    assert zero.seqs == one.seqs == list(range(1, 11))


def test_from_seq_past_the_last_chunk_of_an_ended_process_is_only_exited(stub):
    id = start(stub, "echo x").id
    wait(stub, id)
    assert collect(follow(stub, id, from_seq=2)).events == ["exited"]


def test_from_seq_ahead_of_a_running_process_waits_for_that_chunk(stub):
    id = start(stub, "while read line; do echo $line; done").id
    events = follow(stub, id, from_seq=3)
    for i in range(1, 5):
        write(stub, id, b"%d\n" % i)
        eventually(lambda i=i: get(stub, id).last_seq == i)
    write(stub, id, eof=True)
    assert collect(events).seqs == [3, 4]


def test_no_follow_ends_with_what_is_retained_now(stub):
    id = start(stub, "echo now; sleep 1000").id
    eventually(lambda: get(stub, id).last_seq == 1)
    ran = collect(follow(stub, id, no_follow=True))
    assert ran.stdout == b"now\n"
    assert ran.exited is None
    stop(stub, id, grace_ms=0)
    assert collect(follow(stub, id, no_follow=True)).exited is not None


def test_no_follow_of_a_process_without_output_is_empty(stub):
    id = start(stub, "sleep 1000").id
    assert collect(follow(stub, id, no_follow=True)).events == []
    stop(stub, id, grace_ms=0)


def test_what_was_dropped_is_out_of_range(stub):
    process = dropped(stub)
    for seq in (0, 1, process.first_retained_seq - 1):
        with refused(Code.OUT_OF_RANGE, "REPLAY_WINDOW_EXPIRED") as caught:
            collect(follow(stub, process.id, from_seq=seq))
        metadata = error_info(caught[0]).metadata
        assert metadata["first_retained_seq"] == str(process.first_retained_seq)


def test_what_is_retained_can_be_asked_for_exactly(stub):
    process = dropped(stub)
    ran = collect(follow(stub, process.id, from_seq=process.first_retained_seq))
    assert ran.seqs == list(range(process.first_retained_seq, process.last_seq + 1))
    whole = "".join(f"{i}\n" for i in range(1, 1000001)).encode()
    assert whole.endswith(ran.stdout)


def test_a_gap_stands_in_place_of_what_was_dropped(stub):
    process = dropped(stub)
    ran = collect(follow(stub, process.id, allow_gaps=True))
    assert ran.events[0] == "gap"
    assert [(gap.from_seq, gap.to_seq) for gap in ran.gaps] == [(1, process.first_retained_seq - 1)]
    assert ran.seqs == list(range(process.first_retained_seq, process.last_seq + 1))
    assert ran.exited


def test_a_gap_begins_at_the_chunk_asked_for(stub):
    process = dropped(stub)
    ran = collect(follow(stub, process.id, from_seq=3, allow_gaps=True))
    assert [(gap.from_seq, gap.to_seq) for gap in ran.gaps] == [(3, process.first_retained_seq - 1)]


def test_there_is_no_gap_where_nothing_was_dropped(stub):
    process = dropped(stub)
    assert not collect(
        follow(stub, process.id, from_seq=process.first_retained_seq, allow_gaps=True)
    ).gaps


def fallen_behind(shared, **fields):
    """A follower that reads one chunk, and no more until the process has printed 100 MB."""
    process = start(shared.stub, "read x; seq 1 12000000", output=pb.OutputPolicy(retain_bytes=MiB))
    events = follow(shared.connect(), process.id, **fields)
    # Sent once the log is followed.
    events.initial_metadata()
    write(shared.stub, process.id, b"x\n")
    ran = until(events, lambda ran: ran.chunks)
    wait(shared.stub, process.id, max_output_bytes=1)
    return process, events, ran


def test_a_follower_that_falls_behind_is_told(shared):
    process, events, ran = fallen_behind(shared)
    with refused(Code.OUT_OF_RANGE, "REPLAY_WINDOW_EXPIRED") as caught:
        collect(events, ran)
    assert ran.seqs == list(range(1, len(ran.seqs) + 1))
    first = int(error_info(caught[0]).metadata["first_retained_seq"])
    assert ran.seqs[-1] < first <= get(shared.stub, process.id).last_seq


def test_a_follower_that_falls_behind_and_allowed_gaps_gets_one(shared):
    process, events, ran = fallen_behind(shared, allow_gaps=True)
    collect(events, ran)
    assert ran.gaps
    told = set(ran.seqs)
    for gap in ran.gaps:
        missing = set(range(gap.from_seq, gap.to_seq + 1))
        assert not missing & told
        told |= missing
    assert told == set(range(1, ran.process.last_seq + 1))
    assert ran.exited


def test_only_the_streams_asked_for_come(stub):
    id = paced(stub, FIVE)
    out = collect(follow(stub, id, streams=[STDOUT]))
    assert out.stderr == b"" and out.lines == [f"out{i}" for i in range(1, 6)]
    assert out.seqs == [1, 3, 5, 7, 9]
    err = collect(follow(stub, id, streams=[STDERR]))
    assert err.stdout == b"" and err.seqs == [2, 4, 6, 8, 10]
    both = collect(follow(stub, id, streams=[STDERR, STDOUT]))
    assert both.seqs == list(range(1, 11))
    assert out.process == err.process


def test_a_filtered_stream_is_followed_live(stub):
    id = start(stub, "echo a; echo b >&2; read x; echo c; echo d >&2").id
    events = follow(stub, id, streams=[STDERR])
    ran = until(events, lambda ran: ran.stderr == b"b\n")
    write(stub, id, b"\n")
    collect(events, ran)
    assert ran.stderr == b"b\nd\n" and ran.stdout == b""


def test_a_queued_process_can_be_followed():
    with gateway("--max-running", "1") as g:
        first = start(g.stub, "sleep 1000")
        second = start(g.stub, "echo mine")
        assert second.status == QUEUED
        events = follow(g.stub, second.id)
        stop(g.stub, first.id, grace_ms=0)
        ran = collect(events)
        assert ran.stdout == b"mine\n"
        assert ran.process.exit_code == 0


def test_twenty_followers_get_the_same(shared):
    id = start(shared.stub, "read x; seq 1 400000").id
    results = [None] * 20
    stubs = [shared.connect() for _ in range(4)]

    def read(i):
        ran = collect(follow(stubs[i % 4], id))
        results[i] = (hashlib.sha256(ran.stdout).hexdigest(), ran.process.exit_code)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    write(shared.stub, id, b"\n")
    for thread in threads:
        thread.join()
    expected = hashlib.sha256("".join(f"{i}\n" for i in range(1, 400001)).encode()).hexdigest()
    assert set(results) == {(expected, 0)}


def test_a_follower_that_never_reads_delays_neither_the_process_nor_twenty_others(shared):
    id = start(shared.stub, "read x; seq 1 800000").id
    never = follow(shared.connect(), id)
    counts, stub = [0] * 20, shared.connect()

    def read(i):
        for event in follow(stub, id):
            counts[i] += len(event.output.data)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    write(shared.stub, id, b"\n")
    process = wait(shared.stub, id, max_output_bytes=1).process
    assert process.exit_code == 0
    for thread in threads:
        thread.join()
    assert counts == [process.stdout_bytes] * 20
    never.cancel()


def test_a_follower_that_goes_leaves_the_process_alone(stub):
    id = start(stub, "echo a; read x; echo b").id
    events = follow(stub, id)
    until(events, has_lines(1))
    events.cancel()
    with refused(Code.DEADLINE_EXCEEDED):
        list(stub.StreamOutput(pb.StreamOutputRequest(process_id=id), timeout=0.3))
    write(stub, id, b"\n")
    assert wait(stub, id).stdout_data == b"a\nb\n"


def test_a_follower_of_an_exec_does_not_hold_it_back(shared):
    command = "read x; seq 1 3000000"
    id = start(shared.stub, command).id
    never = follow(shared.connect(), id)
    write(shared.stub, id, b"\n")
    assert wait(shared.stub, id, max_output_bytes=1).process.exit_code == 0
    never.cancel()


@pytest.mark.parametrize("options", [{}, {"streams": [STDERR]}])
def test_keep_alives_come_while_the_stream_is_idle(options):
    with gateway("--keep-alive", "1s") as g:
        id = start(g.stub, "sleep 1000").id
        events = follow(g.stub, id, **options)
        ran = until(events, lambda ran: ran.events.count("keep_alive") == 2, Ran())
        assert ran.events == ["keep_alive", "keep_alive"]
        events.cancel()


def test_output_is_split_at_no_particular_place_but_joined_is_whole(stub):
    data = b"".join(b"%07d\n" % i for i in range(60_000))
    id = start(stub, "cat").id
    write(stub, id, data, eof=True)
    ran = collect(follow(stub, id))
    assert ran.stdout == data
    assert all(0 < len(chunk.data) <= 4 * MiB - 100 for chunk in ran.chunks)
