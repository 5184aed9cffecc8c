"""Commands in pipes, and their signals."""

import json
import os
import signal
import subprocess

import pytest

from contract import follow, get, has_lines, listing, start, until
from gateway import BINARY, eventually, gateway, procgate, standstill


@pytest.fixture(scope="module")
def served():
    """A caller that is lost and not gone is waited for longer than any test."""
    with gateway("--resume-window", "1h") as g:
        g.client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        yield g


def popen(g, *words, **options):
    return subprocess.Popen([BINARY, *words], env=os.environ | g.client, **options)


def test_an_archive_goes_in_and_comes_out_whole(served, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for number in range(20):
        (tmp_path / "in" / str(number)).write_bytes(os.urandom(300_000))
    script = (
        f"tar c -C {tmp_path}/in . | {BINARY} exec -i -- tar x -C {tmp_path}/out && "
        f"{BINARY} exec -- tar c -C {tmp_path}/out . | tar t | wc -l"
    )
    done = subprocess.run(
        ["bash", "-c", script], env=os.environ | served.client, capture_output=True, timeout=50
    )
    assert (done.returncode, done.stdout.strip()) == (0, b"21"), done.stderr
    for number in range(20):
        name = str(number)
        assert (tmp_path / "in" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize("limit", ["64KiB", "100000B"])
def test_input_fits_the_messages_that_the_gateway_takes(limit, tmp_path):
    typed = os.urandom(3_000_000)
    (tmp_path / "typed").write_bytes(typed)
    with gateway("--max-message-bytes", limit) as g:
        client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        done = procgate("exec", "-i", "--", "cat", input=typed, environment=client)
        assert done.returncode == 0, done.stderr
        assert done.stdout == typed
        id = procgate("start", "-i", "--", "cat", environment=client).stdout.decode().strip()
        done = procgate("stdin", id, tmp_path / "typed", environment=client)
        assert done.returncode == 0, done.stderr
        logs = procgate("logs", id, "--follow", environment=client)
        assert logs.stdout == typed
        attached = procgate("start", "-i", "--", "cat", environment=client).stdout.decode().strip()
        done = procgate("attach", attached, input=typed, environment=client)
        assert done.returncode == 0, done.stderr
        assert done.stdout == typed


def test_what_follows_the_first_word_of_a_command_is_its_own(served):
    for words, printed in (
        (("echo", "-n", "hi"), b"hi"),
        (("--env", "A=1", "sh", "-c", "echo $A $0 $1", "--json", "--help"), b"1 --json --help\n"),
        (("echo", "--", "-i"), b"-- -i\n"),
        (("--", "echo", "-n", "--"), b"--"),
    ):
        done = procgate("exec", *words, environment=served.client)
        assert (done.returncode, done.stdout) == (0, printed), (words, done.stderr)


def test_a_reader_that_goes_ends_the_command_without_a_word(served):
    with popen(
        served, "exec", "--label", "cli=pipe", "--", "yes",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    ) as client:  # fmt: skip
        assert client.stdout.readline() == b"y\n"
        client.stdout.close()
        assert client.stderr.read() == b""
        assert client.wait(10) == 141
    (process,) = listing(served.stub, labels={"cli": "pipe"}).processes
    eventually(lambda: get(served.stub, process.id).ended_at)


def test_a_command_that_nobody_reads_is_killed_at_once(served):
    done = subprocess.run(
        ["bash", "-c", f"{BINARY} exec --label cli=closed -- 'echo a; sleep 1000' >&-"],
        env=os.environ | served.client, stdin=subprocess.DEVNULL, capture_output=True, timeout=20,
    )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stderr.decode().strip().splitlines()) == 1
    (process,) = listing(served.stub, labels={"cli": "closed"}).processes
    eventually(lambda: get(served.stub, process.id).ended_at)


def test_a_descriptor_that_came_closed_is_an_error_and_no_end(served):
    for words, told in (
        ("ps >&-", b"cannot write"), ("info >&-", b"cannot write"),
        ("exec -i -- cat <&-", b"cannot read"), ("exec -- 'echo x >&2' 2>/dev/full", b""),
    ):  # fmt: skip
        done = subprocess.run(
            ["bash", "-c", f"{BINARY} {words}"], env=os.environ | served.client,
            capture_output=True, timeout=20,
        )  # fmt: skip
        assert done.returncode == 1, words
        assert told in done.stderr and done.stdout == b""


def test_a_directory_is_no_input(served, tmp_path):
    process = start(served.stub, "cat")
    done = procgate("stdin", process.id, tmp_path, environment=served.client)
    assert done.returncode == 1
    assert done.stderr.decode() == f"procgate: cannot read {tmp_path}: Is a directory\n"
    assert procgate("stop", process.id, "--grace", "0s", environment=served.client).returncode == 0


def test_the_end_of_the_input_ends_a_terminals_too(served):
    for words, typed, code in (
        (("cat",), b"hello\n", 0),
        (("cat",), b"no newline", 0),
        (("cat",), b"", 0),
        (("sh",), b"echo a\nexit 3\n", 3),
    ):
        done = procgate("exec", "-it", "--", *words, input=typed, environment=served.client)
        assert done.returncode == code, (words, typed, done.stderr)
        assert typed.strip().split(b"\n")[0] in done.stdout


def test_an_ignored_signal_stays_ignored(served):
    script = f"trap '' HUP; exec {BINARY} exec -- 'echo up; sleep 1; exit 4'"
    with subprocess.Popen(
        ["bash", "-c", script], env=os.environ | served.client,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    ) as client:  # fmt: skip
        assert client.stdout.readline() == b"up\n"
        client.send_signal(signal.SIGHUP)
        assert client.wait(10) == 4


def test_a_slow_reader_holds_the_command_back(served):
    with popen(
        served, "exec", "--label", "cli=slow", "--", "yes",
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
    ) as client:  # fmt: skip
        client.stdout.read(10)
        (process,) = listing(served.stub, labels={"cli": "slow"}).processes

        def written():
            return get(served.stub, process.id).stdout_bytes

        # What is on its way: the window, the client's buffers, and the kernel's.
        assert standstill(written) < 128 << 20
        client.kill()


def test_a_second_interrupt_stops_the_tree(served):
    deaf = "trap 'echo interrupted' INT; echo up; while :; do sleep 0.02; done"
    with popen(served, "exec", "--", deaf, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
        assert client.stdout.readline() == b"up\n"
        client.send_signal(signal.SIGINT)
        assert client.stdout.readline() == b"interrupted\n"
        assert client.poll() is None
        client.send_signal(signal.SIGINT)
        assert client.wait(10) in (143, 137)


def test_exec_prints_its_events_as_json(served):
    done = procgate(
        "exec", "--json", "--", "echo out; exit 3", environment=served.client
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [next(iter(event)) for event in events] == ["started", "output", "exited"]
    assert events[1]["output"]["text"] == "out\n"
    assert events[1]["output"]["data"] == "b3V0Cg=="
    assert events[2]["exited"]["process"]["exitCode"] == 3
    assert done.returncode == 3


def test_exec_prints_as_json_that_it_is_queued_when_it_is():
    with gateway("--max-running", "1") as g:
        g.client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        first = start(g.stub, "sleep 1000")
        words = ("exec", "--json", "--", "echo out")
        with popen(g, *words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
            queued = json.loads(client.stdout.readline())["queued"]
            assert queued["status"] == "queued" and queued["startedAt"] is None
            assert client.poll() is None
            procgate("stop", first.id, "--grace", "0s", environment=g.client)
            rest = [json.loads(line) for line in client.stdout]
            assert [next(iter(event)) for event in rest] == ["started", "output", "exited"]
            assert rest[0]["started"]["id"] == queued["id"]
            assert rest[0]["started"]["status"] == "running"
            assert client.wait(10) == 0


def test_every_command_prints_json(served):
    def call(*words):
        done = procgate(*words, "--json", environment=served.client)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    process = json.loads(
        procgate("start", "-i", "--json", "--", "cat", environment=served.client).stdout
    )
    id = process["id"]
    assert process["status"] == "running"
    assert call("stdin", id, "/etc/hostname")["stdinBytes"] > 0
    assert call("wait", id)["process"]["exitCode"] == 0
    assert call("show", id)["id"] == id
    assert call("stop", id)[0]["id"] == id
    assert call("rm", id)[0]["id"] == id
    assert call("info")["version"] == "0.1.0"
    other = start(served.stub, "sleep 1000")
    assert call("signal", other.id, "KILL")["id"] == other.id


def test_wait_gives_up_after_its_time(served):
    process = start(served.stub, "sleep 1000")
    done = procgate("wait", process.id, "--timeout", "100ms", environment=served.client)
    assert done.returncode == 1
    told = done.stderr.decode().strip()
    assert told == f"procgate: process {process.id} has not ended within 100ms: it goes on"
    assert not get(served.stub, process.id).ended_at
    assert procgate("stop", process.id, "--grace", "0s", environment=served.client).returncode == 0


def test_ps_watch_writes_lines_without_escapes_into_a_pipe(served):
    words = ("ps", "--watch", "--label", "cli=piped", "--limit", "1")
    with popen(served, *words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
        heading = client.stdout.readline()
        assert heading.startswith(b"ID ") and b"\x1b" not in heading
        process = start(served.stub, "true " + "word " * 60, labels={"cli": "piped"})
        line = client.stdout.readline()
        assert process.id[:12].encode() in line and b"word " * 59 in line and b"\x1b" not in line
        assert client.wait(10) == 0


def test_signal_reaches_who_is_meant(served):
    process = start(
        served.stub, "trap 'echo leader' USR1; (trap 'echo child' USR1; echo up; "
        "while :; do sleep 0.05; done) & echo up; while :; do sleep 0.05; done",
    )  # fmt: skip
    until(follow(served.stub, process.id), has_lines(2))
    done = procgate(
        "signal", process.id, "USR1", "--scope", "leader", environment=served.client
    )
    assert done.returncode == 0
    until(follow(served.stub, process.id), has_lines(3))
    logs = procgate("logs", process.id, environment=served.client).stdout
    assert b"leader" in logs and b"child" not in logs
    bad = procgate("signal", process.id, "NOSUCH", environment=served.client)
    assert bad.returncode == 1
    procgate("stop", process.id, "--grace", "0s", environment=served.client)
    late = procgate("signal", process.id, "TERM", environment=served.client)
    assert late.returncode == 1 and process.id in late.stderr.decode()


def test_a_queued_process_is_not_said_to_have_ended():
    with gateway("--max-running", "1") as g:
        g.client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        start(g.stub, "sleep 1000")
        queued = start(g.stub, "true")
        refused = procgate("signal", queued.id, "HUP", environment=g.client)
        told = refused.stderr.decode()
        assert refused.returncode == 1 and len(told.splitlines()) == 1
        assert "still queued" in told and "ended" not in told and queued.id in told
        assert procgate("signal", queued.id, "INT", environment=g.client).returncode == 0
        late = procgate("signal", queued.id, "HUP", environment=g.client)
        assert late.returncode == 1 and "has ended" in late.stderr.decode()


def test_a_refusal_says_what_to_do():
    with gateway("--max-running", "1", "--max-queued", "1", "--allow-user", "root") as g:
        client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}

        def told(*words, status=1):
            done = procgate(*words, environment=client)
            line = done.stderr.decode()
            assert done.returncode == status and len(line.splitlines()) == 1, (words, line)
            return line

        running, queued = start(g.stub, "cat"), start(g.stub, "true")
        assert "the gateway's queue is full (" in (full := told("exec", "--", "true"))
        assert "try again later, or raise --max-queued" in full
        for process in (running, queued):
            assert f"stop it first: procgate stop {process.id}" in told("rm", process.id)
        assert "'NOSUCH': names look like TERM, SIGTERM or 15" in told("signal", running.id, "NOSUCH")
        assert "/no/such" in (cwd := told("exec", "--cwd", "/no/such", "--", "true"))
        assert "--cwd" in cwd
        assert "--run-as" in told("exec", "--run-as", "daemon", "--", "true", status=77)
        assert procgate("stop", queued.id, environment=client).returncode == 0
        assert procgate("stdin", running.id, "/dev/null", environment=client).returncode == 0
        eventually(lambda: get(g.stub, running.id).ended_at)
        assert f"procgate show {running.id}" in told("stdin", running.id, "/etc/hostname")


def test_exec_goes_on_when_the_gateway_is_restarted():
    with gateway() as g:
        client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        g.client = client
        words = ("exec", "--", "for i in $(seq 1 60); do echo $i; sleep 0.05; done; exit 6")
        with popen(g, *words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as running:
            assert running.stdout.readline() == b"1\n"
            for _ in range(3):
                g.kill()
                g.restart()
            rest = running.stdout.read()
            assert rest == b"".join(b"%d\n" % i for i in range(2, 61))
            assert running.wait(20) == 6
