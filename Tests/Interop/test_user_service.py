"""User names, and user services of the host (NSS) that hang or crash: only the call that needs the
lookup fails."""

import contextlib
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest

from bystander import SETTLED, Bystander, outcome, outcomes
from contract import (
    QUEUED,
    RUNNING,
    Code,
    Stub,
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
    spec,
    start,
    until,
    write,
)
from gateway import alive, children, eventually, gateway, kill
from hosts import SERVICE, Opens, needs_private_mounts, private_mounts, service_calls, user_service

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="only root runs for other users"),
    pytest.mark.timeout(120),
]
HANGING = 40


@contextlib.contextmanager
def service(*options, order=f"files {SERVICE}", **settings):
    """A gateway with the user service of hosts.py, and the file that lists its calls."""
    directory = Path(tempfile.mkdtemp(prefix="procgate-nss-", dir="/tmp"))
    directory.chmod(0o777)
    try:
        wrapper, log = user_service(directory, order)
        with gateway(*options, wrapper=wrapper, **settings) as g:
            yield g, log
    finally:
        shutil.rmtree(directory)


def resolves(g, name="nss-user-x"):
    """True once a user is found. The only permitted failure is HOST_UNRESPONSIVE."""
    found = outcome(lambda: run(g.stub, "id -u", run_as=name, cwd="/").stdout)
    assert found in (b"54321\n", "HOST_UNRESPONSIVE")
    return found == b"54321\n"


def command_as(stub, name):
    return lambda: run(stub, "true", run_as=name, cwd="/")


# Long names


@pytest.mark.parametrize("length", [4_194_299, 100_000, 257])
def test_an_overlong_user_name_is_refused_and_ends_no_process(length):
    with gateway() as g:
        other = start(g.stub, "echo x; read x; echo $x")
        events = follow(g.stub, other.id)
        ran = until(events, has_lines(1))
        before = g.supervisor, info(g.stub).instance_id
        for letter in "aA1":
            with refused(Code.INVALID_ARGUMENT, "USER_UNKNOWN"):
                run(g.stub, "true", run_as=letter * length, cwd="/")
            with refused(Code.INVALID_ARGUMENT, "USER_UNKNOWN"):
                start(g.stub, "true", run_as=letter * length, cwd="/")
        assert (g.supervisor, info(g.stub).instance_id) == before
        write(g.stub, other.id, b"alive\n")
        assert collect(events, ran).lines == ["x", "alive"]


def test_a_name_above_256_bytes_never_reaches_the_user_service():
    with service() as (g, log):
        for length in (255, 256):
            name = "nss-user-".ljust(length, "x")
            assert run(g.stub, "id -u", run_as=name, cwd="/").stdout == b"54321\n"
        for name in ("nss-user-".ljust(257, "x"), "nss-user-".ljust(5000, "x"), "nss-é" * 43):
            with refused(Code.INVALID_ARGUMENT, "USER_UNKNOWN"):
                run(g.stub, "true", run_as=name, cwd="/")
        asked = [name for _, name in service_calls(log)]
        assert asked and all(len(name.encode()) <= 256 for name in asked)


# Services that fail


def test_a_user_service_that_aborts_fails_one_call():
    with service() as (g, log):
        supervisor, instance = g.supervisor, info(g.stub).instance_id
        with Bystander(g) as bystander:
            for i in range(3):
                with refused(Code.UNAVAILABLE, "HOST_UNRESPONSIVE"):
                    run(g.stub, "true", run_as=f"nss-abort-{i}", cwd="/")
                eventually(lambda i=i: resolves(g, f"nss-user-{i}"), 15, "another user's lookup")
            assert (g.supervisor, info(g.stub).instance_id) == (supervisor, instance)
            bystander.is_not_delayed()
        assert supervisor not in {pid for pid, _ in service_calls(log)}


def test_a_user_service_that_hangs_fails_one_call():
    with service() as (g, log):
        with Bystander(g) as bystander:
            began = time.monotonic()
            hanging = begin(g.connect(), "true", run_as="nss-hang-1", cwd="/")
            eventually(lambda: service_calls(log), what="the user service to be asked")
            bystander.is_not_delayed()
            with refused(Code.UNAVAILABLE, "HOST_UNRESPONSIVE"):
                collect(hanging)
            assert 2 < time.monotonic() - began < SETTLED
            eventually(lambda: resolves(g), 15, "another user's lookup")
            bystander.is_not_delayed()


@pytest.mark.parametrize("what", ["hang", "abort"])
def test_many_failing_lookups_do_not_delay_other_callers(what):
    with service() as (g, _):
        with Bystander(g) as bystander:
            stubs = [g.connect() for _ in range(4)]
            calls = [command_as(stubs[i % 4], f"nss-{what}-{i}") for i in range(HANGING)]
            assert outcomes(calls, bystander.is_not_delayed) == ["HOST_UNRESPONSIVE"] * HANGING
            eventually(lambda: resolves(g), 20, "another user's lookup")
            bystander.is_not_delayed()


def test_a_hanging_lookup_ends_at_the_deadline_of_its_call():
    with service() as (g, _):
        with refused(Code.DEADLINE_EXCEEDED):
            collect(begin(g.stub, "true", run_as="nss-hang-1", cwd="/", timeout=1))
        with refused(Code.DEADLINE_EXCEEDED):
            request = pb.StartProcessRequest(process=spec("true", run_as="nss-hang-2", cwd="/"))
            g.stub.StartProcess(request, timeout=1)
        waiting = lambda: listing(g.stub, status=[QUEUED, RUNNING]).processes
        eventually(lambda: not waiting(), SETTLED, "the end of what hangs")


