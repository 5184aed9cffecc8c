"""Two gateways with one state directory, and the descriptors that processes inherit."""

import contextlib
import os
import re
import shutil
import signal

import grpc
import pytest

import gateway as harness
from contract import (
    RUNNING,
    collect,
    follow,
    get,
    has_lines,
    info,
    listing,
    run,
    start,
    until,
    write,
)
from gateway import Gateway, alive, arguments, children, descriptors, eventually, gateway, kill

JOINED = re.compile(r"joined a running supervisor, (\d+) process")
# Options that concern processes, with values that are not the defaults.
OF_PROCESSES = {
    "--max-running": "7",
    "--max-queued": "9",
    "--grace-period": "1s",
    "--resume-window": "3s",
    "--retain-bytes": "1MiB",
    "--retain-time": "1m",
    "--max-output-memory": "64MiB",
    "--shell": "/bin/bash",
}
DEFAULTS = {"--max-running": "1024", "--grace-period": "5s", "--retain-bytes": "8MiB"}
OF_THE_GATEWAY = {"--drain-timeout": "3s", "--keep-alive": "7s", "--max-streams": "99"}


def words(options):
    return [word for pair in options.items() for word in pair]


@contextlib.contextmanager
def joining(first, *options):
    """A second gateway with the state directory of the first."""
    second = Gateway(*options, state=first.state)
    try:
        yield second.start()
        second.close_channels()
        second.has_not_crashed()
    finally:
        second.close_channels()
        if second.process.poll() is None:
            second.kill()
        harness.running.discard(second)
        shutil.rmtree(second.home, ignore_errors=True)


def works(g):
    return run(g.connect(), "echo x", cwd="/").stdout == b"x\n"


# Joining


def test_a_second_gateway_logs_that_it_joins_and_sees_the_same_processes():
    with gateway() as first:
        assert not JOINED.search(first.log())
        process = start(first.stub, "sleep 1000", cwd="/")
        with joining(first) as second:
            found = eventually(lambda: JOINED.search(second.log()), what="the line in the log")
            assert found.group(1) == "1"
            assert get(second.stub, process.id) == get(first.stub, process.id)
            assert info(second.stub).instance_id == info(first.stub).instance_id
            assert works(first) and works(second)
            second.terminate()
            assert second.wait() == 0


def test_it_logs_each_option_that_the_supervisor_does_not_follow():
    with gateway() as first:
        options = words(OF_PROCESSES) + words(OF_THE_GATEWAY)
        with joining(first, *options) as second:
            eventually(lambda: JOINED.search(second.log()), what="the line in the log")
            for option in OF_PROCESSES:
                eventually(
                    lambda option=option: option in second.log(), what=f"{option} in the log"
                )
            for option in OF_THE_GATEWAY:
                assert option not in second.log()
            assert info(second.stub).max_running == 1024
            second.terminate()
            assert second.wait() == 0
    with gateway(*words(OF_PROCESSES)) as first:
        with joining(first) as second:
            eventually(lambda: "--max-running" in second.log(), what="an option not given, too")


def test_it_logs_no_option_that_the_supervisor_follows():
    for of_first, of_second in ((), words(DEFAULTS)), (words(OF_PROCESSES), words(OF_PROCESSES)):
        with gateway(*of_first) as first:
            with joining(first, *of_second) as second:
                eventually(lambda: JOINED.search(second.log()), what="the line in the log")
                assert works(second)
                for option in OF_PROCESSES:
                    assert option not in second.log()
                second.terminate()
                assert second.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_of_the_second_gateway_does_not_affect_the_first(number):
    with gateway() as first:
        process = start(first.stub, "echo x; read x; echo $x", cwd="/")
        events = follow(first.stub, process.id)
        ran = until(events, has_lines(1))
        supervisor, instance = first.supervisor, info(first.stub).instance_id
        with joining(first) as second:
            assert works(second)
            second.close_channels()
            second.process.send_signal(number)
            assert second.wait() == 0
        assert alive(supervisor) and first.supervisor == supervisor
        assert info(first.stub).instance_id == instance
        assert get(first.stub, process.id).status == RUNNING
        write(first.stub, process.id, b"on\n")
        assert collect(events, ran).lines == ["x", "on"]
        assert works(first)
        # The fixture checks that the end of the first gateway ends the supervisor.


def test_the_end_of_the_first_gateway_does_not_affect_the_second():
    with gateway() as first:
        process = start(first.stub, "sleep 1000", cwd="/")
        supervisor = first.supervisor
        with joining(first) as second:
            assert works(second)
            first.close_channels()
            first.terminate()
            assert first.wait() == 0
            assert alive(supervisor) and alive(process.pid)
            assert get(second.stub, process.id).status == RUNNING
            assert works(second)
            second.close_channels()
            second.terminate()
            assert second.wait() == 0


