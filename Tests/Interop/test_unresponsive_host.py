"""Directories and executables on a file system that does not answer: only the call that uses them
fails."""

import contextlib

import pytest

import fuse
from bystander import PROMPT, SETTLED, Bystander, outcomes
from contract import (
    FAILED,
    QUEUED,
    RUNNING,
    Code,
    begin,
    collect,
    follow,
    has_lines,
    listing,
    pb,
    refused,
    run,
    start,
    until,
)
from fuse import SilentMount
from gateway import alive, eventually, gateway

pytestmark = pytest.mark.timeout(120)

HANGING = 40
DIRECTORIES = {"in a queue": dict(reads=False), "taken": dict(reads=True)}
PROGRAMS = {
    "lookup in a queue": dict(reads=False),
    "lookup": dict(silent_on={fuse.LOOKUP}),
    "open": dict(silent_on={fuse.OPEN}),
    "read": dict(silent_on={fuse.READ}),
}


@contextlib.contextmanager
def host(tmp_path, **silent):
    """A gateway beside a file system that does not answer until the end of the test."""
    with gateway("--grace-period", "1s", "--drain-timeout", "1s") as g:
        with SilentMount(tmp_path / "silent", **silent) as mount:
            yield g, mount


def unfinished(g):
    return listing(g.stub, status=[QUEUED, RUNNING]).processes


@pytest.mark.parametrize("silent", DIRECTORIES.values(), ids=DIRECTORIES)
def test_hanging_directories_do_not_delay_other_callers(silent, tmp_path):
    with host(tmp_path, **silent) as (g, mount), Bystander(g) as bystander:
        stubs = [g.connect() for _ in range(4)]
        execs = [
            lambda stub=stubs[i % 4]: run(stub, "true", cwd=str(mount / "directory"))
            for i in range(HANGING // 2)
        ]
        starts = [
            lambda stub=stubs[i % 4]: start(stub, "true", cwd=str(mount.path))
            for i in range(HANGING // 2)
        ]
        found = outcomes(execs + starts, bystander.is_not_delayed)
        assert found == ["HOST_UNRESPONSIVE"] * HANGING
        bystander.is_not_delayed()
        assert [process.id for process in unfinished(g)] == [bystander.process.id]


@pytest.mark.parametrize("silent", DIRECTORIES.values(), ids=DIRECTORIES)
def test_a_start_in_a_hanging_directory_ends_at_its_deadline(silent, tmp_path):
    with host(tmp_path, **silent) as (g, mount):
        for _ in range(3):
            with refused(Code.DEADLINE_EXCEEDED):
                collect(begin(g.stub, "true", cwd=str(mount / "directory"), timeout=0.5))
        eventually(lambda: not unfinished(g), PROMPT, "the end of what hangs")


def test_a_directory_that_recovers_is_used_again(tmp_path):
    with host(tmp_path) as (g, mount):
        directory = str(mount / "directory")
        for call in run, start:
            with refused(Code.UNAVAILABLE, "HOST_UNRESPONSIVE"):
                call(g.stub, "pwd", cwd=directory, key=call.__name__)
        mount.release()
        (mount / "directory").mkdir()
        assert run(g.stub, "pwd", cwd=directory, key="run").lines == [directory]
        again = start(g.stub, "pwd", cwd=directory, key="start")
        assert collect(follow(g.stub, again.id)).lines == [directory]


@pytest.mark.parametrize("silent", PROGRAMS.values(), ids=PROGRAMS)
def test_hanging_executables_do_not_delay_other_callers(silent, tmp_path):
    with host(tmp_path, **silent) as (g, mount), Bystander(g) as bystander:
        stubs = [g.connect() for _ in range(4)]
        program = str(mount / "program")
        calls = [
            lambda stub=stubs[i % 4]: run(stub, program, "argument", cwd="/").process
            for i in range(HANGING)
        ]
        for each in outcomes(calls, bystander.is_not_delayed):
            assert each == "HOST_UNRESPONSIVE" or (each.status == FAILED and each.error)
        bystander.is_not_delayed()
        assert [process.id for process in unfinished(g)] == [bystander.process.id]


def test_an_unkillable_command_does_not_delay_other_callers(tmp_path):
    with host(tmp_path) as (g, mount):
        hung = start(g.stub, f"echo x; exec cat {mount / 'program'}", cwd="/")
        until(follow(g.stub, hung.id), has_lines(1))
        eventually(lambda: mount.requests, what="a request that hangs")
        with Bystander(g) as bystander:
            request = pb.StopProcessRequest(process_id=hung.id, grace_ms=0)
            stopping = g.connect().StopProcess.future(request)
            for _ in range(3):
                bystander.is_not_delayed()
            assert alive(hung.pid)
            mount.release()
            assert stopping.result(SETTLED).process.ended_at
            eventually(lambda: not alive(hung.pid), what="the end of what hung")


@pytest.mark.parametrize("which", ["start", "command"])
def test_the_gateway_stops_despite_an_unkillable_process(which, tmp_path):
    with host(tmp_path) as (g, mount):
        if which == "start":
            call = begin(g.stub, "true", cwd=str(mount / "directory"))
        else:
            call = begin(g.stub, f"exec cat {mount / 'program'}", cwd="/")
        eventually(lambda: mount.requests, what="a request that hangs")
        g.find_supervisor()
        call.cancel()
        g.close_channels()
        g.terminate()
        assert g.wait(25) == 0
        mount.release()
        eventually(lambda: not g.find_supervisor(), SETTLED, "the supervisor's end")
