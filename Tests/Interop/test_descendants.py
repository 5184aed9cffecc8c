"""Descendants that an ended command left running: they run on, are reported, and can be signalled
and stopped."""

import itertools
import time

import pytest

from contract import (
    EXITED,
    TIMED_OUT,
    Code,
    collect,
    delete,
    follow,
    get,
    listing,
    pb,
    refused,
    run,
    send_signal,
    start,
    stop,
    wait,
)
from gateway import alive, eventually, kill
from hosts import gateway_with

GROUP, LEADER, TREE = (
    pb.SIGNAL_SCOPE_UNSPECIFIED,
    pb.SIGNAL_SCOPE_LEADER,
    pb.SIGNAL_SCOPE_TREE,
)
KINDS = ["cgroups", "no cgroups"]
# A stop that should not wait for the grace time must end within PROMPT seconds.
GRACE, PROMPT = 60_000, 20
names = itertools.count()


@pytest.fixture(scope="module", params=KINDS)
def g(request):
    with gateway_with(request.param) as running:
        yield running


@pytest.fixture
def left(g):
    """A function that runs a command which prints the pids of the descendants it leaves behind. It
    returns the process and the pids. The fixture kills them after the test."""
    pids = []

    def run_and_leave(command, **fields):
        process = start(g.stub, command, cwd="/", **fields)
        ran = collect(follow(g.stub, process.id))
        pids.extend(map(int, ran.lines))
        assert ran.process.status == EXITED and ran.process.exit_code == 0, ran.stderr
        assert ran.process.descendants_alive and all(map(alive, pids))
        return ran.process, list(pids)

    yield run_and_leave
    for pid in pids:
        kill(pid)
    eventually(lambda: not any(map(alive, pids)), what="the end of the descendants")


SLEEPER = "sleep 1000 >/dev/null 2>&1 & echo $!"
# In the group of the command, in another session, without an environment, and orphaned twice.
SLEEPERS = f"""
{SLEEPER}
setsid {SLEEPER}
env -i setsid {SLEEPER}
(setsid sh -c '{SLEEPER}')
"""


def handler(signal, file, then):
    """Starts a descendant that writes the signal to `file`, and waits until it handles signals."""
    loop = f"touch {file}.ready; while :; do sleep 0.02; done"
    script = f"trap 'echo {signal} >> {file}; {then}' {signal}; {loop}"
    wait_for_it = f"until [ -e {file}.ready ]; do sleep 0.01; done"
    return f'setsid sh -c "{script}" >/dev/null 2>&1 & echo $!; {wait_for_it}\n'


# Output


@pytest.mark.parametrize("where", ["", " >&2"], ids=["stdout", "stderr"])
def test_output_after_the_end_is_dropped_and_causes_no_sigpipe(g, where, tmp_path):
    server = f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo late{where}"
    more = f"head -c 4M /dev/zero{where} && echo whole > {tmp_path}/result"
    ran = run(g.stub, f"({server}; {more}) & echo early", cwd="/")
    assert ran.stdout == b"early\n"
    ended = ran.process
    assert ended.status == EXITED and ended.descendants_alive
    (tmp_path / "go").touch()
    eventually((tmp_path / "result").exists, what="4 MiB to be taken after the end")
    eventually(lambda: not get(g.stub, ended.id).descendants_alive)
    after = get(g.stub, ended.id)
    assert (after.stdout_bytes, after.stderr_bytes, after.last_seq) == (6, 0, ended.last_seq)
    assert collect(follow(g.stub, ended.id)).stdout == b"early\n"
    assert wait(g.stub, ended.id).stdout_data == b"early\n"


def test_a_server_left_in_the_background_goes_on_printing(g, tmp_path):
    server = f"while :; do echo serving; echo . >> {tmp_path}/served; sleep 0.02; done"
    ran = run(g.stub, f"{server} & echo $! >&2; exit 3", cwd="/")
    pid = int(ran.stderr)
    assert ran.process.exit_code == 3 and ran.process.descendants_alive
    served = lambda: (tmp_path / "served").stat().st_size
    before = served()
    eventually(lambda: served() > before + 100, what="further work of the server")
    stop(g.stub, ran.process.id, grace_ms=0)
    assert not alive(pid)


# descendants_alive


