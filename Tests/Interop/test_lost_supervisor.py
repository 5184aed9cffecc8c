"""A supervisor is killed: the next one ends its commands and their descendants."""

import contextlib
import os

import grpc
import pytest

from contract import Code, collect, follow, get, has_lines, info, refused, run, start, until
from gateway import alive, eventually, gateway, kill
from hosts import gateway_with

SLEEPER = "sleep 1000 >/dev/null 2>&1 & echo $!"
DESCENDANTS = f"""
{SLEEPER}
setsid {SLEEPER}
env -i setsid {SLEEPER}
(setsid sh -c 'trap "" TERM HUP INT; {SLEEPER}')
"""


@pytest.fixture(params=["cgroups", "no cgroups"])
def kind(request):
    return request.param


def running_tree(g):
    """The pids of a running command and its descendants."""
    process = start(g.stub, f"{DESCENDANTS} while :; do sleep 1000; done", cwd="/")
    ran = until(follow(g.stub, process.id), has_lines(4))
    return {process.pid, *map(int, ran.lines)}


def left_behind(g):
    """The pids of the descendants of an ended command."""
    ran = run(g.stub, DESCENDANTS, cwd="/")
    assert ran.process.descendants_alive
    return set(map(int, ran.lines))


def next_supervisor(g, instance):
    """Waits for it on the shared connection and a new one: each worker has its own link."""

    def changed():
        with contextlib.suppress(grpc.RpcError):
            return all(info(stub).instance_id != instance for stub in (g.stub, g.connect()))

    eventually(changed, 20, "another supervisor")


def test_the_next_supervisor_of_a_gateway_ends_the_processes_of_the_last_one(kind):
    with gateway_with(kind) as g:
        pids, instance = running_tree(g) | left_behind(g), info(g.stub).instance_id
        assert len(pids) == 9 and all(map(alive, pids))
        kill(g.supervisor)
        next_supervisor(g, instance)
        eventually(lambda: not any(map(alive, pids)), what="the end of every descendant")
        assert run(g.stub, "echo x", cwd="/").stdout == b"x\n"


def test_the_supervisor_of_another_gateway_ends_the_processes_of_the_last_one(kind):
    with gateway_with(kind) as g:
        pids = running_tree(g) | left_behind(g)
        supervisor = g.supervisor
        g.kill()
        kill(supervisor)
        eventually(lambda: not alive(supervisor))
        g.restart()
        eventually(lambda: not any(map(alive, pids)), what="the end of every descendant")
        assert run(g.stub, "echo x", cwd="/").stdout == b"x\n"


def test_a_supervisor_ends_no_process_of_another_supervisor(kind):
    """The processes of another state directory, and those started by the new supervisor, live."""
    with gateway_with(kind) as g, gateway() as other:
        theirs = running_tree(other) | left_behind(other)
        instance = info(g.stub).instance_id
        pids = running_tree(g)
        kill(g.supervisor)
        next_supervisor(g, instance)
        started = running_tree(g)
        eventually(lambda: not any(map(alive, pids)), what="the end of every descendant")
        run(g.stub, "true", cwd="/")
        assert all(map(alive, theirs | started))
        for pid in theirs | started:
            kill(pid)


def test_a_process_of_a_lost_supervisor_is_unknown(kind):
    with gateway_with(kind) as g:
        process, instance = start(g.stub, "sleep 1000", cwd="/"), info(g.stub).instance_id
        kill(g.supervisor)
        next_supervisor(g, instance)
        with refused(Code.NOT_FOUND, "PROCESS_NOT_FOUND"):
            get(g.stub, process.id)
        eventually(lambda: not os.path.exists(f"/proc/{process.pid}") or not alive(process.pid))


def test_a_supervisor_that_is_killed_repeatedly_leaves_no_process(kind):
    with gateway_with(kind) as g:
        every = set()
        for _ in range(4):
            instance = info(g.stub).instance_id
            every |= running_tree(g)
            kill(g.supervisor)
            next_supervisor(g, instance)
        eventually(lambda: not any(map(alive, every)), what="the end of every descendant")
        assert collect(follow(g.stub, start(g.stub, "echo x", cwd="/").id)).stdout == b"x\n"