def test_many_gateways_come_and_go():
    with gateway() as first:
        process, supervisor = start(first.stub, "sleep 1000", cwd="/"), first.supervisor
        for _ in range(3):
            with joining(first) as second, joining(first) as third:
                assert works(second) and works(third)
                second.close_channels()
                second.terminate()
                assert second.wait() == 0
                assert works(third)
                third.kill()
        assert first.supervisor == supervisor and alive(process.pid)
        assert [each.id for each in listing(first.stub, status=[RUNNING]).processes] == [process.id]


# Inherited descriptors


def links(pid):
    """The descriptors of a process and their targets."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def internet_sockets():
    """`socket:[N]` of every TCP socket."""
    found = set()
    for family in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{family}") as table:
            found |= {f"socket:[{line.split()[9]}]" for line in list(table)[1:]}
    return found


def listening_sockets(directory):
    """`socket:[N]` of each unix socket with a path in `directory`."""
    with open("/proc/net/unix") as table:
        rows = [line.split() for line in list(table)[1:]]
    return {
        f"socket:[{row[6]}]" for row in rows if len(row) > 7 and row[7].startswith(str(directory))
    }


def descendants_of_supervisor(g):
    """The supervisor and its descendants, parents first."""
    supervisor = g.supervisor
    found, frontier = [supervisor], [supervisor]
    while frontier:
        frontier = [child for pid in frontier for child in children(pid) if alive(child)]
        found += frontier
    return found


def replace_supervisor(g):
    instance, supervisor = info(g.stub).instance_id, g.supervisor
    kill(supervisor)

    def replaced():
        with contextlib.suppress(grpc.RpcError):
            return all(info(stub).instance_id != instance for stub in (g.stub, g.connect()))

    eventually(replaced, 20, "another supervisor")


@pytest.mark.parametrize("replaced", [False, True], ids=["first", "replaced"])
def test_no_process_has_a_descriptor_of_another_process(replaced):
    with gateway("--metrics-listen", "127.0.0.1:0") as g:
        follower = g.connect()
        assert works(g)
        if replaced:
            replace_supervisor(g)
        run(g.stub, "true", run_as="nobody" if os.getuid() == 0 else "", cwd="/")
        running = start(g.stub, "echo x; sleep 1000", cwd="/")
        events = follow(follower, running.id)
        until(events, has_lines(1))
        commands = {running.pid, *children(running.pid)}
        processes = [pid for pid in descendants_of_supervisor(g) if pid not in commands]
        assert len(processes) >= 2
        internet, listening = internet_sockets(), listening_sockets(g.state)
        assert set(links(g.pid).values()) & internet, "the gateway has its own"
        for pid in processes:
            has = set(links(pid).values())
            assert not has & internet, f"{arguments(pid)[:2]} has the gateway's sockets"
            if pid != g.supervisor:
                assert not has & listening, f"{arguments(pid)[:1]} has the supervisor's socket"
                assert not any("memfd" in link or "supervisor.lock" in link for link in has)
        assert not set(links(g.pid).values()) & listening
        for pid in commands:
            assert set(links(pid)) == {0, 1, 2}
        events.cancel()


def test_helpers_keep_no_descriptor_of_the_commands():
    with gateway() as g:
        run(g.stub, "true", run_as="nobody" if os.getuid() == 0 else "", cwd="/")
        helpers = descendants_of_supervisor(g)[1:]
        before = {pid: descriptors(pid) for pid in helpers}
        started = [start(g.stub, "read x", cwd="/") for _ in range(20)]
        assert all(alive(process.pid) for process in started)
        settled = lambda: all(descriptors(pid) <= count + 3 for pid, count in before.items())
        eventually(settled, 5, "the helpers to close the commands' pipes")


def test_descriptors_that_the_gateway_inherits_reach_no_other_process(tmp_path):
    for name in ("low", "high"):
        (tmp_path / name).write_text("not meant for any child")
    shell = f'exec "$@" 7<{tmp_path}/low 9<{tmp_path}/high'
    with gateway(wrapper=["sh", "-c", shell, "sh"]) as g:
        run(g.stub, "true", run_as="nobody" if os.getuid() == 0 else "", cwd="/")
        assert set(map(str, tmp_path.iterdir())) <= set(links(g.pid).values())
        running = start(g.stub, "sleep 1000", cwd="/")
        processes = descendants_of_supervisor(g)
        assert running.pid in processes
        for pid in processes:
            here = [link for link in links(pid).values() if link.startswith(str(tmp_path))]
            assert not here, arguments(pid)[:2]


def test_the_port_is_free_after_the_death_of_a_gateway_that_replaced_its_supervisor():
    with gateway() as g:
        idle = g.connect()
        assert info(idle).version
        replace_supervisor(g)
        process = start(g.stub, "sleep 1000", cwd="/")
        g.kill()
        g.restart()  # on the same port
        assert get(g.stub, process.id).pid == process.pid
        assert works(g)