def test_descendants_alive_is_true_until_the_last_descendant_ends(g, left):
    process, (first, second) = left(f"{SLEEPER}\nsetsid {SLEEPER}")
    kill(first)
    eventually(lambda: not alive(first))
    assert get(g.stub, process.id).descendants_alive
    kill(second)
    eventually(lambda: not get(g.stub, process.id).descendants_alive, what="the end to be told")
    listed = [each for each in listing(g.stub).processes if each.id == process.id]
    assert [each.descendants_alive for each in listed] == [False]
    after = wait(g.stub, process.id).process
    assert not after.descendants_alive
    assert (after.status, after.exit_code, after.ended_at) == (EXITED, 0, process.ended_at)


def test_a_watcher_sees_the_end_of_the_descendants(g, left):
    label = {"test": f"descendants-{next(names)}"}
    process, (pid,) = left(SLEEPER, labels=label)
    watch = g.stub.WatchProcesses(pb.WatchProcessesRequest(labels=label), timeout=20)
    told = (event.process for event in watch if event.WhichOneof("event") == "process")
    first = next(told)
    assert first.id == process.id and first.descendants_alive
    kill(pid)
    then = next(told)
    assert then.id == process.id and then.status == EXITED and not then.descendants_alive
    watch.cancel()


# StopProcess


def test_stop_ends_the_descendants_of_an_ended_command(g, left):
    process, pids = left(SLEEPERS)
    assert len(pids) == 4
    began = time.monotonic()
    stopped = stop(g.stub, process.id, grace_ms=GRACE)
    assert not any(map(alive, pids))
    assert time.monotonic() - began < PROMPT
    assert not stopped.descendants_alive
    assert (stopped.status, stopped.exit_code) == (EXITED, 0)
    assert stopped.termination_reason == pb.TERMINATION_REASON_EXITED
    assert stopped.ended_at == process.ended_at
    assert get(g.stub, process.id) == stopped
    assert stop(g.stub, process.id) == stopped


def test_stop_sends_term_to_descendants_and_kill_after_the_grace_time(g, left, tmp_path):
    obeys, ignores = tmp_path / "obeys", tmp_path / "ignores"
    command = handler("TERM", obeys, "exit 0") + handler("TERM", ignores, ":")
    process, (first, second) = left(command)
    began = time.monotonic()
    call = g.stub.StopProcess.future(pb.StopProcessRequest(process_id=process.id, grace_ms=1500))
    eventually(lambda: not alive(first), what="the end of what obeys TERM")
    assert not call.result().process.descendants_alive
    assert not alive(second)
    assert 1.4 < time.monotonic() - began < PROMPT
    assert obeys.read_text() == "TERM\n"
    assert ignores.read_text().startswith("TERM\n")


def test_stop_without_grace_kills_descendants_at_once(g, left, tmp_path):
    process, (pid,) = left(handler("TERM", tmp_path / "file", "exit 0"), grace_ms=GRACE)
    stop(g.stub, process.id, grace_ms=0)
    assert not alive(pid)
    assert not (tmp_path / "file").exists()


def test_a_second_stop_shortens_the_grace_time_of_descendants(g, left, tmp_path):
    file = tmp_path / "file"
    process, (pid,) = left(handler("TERM", file, ":"))
    request = pb.StopProcessRequest(process_id=process.id, grace_ms=GRACE)
    first = g.stub.StopProcess.future(request)
    eventually(file.exists, what="TERM")
    assert alive(pid)
    began = time.monotonic()
    stop(g.stub, process.id, grace_ms=0)
    assert not alive(pid)
    first.result()
    assert time.monotonic() - began < PROMPT


# Signal


def test_only_a_signal_to_the_tree_reaches_descendants(g, left, tmp_path):
    file = tmp_path / "file"
    process, (pid,) = left(handler("USR1", file, ":"))
    for scope in (GROUP, LEADER):
        with refused(Code.FAILED_PRECONDITION, "PROCESS_NOT_RUNNING"):
            send_signal(g.stub, process.id, "USR1", scope)
    assert send_signal(g.stub, process.id, "USR1", TREE).id == process.id
    # It is there before it is written to.
    eventually(lambda: file.exists() and file.read_text() == "USR1\n", what="the signal")
    assert alive(pid)


def test_a_signal_to_the_tree_can_end_all_descendants(g, left):
    process, pids = left(SLEEPERS)
    send_signal(g.stub, process.id, "TERM", TREE)
    eventually(lambda: not any(map(alive, pids)), what="the end of every descendant")
    eventually(lambda: not get(g.stub, process.id).descendants_alive, what="the end to be told")
    with refused(Code.FAILED_PRECONDITION, "PROCESS_NOT_RUNNING"):
        send_signal(g.stub, process.id, "TERM", TREE)
    after = get(g.stub, process.id)
    assert (after.status, after.exit_code) == (EXITED, 0)


