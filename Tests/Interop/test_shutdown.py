"""SIGTERM: calls go on, processes are stopped or left, and the exit status is 0."""

import os
import signal
import threading
import time

import grpc
import pytest

from contract import (
    EXITED,
    RUNNING,
    Code,
    Ran,
    begin,
    collect,
    follow,
    get,
    has_lines,
    info,
    pb,
    refused,
    start,
    until,
    wait,
    write,
)
from gateway import alive, eventually, gateway
from programs import TREE, tree_pids


def refuses(stub):
    try:
        info(stub)
    except grpc.RpcError:
        return True


def draining(g):
    """True once no new call is taken."""
    return eventually(lambda: refuses(g.connect()), what="new calls to be refused")


def test_sigterm_with_nothing_to_do_ends_at_once():
    with gateway("--drain-timeout", "1h") as g:
        supervisor = g.supervisor
        g.terminate()
        assert g.wait() == 0
        eventually(lambda: not alive(supervisor))


def test_running_calls_go_on_to_their_end(tmp_path):
    with gateway() as g:
        command = f"echo one; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo two"
        events = begin(g.stub, command)
        ran = until(events, has_lines(1))
        g.terminate()
        draining(g)
        (tmp_path / "go").touch()
        collect(events, ran)
        assert ran.stdout == b"one\ntwo\n"
        assert ran.process.exit_code == 0
        assert g.wait() == 0


def test_no_new_calls_are_taken_while_draining(tmp_path):
    with gateway() as g:
        old = g.connect()
        events = begin(old, f"echo x; until [ -e {tmp_path}/go ]; do sleep 0.02; done")
        until(events, has_lines(1))
        g.terminate()
        draining(g)
        with refused(Code.UNAVAILABLE):
            start(g.connect(), "true")
        eventually(lambda: refuses(old), what="the GOAWAY on the old connection")
        with refused(Code.UNAVAILABLE):
            start(old, "true")
        (tmp_path / "go").touch()
        collect(events)
        assert g.wait() == 0


def test_calls_beyond_the_drain_timeout_are_ended_and_their_trees_stopped():
    with gateway("--drain-timeout", "500ms", "--grace-period", "500ms") as g:
        events = begin(g.stub, TREE)
        ran = until(events, has_lines(4))
        pids = tree_pids(ran.stdout) | {ran.started.pid}
        began = time.monotonic()
        g.terminate()
        try:
            collect(events, ran)
            assert ran.process.termination_reason == pb.TERMINATION_REASON_SHUTDOWN
        except grpc.RpcError as error:
            assert error.code() == Code.UNAVAILABLE
        assert g.wait() == 0
        assert time.monotonic() - began > 0.4
        assert not any(map(alive, pids))


def test_started_processes_are_stopped_with_their_whole_trees():
    with gateway("--grace-period", "500ms") as g:
        process = start(g.stub, TREE)
        ran = until(follow(g.stub, process.id), has_lines(4))
        g.close_channels()
        g.terminate()
        assert g.wait() == 0
        assert not any(map(alive, tree_pids(ran.stdout) | {process.pid}))


def test_what_a_command_left_behind_is_stopped_too():
    with gateway() as g:
        command = "(setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!)"
        ran = collect(begin(g.stub, command))
        stray = int(ran.stdout)
        assert alive(stray)
        g.close_channels()
        g.terminate()
        assert g.wait() == 0
        assert not alive(stray)


def test_processes_that_ignore_term_are_killed_after_the_grace_time():
    with gateway("--grace-period", "400ms") as g:
        process = start(g.stub, "trap '' TERM; echo x; while :; do sleep 0.02; done")
        until(follow(g.stub, process.id), has_lines(1))
        g.close_channels()
        g.terminate()
        assert g.wait() == 0
        assert not alive(process.pid)


def test_a_follower_is_told_that_the_shutdown_ended_the_process():
    with gateway("--drain-timeout", "500ms") as g:
        id = start(g.stub, "sleep 1000").id
        ran = Ran()
        events = follow(g.stub, id)
        g.terminate()
        try:
            collect(events, ran)
            assert ran.process.termination_reason == pb.TERMINATION_REASON_SHUTDOWN
        except grpc.RpcError as error:
            assert error.code() == Code.UNAVAILABLE
        assert g.wait() == 0


