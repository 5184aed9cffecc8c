"""A stopped supervisor (SIGSTOP) is reported like a dead one until it continues."""

import contextlib
import http.client
import os
import signal
import socket
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bystander import outcome
from contract import (
    Code,
    begin,
    collect,
    follow,
    get,
    has_lines,
    pb,
    refused,
    run,
    spec,
    start,
    until,
    write,
)
from gateway import alive, eventually, gateway

pytestmark = pytest.mark.timeout(90)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# Seconds. The heartbeat fails after 5 s, and calls have deadlines of 50 s.
NOTICED, AT_ONCE = 15, 4


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture
def g():
    port = free_port()
    with gateway("--metrics-listen", f"127.0.0.1:{port}") as running:
        running.metrics = port
        yield running


@contextlib.contextmanager
def stopped(g):
    """Stops the supervisor of `g` inside the block."""
    pid = g.supervisor
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def metric(g, name):
    connection = http.client.HTTPConnection("127.0.0.1", g.metrics, timeout=AT_ONCE)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.status == 200
    lines = response.read().decode().splitlines()
    connection.close()
    values = [line.split()[1] for line in lines if line.split()[0] == name]
    return float(values[0]) if values else None


def health(g):
    stub = health_pb2_grpc.HealthStub(g.channel())
    return lambda: stub.Check(health_pb2.HealthCheckRequest(), timeout=AT_ONCE).status


def test_health_and_metrics_report_a_stopped_supervisor_and_calls_fail_at_once(g):
    check = health(g)
    assert check() == SERVING and metric(g, "procgate_supervisor_up") == 1
    running = start(g.stub, "echo x; read x; echo $x", cwd="/")
    events = follow(g.stub, running.id)
    ran = until(events, has_lines(1))
    with stopped(g):
        eventually(lambda: check() == NOT_SERVING, NOTICED, "NOT_SERVING")
        assert metric(g, "procgate_supervisor_up") == 0
        for _ in range(3):
            for call in (
                lambda: start(g.stub, "true", cwd="/"),
                lambda: run(g.stub, "true", cwd="/"),
                lambda: run(g.connect(), "true", cwd="/"),
                lambda: get(g.stub, running.id),
                lambda: g.stub.ListProcesses(pb.ListProcessesRequest()),
            ):
                began = time.monotonic()
                with refused(Code.UNAVAILABLE, "SUPERVISOR_UNAVAILABLE"):
                    call()
                assert time.monotonic() - began < AT_ONCE
            assert metric(g, "procgate_supervisor_up") == 0
        assert check() == NOT_SERVING
    eventually(lambda: check() == SERVING, NOTICED, "SERVING")
    eventually(lambda: metric(g, "procgate_supervisor_up") == 1, NOTICED)
    works = lambda: outcome(lambda: run(g.stub, "echo x", cwd="/").stdout) == b"x\n"
    eventually(works, NOTICED, "calls of every worker")
    assert get(g.stub, running.id).pid == running.pid
    write(g.stub, running.id, b"on\n")
    try:
        collect(events, ran)
    except grpc.RpcError as error:
        assert error.code() == Code.UNAVAILABLE  # the output can be requested again
    assert collect(follow(g.stub, running.id)).lines == ["x", "on"]


def test_a_health_watcher_sees_both_changes(g):
    watch = health_pb2_grpc.HealthStub(g.channel()).Watch(
        health_pb2.HealthCheckRequest(service="procgate.v1.ProcessService"), timeout=60
    )
    assert next(watch).status == SERVING
    with stopped(g):
        began = time.monotonic()
        assert next(watch).status == NOT_SERVING
        assert 2 < time.monotonic() - began < NOTICED
    assert next(watch).status == SERVING
    watch.cancel()


def test_metrics_answer_before_the_heartbeat_fails(g):
    with stopped(g):
        for _ in range(5):
            assert metric(g, "procgate_supervisor_up") is not None


def test_a_short_stop_does_not_change_health(g):
    check = health(g)
    with stopped(g):
        assert check() == SERVING
        waiting = begin(g.stub, "echo x", cwd="/")
    assert collect(waiting).stdout == b"x\n"
    assert check() == SERVING


def test_a_pending_call_does_not_hang_after_the_supervisor_continues(g):
    check = health(g)
    with stopped(g):
        request = pb.StartProcessRequest(process=spec("echo x", cwd="/"))
        pending = g.stub.StartProcess.future(request)
        eventually(lambda: check() == NOT_SERVING, NOTICED, "NOT_SERVING")
    found = outcome(lambda: pending.result(NOTICED))
    if found != "SUPERVISOR_UNAVAILABLE":
        assert collect(follow(g.stub, found.process.id)).stdout == b"x\n"


@pytest.mark.parametrize("noticed", [False, True], ids=["at once", "noticed"])
def test_a_second_sigterm_ends_the_gateway_of_a_stopped_supervisor(noticed):
    with gateway("--drain-timeout", "1h") as g:
        check = health(g)
        running = start(g.stub, "sleep 1000", cwd="/")
        with stopped(g) as supervisor:
            if noticed:
                eventually(lambda: check() == NOT_SERVING, NOTICED)
            g.find_supervisor()

            def ends():
                g.process.terminate()  # pending signals merge, so it is sent again
                return g.process.poll() is not None

            eventually(ends, 2 * AT_ONCE, "the gateway's end")
        eventually(lambda: not alive(supervisor), 20, "the supervisor's end")
        eventually(lambda: not alive(running.pid), 20, "the end of its process")


def test_the_first_sigterm_ends_the_gateway_of_a_stopped_supervisor():
    with gateway("--drain-timeout", "1s", "--grace-period", "1s") as g:
        with stopped(g) as supervisor:
            g.terminate()
            g.wait(40)
        eventually(lambda: not alive(supervisor), 20, "the supervisor's end")


# Starts with an expired deadline


def test_an_exec_that_expired_while_the_supervisor_was_stopped_is_not_started(g, tmp_path):
    with stopped(g):
        with refused(Code.DEADLINE_EXCEEDED):
            collect(begin(g.stub, f"touch {tmp_path}/ran", cwd="/", timeout=1))
    for _ in range(3):
        run(g.stub, "true", cwd="/")
    assert not (tmp_path / "ran").exists()


def test_an_exec_that_expired_in_the_queue_is_not_started(tmp_path):
    with gateway("--max-running", "1") as g:
        first = start(g.stub, "read x", cwd="/")
        for i in range(20):
            with refused(Code.DEADLINE_EXCEEDED):
                collect(begin(g.stub, f"touch {tmp_path}/ran-{i}", cwd="/", timeout=0.1))
        write(g.stub, first.id, b"\n")
        assert run(g.stub, "echo x", cwd="/").stdout == b"x\n"
        assert list(tmp_path.iterdir()) == []