# DeleteProcess and retention


def test_a_process_with_living_descendants_is_not_deleted(g, left):
    process, (pid,) = left("setsid " + SLEEPER)
    for _ in range(2):
        with refused(Code.FAILED_PRECONDITION, "PROCESS_RUNNING"):
            delete(g.stub, process.id)
    assert alive(pid) and get(g.stub, process.id).descendants_alive
    kill(pid)
    eventually(lambda: not get(g.stub, process.id).descendants_alive)
    delete(g.stub, process.id)
    with refused(Code.NOT_FOUND, "PROCESS_NOT_FOUND"):
        get(g.stub, process.id)


def is_forgotten(g, id):
    return id not in {process.id for process in listing(g.stub, limit=1000).processes}


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_with_living_descendants_is_not_forgotten(kind):
    with gateway_with(kind, "--retain-time", "400ms") as g:
        ran = run(g.stub, "setsid " + SLEEPER, cwd="/")
        id, pid = ran.process.id, int(ran.stdout)
        for _ in range(4):  # each round takes at least the retain time
            other = run(g.stub, "true", cwd="/").process
            eventually(lambda: is_forgotten(g, other.id), what="the other to be forgotten")
        assert alive(pid)
        found = get(g.stub, id)
        assert found.status == EXITED and found.descendants_alive
        assert wait(g.stub, id).stdout_data == ran.stdout
        kill(pid)
        eventually(lambda: is_forgotten(g, id), what="the process to be forgotten at last")


# timeout_ms and kill_descendants


def wait_for_a_timeout(g, milliseconds):
    """Returns when so much time has passed, measured by a timeout of the supervisor."""
    ran = run(g.stub, "exec sleep 1000", cwd="/", timeout_ms=milliseconds)
    assert ran.process.status == TIMED_OUT


def test_a_timeout_does_not_affect_descendants_of_an_ended_command(g, left):
    process, (pid,) = left("setsid " + SLEEPER, timeout_ms=600)
    wait_for_a_timeout(g, 1200)
    assert alive(pid) and get(g.stub, process.id).descendants_alive


def test_a_timeout_during_the_drain_does_not_affect_descendants(g):
    chatter = "while :; do echo x; sleep 0.05; done"
    ran = run(g.stub, f"({chatter}) & echo $! >&2; exit 4", cwd="/", timeout_ms=600)
    wait_for_a_timeout(g, 1200)
    pid = int(ran.stderr)
    assert (ran.process.status, ran.process.exit_code) == (EXITED, 4)
    assert alive(pid) and get(g.stub, ran.process.id).descendants_alive
    stop(g.stub, ran.process.id, grace_ms=0)
    assert not alive(pid)


def test_kill_descendants_kills_every_descendant(g):
    ran = run(g.stub, SLEEPERS + "exit 3", cwd="/", kill_descendants=True)
    pids = [int(line) for line in ran.lines]
    assert len(pids) == 4
    assert (ran.process.status, ran.process.exit_code) == (EXITED, 3)
    eventually(lambda: not any(map(alive, pids)), 5, "the end of the descendants")
    eventually(lambda: not get(g.stub, ran.process.id).descendants_alive, 5)


def test_a_stop_changes_nothing_if_no_descendant_lives(g):
    process = run(g.stub, "sleep 0.01 & wait; exit 5", cwd="/").process
    assert not process.descendants_alive
    assert stop(g.stub, process.id) == process
    delete(g.stub, process.id)


@pytest.mark.parametrize("kind", KINDS)
def test_descendants_of_ended_commands_do_not_count_as_running(kind):
    with gateway_with(kind, "--max-running", "4") as g:
        pids = []
        for _ in range(6):
            ran = run(g.stub, "setsid " + SLEEPER, cwd="/", timeout=20)
            pids.append(int(ran.stdout))
        assert all(map(alive, pids))
        for pid in pids:
            kill(pid)


def test_a_shutdown_ends_the_descendants_of_ended_commands():
    for kind in KINDS:
        with gateway_with(kind) as g:
            ran = run(g.stub, SLEEPERS, cwd="/")
            pids = [int(line) for line in ran.lines]
            assert len(pids) == 4 and all(map(alive, pids))
            g.close_channels()
            g.terminate()
            assert g.wait() == 0
            assert not any(map(alive, pids))