def test_a_waiting_caller_gets_the_output_of_what_the_shutdown_ended():
    for _ in range(5):
        with gateway("--drain-timeout", "100ms") as g:
            id = start(g.stub, "echo printed; sleep 1000").id
            next(follow(g.stub, id))
            waiting = g.stub.Wait.future(pb.WaitRequest(process_id=id))
            # The call is there once another one on its connection has been answered.
            info(g.stub)
            g.terminate()
            result = waiting.result(20).result
            assert result.stdout_data == b"printed\n"
            assert result.process.termination_reason == pb.TERMINATION_REASON_SHUTDOWN
            assert g.wait(20) == 0


def test_a_second_sigterm_ends_it_now():
    with gateway("--drain-timeout", "1h") as g:
        events = begin(g.stub, "echo x; sleep 1000")
        ran = until(events, has_lines(1))
        g.terminate()
        draining(g)
        g.process.send_signal(signal.SIGTERM)
        g.wait()
        eventually(lambda: not alive(ran.started.pid))


def test_queued_processes_never_start_at_a_shutdown(tmp_path):
    with gateway("--max-running", "1") as g:
        start(g.stub, "sleep 1000")
        start(g.stub, f"touch {tmp_path}/ran")
        g.close_channels()
        g.terminate()
        assert g.wait() == 0
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("pause", [0, 0.04, 0.05, 0.055, 0.06, 0.065, 0.07, 0.08, 0.1, 0.15])
def test_a_gateway_that_ends_while_it_replaces_its_supervisor_leaves_none(pause):
    with gateway() as g:
        os.kill(g.supervisor, signal.SIGKILL)
        time.sleep(pause)  # the moment within the replacement is what is tested
        g.terminate()
        assert g.wait() == 0
        eventually(lambda: g.find_supervisor() is None, what="the end of every supervisor")


def test_keep_processes_leaves_them_to_the_next_gateway():
    with gateway("--keep-processes") as g:
        process = start(g.stub, "echo one; read x; echo two; read x; exit 7")
        events = follow(g.stub, process.id)
        until(events, has_lines(1))
        write(g.stub, process.id, b"\n")
        ended = wait(g.stub, start(g.stub, "echo kept; exit 3").id).process
        supervisor, instance = g.supervisor, info(g.stub).instance_id
        events.cancel()
        g.close_channels()
        g.terminate()
        assert g.wait() == 0
        assert alive(supervisor) and alive(process.pid)
        g.start()
        assert g.supervisor == supervisor
        assert info(g.stub).instance_id == instance
        found = get(g.stub, process.id)
        assert (found.status, found.pid) == (RUNNING, process.pid)
        assert get(g.stub, ended.id) == ended
        write(g.stub, process.id, b"\n", offset=1)
        ran = collect(follow(g.stub, process.id))
        assert ran.stdout == b"one\ntwo\n"
        assert ran.process.status == EXITED
        assert ran.process.exit_code == 7
        g.close_channels()
        g.terminate()
        assert g.wait() == 0
        g.defaults += ["--drain-timeout", "1s"]
        g.options.remove("--keep-processes")
        g.start()  # the last one takes the supervisor with it


@pytest.mark.parametrize("calls", [1, 50])
def test_calls_in_flight_end_cleanly_at_a_shutdown(calls):
    """Each gets its answer or UNAVAILABLE; none hangs, none gets half an answer."""
    with gateway() as g:
        stub, results = g.connect(), []

        def call():
            while True:
                try:
                    ran = collect(begin(stub, "echo whole"))
                    results.append(ran.stdout == b"whole\n" and ran.exited is not None)
                except grpc.RpcError as error:
                    results.append(error.code() == Code.UNAVAILABLE)
                    return

        threads = [threading.Thread(target=call) for _ in range(calls)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(results) > calls)
        g.terminate()
        assert g.wait() == 0
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        assert all(results)