def test_a_lookup_process_that_crashes_is_restarted_with_back_off():
    with service() as (g, log):
        end = time.monotonic() + 5

        def ask(stub, which):
            number = 0
            while time.monotonic() < end:
                outcome(command_as(stub, f"nss-abort-{which}-{number}"))
                number += 1

        threads = [threading.Thread(target=ask, args=(g.connect(), i)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        deaths = {pid for pid, _ in service_calls(log)}
        assert 1 <= len(deaths) <= 60  # without back-off there are hundreds
        eventually(lambda: resolves(g), 20, "another user's lookup")


def test_the_lookup_of_a_user_is_cached():
    with service() as (g, log):
        for _ in range(30):
            assert run(g.stub, "id -u", run_as="nss-user-x", cwd="/").stdout == b"54321\n"
        asked = [name for _, name in service_calls(log) if name == "nss-user-x"]
        assert 1 <= len(asked) <= 10  # an answer is cached for 30 s


def test_a_user_unknown_to_the_user_service_is_refused():
    with service() as (g, _):
        for _ in range(10):
            with refused(Code.INVALID_ARGUMENT, "USER_UNKNOWN"):
                run(g.stub, "true", run_as="nss-nobody", cwd="/")


def test_a_hanging_lookup_of_a_peer_does_not_delay_other_callers(tmp_path):
    address = f"unix:{tmp_path}/socket"
    options = ("--listen", address, "--listen", "127.0.0.1:0")
    with service(*options, order=f"{SERVICE} files", start=False) as (g, log):
        g.start(listeners=2)
        g.targets = [target for target in g.targets if not target.startswith("unix:")]
        with Bystander(g) as bystander:
            hang = Path(f"{log}.hang")
            hang.touch()
            try:
                stubs = [Stub(g.channel(target=address)) for _ in range(4)]
                calls = [lambda stub=stub: info(stub).version for stub in stubs * 5]
                known = {info(bystander.stub).version, "HOST_UNRESPONSIVE"}
                assert set(outcomes(calls, bystander.is_not_delayed)) <= known
            finally:
                hang.unlink()


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_passwd_is_not_read_for_each_command(transport, tmp_path):
    """Also not for each call on a unix socket, whose peer is a user."""
    needs_private_mounts()
    passwd, group = tmp_path / "passwd", tmp_path / "group"
    shutil.copy("/etc/passwd", passwd)
    shutil.copy("/etc/group", group)
    binds = f"mount --bind {passwd} /etc/passwd; mount --bind {group} /etc/group"
    address = f"unix:{tmp_path}/socket" if transport == "unix" else "127.0.0.1:0"
    with gateway("--listen", address, wrapper=private_mounts(binds)) as g:

        def command():
            for fields in ({"run_as": "daemon"}, {}):
                assert run(g.stub, "/bin/true", "x", cwd="/", **fields).process.exit_code == 0

        command()
        with Opens(passwd) as users, Opens(group) as groups:
            for _ in range(50):
                command()
                info(g.stub)
            assert users.count() <= 20 and groups.count() <= 20
            assert Path(f"/proc/{g.supervisor}/root/etc/passwd").read_bytes()
            assert users.count() >= 1, "nothing is counted"


# The supervisor's helper processes


def helpers(g, *commands):
    """The children of the supervisor without the commands: pairs of process id and start time."""
    found = set()
    for pid in set(children(g.supervisor)) - set(commands):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found |= {(pid, fields[19])} if fields[0] not in "ZX" else set()
    return found


def works(g):
    return outcome(lambda: run(g.stub, "echo x", run_as="nobody", cwd="/").stdout) == b"x\n"


def test_helpers_that_crash_at_once_are_restarted_with_back_off():
    with gateway() as g:
        run(g.stub, "true", run_as="nobody", cwd="/")
        supervisor, instance = g.supervisor, info(g.stub).instance_id
        running = start(g.stub, "read x; echo $x")
        killed, end = set(), time.monotonic() + 5
        while time.monotonic() < end:
            for pid, began in helpers(g, running.pid):
                killed.add((pid, began))
                kill(pid)
        assert 1 <= len(killed) <= 120  # two kinds of helper; without back-off there are thousands
        assert (g.supervisor, info(g.stub).instance_id) == (supervisor, instance)
        assert get(g.stub, running.id).status == RUNNING
        eventually(lambda: works(g), 30, "a command, once the helpers are left alone")
        write(g.stub, running.id, b"alive\n")
        assert collect(follow(g.stub, running.id)).stdout == b"alive\n"


def test_a_helper_that_is_killed_harms_no_running_process():
    with gateway() as g:
        run(g.stub, "true", run_as="nobody", cwd="/")
        running = start(g.stub, "echo x; read x; echo $x")
        events = follow(g.stub, running.id)
        ran = until(events, has_lines(1))
        for pid, _ in helpers(g, running.pid):
            kill(pid)
        eventually(lambda: works(g), 20, "a command after that")
        assert alive(running.pid)
        write(g.stub, running.id, b"alive\n")
        assert collect(events, ran).lines == ["x", "alive"]
