"""The gateway is killed with SIGKILL, and another goes on with the same state directory."""

import ctypes
import os
import socket
import stat
import sys
import threading
import time

import grpc
import pytest

from contract import (
    KEEP,
    KILLED,
    RUNNING,
    Code,
    MiB,
    Ran,
    begin,
    collect,
    follow,
    get,
    has_lines,
    info,
    listing,
    pb,
    refused,
    run,
    start,
    stop,
    until,
    wait,
    write,
)
from gateway import alive, arguments, eventually, gateway, pids

# Numbered lines until the file STOP is there. STOP
LINES = """
import os, sys, time
i = 0
while not os.path.exists(sys.argv[1]):
    print(i, flush=True)
    i += 1
    time.sleep(0.003)
print("end", i, flush=True)
"""


PIDFD_GETFD = 438


def cut_links(g):
    """Ends the gateway's connections to its supervisor; both live on."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(g.pid)
    cut = 0
    for name in os.listdir(f"/proc/{g.pid}/fd"):
        fd = libc.syscall(PIDFD_GETFD, process, int(name), 0)
        if fd < 0:
            continue
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            os.close(fd)
            continue
        with socket.socket(fileno=fd) as link:
            try:
                if link.getpeername() == str(g.state / "supervisor.sock"):
                    link.shutdown(socket.SHUT_RDWR)
                    cut += 1
            except OSError:
                pass
    os.close(process)
    return cut


def test_a_lost_link_is_no_lost_supervisor():
    """A process that is followed over it goes on, and so does who follows it."""
    with gateway() as g:
        instance, supervisor = info(g.stub).instance_id, g.supervisor
        id = start(g.stub, "echo one; read x; echo two; exit 3").id
        streams = [follow(g.stub, id) for _ in range(3)]
        rans = [until(stream, has_lines(1)) for stream in streams]
        streams.pop().cancel()
        assert cut_links(g) > 0

        def goes_on():
            try:
                return write(g.stub, id, b"\n", offset=0)
            except grpc.RpcError as error:
                assert error.code() == Code.UNAVAILABLE
                return False

        eventually(goes_on, what="another link")
        for stream, ran in zip(streams, rans):
            collect(stream, ran)
            assert ran.stdout == b"one\ntwo\n"
            assert ran.seqs == [1, 2]
            assert ran.process.exit_code == 3
        assert (g.supervisor, info(g.stub).instance_id) == (supervisor, instance)


def test_processes_results_and_output_are_there_afterwards():
    with gateway() as g:
        running = start(g.stub, "echo one; read x; echo two; exit 5", labels={"a": "b"})
        ended = run(g.stub, "echo out; echo err >&2; exit 3").process
        failed = run(g.stub, "/no/such/command", "x").process
        eventually(lambda: get(g.stub, running.id).last_seq == 1)
        before, supervisor = get(g.stub, running.id), g.supervisor
        order = [process.id for process in listing(g.stub).processes]
        instance = info(g.stub).instance_id
        g.kill()
        assert alive(running.pid)
        g.restart()
        assert (g.supervisor, info(g.stub).instance_id) == (supervisor, instance)
        assert get(g.stub, running.id) == before
        assert get(g.stub, ended.id) == ended
        assert get(g.stub, failed.id) == failed
        assert [process.id for process in listing(g.stub).processes] == order
        result = wait(g.stub, ended.id)
        assert (result.stdout_data, result.stderr_data) == (b"out\n", b"err\n")
        write(g.stub, running.id, b"\n")
        ran = collect(follow(g.stub, running.id))
        assert ran.stdout == b"one\ntwo\n"
        assert ran.seqs == [1, 2]
        assert ran.process.exit_code == 5


def test_what_ends_while_no_gateway_is_there_is_told_by_the_next(tmp_path):
    with gateway() as g:
        command = f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; seq 1 100000; exit 4"
        process = start(g.stub, command)
        g.kill()
        (tmp_path / "go").touch()
        eventually(lambda: not alive(process.pid))
        g.restart()
        ran = collect(follow(g.stub, process.id))
        assert ran.process.exit_code == 4
        assert ran.stdout == "".join(f"{i}\n" for i in range(1, 100001)).encode()
        assert process.started_at <= ran.process.ended_at <= time.time() * 1000


def test_an_exec_without_a_key_is_killed_at_once():
    with gateway() as g:
        events = begin(g.stub, "sleep 1000")
        started = next(events).started
        g.kill()
        with pytest.raises(grpc.RpcError):
            collect(events)
        eventually(lambda: not alive(started.pid), what="the end of a process without a caller")
        g.restart()
        process = wait(g.stub, started.id).process
        assert process.status == KILLED
        assert process.termination_reason == pb.TERMINATION_REASON_CALLER_GONE


def test_an_exec_that_its_caller_keeps_goes_on():
    with gateway() as g:
        events = begin(g.stub, "sleep 0.5; echo kept", on_disconnect=KEEP)
        id = next(events).started.id
        g.kill()
        g.restart()
        assert wait(g.stub, id).stdout_data == b"kept\n"


def test_a_keyed_exec_goes_on_after_the_last_chunk_seen():
    with gateway() as g:
        command = "for i in $(seq 500); do echo $i; done; sleep 0.5; echo end"
        events = begin(g.stub, command, key="crash")
        ran = until(events, lambda ran: ran.chunks)
        g.kill()
        with pytest.raises(grpc.RpcError):
            collect(events, ran)
        g.restart()
        ran.started = None
        collect(begin(g.stub, command, key="crash", after=len(ran.chunks)), ran)
        assert ran.lines == [*map(str, range(1, 501)), "end"]
        assert ran.seqs == list(range(1, len(ran.seqs) + 1))


def test_a_held_exec_loses_nothing():
    """Much output, a reader that is behind, and the gateway gone in the middle."""
    with gateway() as g:
        command = "seq 1 4000000"
        ran = Ran()
        for _ in range(4):
            events = begin(g.stub, command, key="held", after=len(ran.chunks))
            target = len(ran.stdout) + 5 * MiB
            size = [len(ran.stdout)]
            for event in events:
                if event.WhichOneof("event") == "output":
                    ran.chunks.append(event.output)
                    size[0] += len(event.output.data)
                if size[0] >= target:
                    break
            g.kill()
            events.cancel()
            g.restart()
        ran.started = None
        collect(begin(g.stub, command, key="held", after=len(ran.chunks)), ran)
        assert ran.seqs == list(range(1, len(ran.seqs) + 1))
        assert ran.stdout == "".join(f"{i}\n" for i in range(1, 4000001)).encode()


def test_a_held_exec_whose_last_output_was_on_its_way_loses_nothing():
    """The gateway handed over everything, to sockets and proxies, and was gone then."""
    with gateway() as g:
        command = "seq 1 2500000"  # more than is retained of what nobody waits for
        ran = collect(begin(g.stub, command, key="on its way"))
        whole = len(ran.seqs)
        run(g.stub, "true")  # the supervisor has heard of the end of the call
        g.kill()
        g.restart()
        again = collect(begin(g.stub, command, key="on its way", after=1))
        assert again.seqs == list(range(2, whole + 1))
        assert ran.chunks[0].data + again.stdout == ran.stdout


def test_a_follower_of_what_holds_back_loses_nothing():
    with gateway() as g:
        policy = pb.OutputPolicy(retain_bytes=MiB, hold_when_full=True)
        id = start(g.stub, "seq 1 4000000", output=policy).id
        ran = Ran()
        for _ in range(4):
            events = follow(g.stub, id, from_seq=len(ran.chunks) + 1)
            size = 0
            for event in events:
                if event.WhichOneof("event") == "output":
                    ran.chunks.append(event.output)
                    size += len(event.output.data)
                if size >= 5 * MiB:
                    break
            g.kill()
            events.cancel()
            g.restart()
        collect(follow(g.stub, id, from_seq=len(ran.chunks) + 1), ran)
        assert ran.seqs == list(range(1, len(ran.seqs) + 1))
        assert ran.stdout == "".join(f"{i}\n" for i in range(1, 4000001)).encode()


def test_who_has_seen_output_starts_nothing_by_a_key_that_is_forgotten(tmp_path):
    file = tmp_path / "ran"
    command = f"echo ran >> {file}; echo out"
    with gateway("--retain-time", "100ms") as g:
        id = collect(begin(g.stub, command, key="once")).id
        eventually(lambda: not listing(g.stub).processes, what="the process to be forgotten")
        with refused(Code.NOT_FOUND, "PROCESS_NOT_FOUND"):
            collect(begin(g.stub, command, key="once", after=1))
        assert file.read_text() == "ran\n"
        assert collect(begin(g.stub, command, key="once")).id != id


def test_a_write_whose_answer_was_lost_can_be_repeated():
    with gateway() as g:
        id = start(g.stub, "cat").id
        assert write(g.stub, id, b"first ", offset=0) == 6
        g.kill()
        g.restart()
        assert write(g.stub, id, b"first ", offset=0) == 6
        assert write(g.stub, id, b"second", offset=6, eof=True) == 12
        assert wait(g.stub, id).stdout_data == b"first second"


def test_request_keys_are_remembered(tmp_path):
    with gateway() as g:
        command = f"echo ran >> {tmp_path}/log"
        id = start(g.stub, command, key="crash start").id
        wait(g.stub, id)
        g.kill()
        g.restart()
        assert start(g.stub, command, key="crash start").id == id
        with refused(Code.ALREADY_EXISTS, "REQUEST_KEY_REUSED"):
            start(g.stub, "true", key="crash start")
        assert (tmp_path / "log").read_text() == "ran\n"


def test_timeouts_and_the_queue_go_on_without_a_gateway(tmp_path):
    with gateway("--max-running", "1") as g:
        first = start(g.stub, "sleep 1000", timeout_ms=700)
        second = start(g.stub, f"touch {tmp_path}/ran")
        g.kill()
        eventually((tmp_path / "ran").exists, what="the queue to go on")
        g.restart()
        assert wait(g.stub, first.id).process.termination_reason == pb.TERMINATION_REASON_TIMEOUT
        assert wait(g.stub, second.id).process.exit_code == 0


def test_a_stop_that_was_cut_off_is_finished():
    with gateway() as g:
        process = start(g.stub, "trap 'echo term' TERM; echo x; while :; do sleep 0.02; done")
        events = follow(g.stub, process.id)
        until(events, has_lines(1))
        call = g.stub.StopProcess.future(pb.StopProcessRequest(process_id=process.id, grace_ms=700))
        until(events, lambda ran: b"term" in ran.stdout)
        g.kill()
        assert call.exception() is not None
        eventually(lambda: not alive(process.pid), what="the kill after the grace time")
        g.restart()
        # The host's process table tells of the death before the supervisor has had its turn.
        ended = eventually(
            lambda: (found := get(g.stub, process.id)).ended_at and found, 10, "the record's end"
        )
        assert ended.termination_reason == pb.TERMINATION_REASON_STOPPED


@pytest.mark.timeout(120)
def test_twenty_kills_while_twenty_processes_print_lose_no_line(tmp_path):
    with gateway() as g:
        stop_file = tmp_path / "stop"
        words = (sys.executable, "-I", "-c", LINES, str(stop_file))
        rans = {start(g.stub, *words).id: Ran() for _ in range(20)}
        assert all(get(g.stub, id).status == RUNNING for id in rans)

        def read(stub, id, ran):
            try:
                collect(follow(stub, id, from_seq=len(ran.chunks) + 1), ran)
            except grpc.RpcError:
                pass

        for round in range(21):
            stub = g.connect()
            readers = [threading.Thread(target=read, args=(stub, *item)) for item in rans.items()]
            counts = [len(ran.chunks) for ran in rans.values()]
            for reader in readers:
                reader.start()
            if round < 20:
                progress = lambda: all(
                    len(ran.chunks) > count + 3 for ran, count in zip(rans.values(), counts)
                )
                eventually(progress, what=f"new lines of all in round {round}")
                g.kill()
            else:
                stop_file.touch()
            for reader in readers:
                reader.join(30)
                assert not reader.is_alive()
            if round < 20:
                g.restart()
        for ran in rans.values():
            *numbers, end = ran.lines
            assert end == f"end {len(numbers)}"
            assert numbers == [str(i) for i in range(len(numbers))]
            assert ran.seqs == list(range(1, len(ran.seqs) + 1))
            assert ran.process.exit_code == 0


def test_a_gateway_killed_at_its_start_leaves_no_second_supervisor():
    with gateway(start=False) as g:
        for _ in range(6):
            g.launch()
            threading.Event().wait(0.02)  # somewhere in its start, wherever that is
            g.process.kill()
            g.wait()
        g.start()
        assert run(g.stub, "echo x").stdout == b"x\n"

        def supervisors():
            named = [pid for pid in pids() if str(g.state) in arguments(pid)]
            return [pid for pid in named if alive(pid) and "supervise" in arguments(pid)]

        eventually(lambda: len(supervisors()) == 1, what="a single supervisor")
        stop(g.stub, start(g.stub, "sleep 1000").id, grace_ms=0)
        assert os.path.exists(g.state / "supervisor.sock")
