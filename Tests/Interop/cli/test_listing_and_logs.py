"""`procgate ps` and `procgate logs`, and how a process is named by the beginning of its id."""

import json
import os
import re
import subprocess
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest

from contract import follow, get, has_lines, pb, rpc, run, start, stop, until
from gateway import BINARY, eventually, gateway, procgate


@pytest.fixture(scope="module")
def served():
    with gateway() as g:
        g.client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        yield g


def call(served, *words):
    done = procgate(*words, environment=served.client)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout.decode()


# Names


def test_the_beginning_of_an_id_names_its_process(served):
    process = start(served.stub, "echo one; sleep 1000")
    until(follow(served.stub, process.id), has_lines(1))
    for length in (4, 12, len(process.id)):
        short = process.id[:length]
        assert json.loads(call(served, "show", short, "--json"))["id"] == process.id
        assert call(served, "logs", short) == "one\n"
    short = process.id[:8]
    assert call(served, "signal", short, "CONT") == ""
    # One process, however it is named.
    assert call(served, "stop", short, process.id, process.id[:9]) == process.id + "\n"
    assert get(served.stub, process.id).ended_at
    assert call(served, "rm", short) == process.id + "\n"
    for word, status in ((process.id, 1), (short, 1), (process.id[:3], 64)):
        done = procgate("show", word, environment=served.client)
        assert done.returncode == status, word
        assert word in done.stderr.decode() and len(done.stderr.splitlines()) == 1


class Known(rpc.ProcessServiceServicer):
    """A gateway that knows processes of given ids."""

    def __init__(self, ids):
        self.ids = ids

    def GetGateway(self, request, context):
        return pb.GetGatewayResponse(version="0", instance_id="one")

    def GetProcess(self, request, context):
        if request.process_id not in self.ids:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no process '{request.process_id}'")
        return pb.GetProcessResponse(process=self.process(request.process_id))

    def ListProcesses(self, request, context):
        start = int(request.cursor or 0)
        end = start + min(2, request.limit or 100)
        page = self.ids[start:end]
        return pb.ListProcessesResponse(
            processes=[self.process(id) for id in page],
            next_cursor=str(end) if end < len(self.ids) else "",
        )

    def process(self, id):
        return pb.Process(id=id, status=pb.PROCESS_STATUS_RUNNING, command="true", created_at=1)


@contextmanager
def gateway_that_knows(*ids):
    server = grpc.server(futures.ThreadPoolExecutor(4))
    rpc.add_ProcessServiceServicer_to_server(Known(ids), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield {"PROCGATE_ADDRESS": f"127.0.0.1:{port}", "PROCGATE_TOKEN": "any"}
    finally:
        server.stop(None).wait()


def test_several_processes_that_begin_alike_are_listed():
    ids = ("abcdone", "abcdtwo", "abcxone", "abcdthree", "web-1-qqqqone", "web-1-qqqqtwo")
    with gateway_that_knows(*ids) as client:
        done = procgate("show", "abcd", environment=client)
        told = done.stderr.decode()
        assert done.returncode == 1 and len(told.splitlines()) == 1
        assert all(id in told for id in ("abcdone", "abcdtwo", "abcdthree"))
        assert "abcxone" not in told
        assert procgate("show", "abcdt", environment=client).returncode == 1
        assert b"abcdtwo" in procgate("show", "abcdtw", environment=client).stdout
        # Behind the node.
        assert b"web-1-qqqqone" in procgate("show", "web-1-qqqqo", environment=client).stdout
        assert procgate("show", "web-1-qqqq", environment=client).returncode == 1
        assert procgate("show", "web-1-qqq", environment=client).returncode == 64


# ps


def test_ids_are_cut_behind_the_node():
    ids = ("0123456789abcdefghijklmnop", "web-1-0123456789abcdefghijklmnop")
    with gateway_that_knows(*ids) as client:
        def first_words(*options):
            lines = procgate("ps", *options, environment=client).stdout.decode().splitlines()
            return [line.split()[0] for line in lines]

        assert first_words() == ["ID", "0123456789ab", "web-1-0123456789ab"]
        assert first_words("--no-trunc") == ["ID", *ids]
        assert first_words("-q") == list(ids)
        assert first_words("-q", "--limit", "1") == list(ids[:1])


def test_ps_prints_whole_ids_alone_where_asked(served):
    process = start(served.stub, "sleep 1000", labels={"ps": "quiet"})
    ended = run(served.stub, "true", labels={"ps": "quiet"})
    words = ("ps", "-q", "--label", "ps=quiet")
    assert call(served, *words) == f"{ended.id}\n{process.id}\n"
    assert call(served, *words, "--status", "running") == process.id + "\n"
    assert call(served, *words, "--status", "exited", "--status", "running").count("\n") == 2
    watched = subprocess.run(
        [BINARY, *words, "--watch", "--limit", "2"], env=os.environ | served.client,
        capture_output=True, timeout=20,
    )  # fmt: skip
    assert sorted(watched.stdout.decode().split()) == sorted([ended.id, process.id])
    stop(served.stub, process.id, grace_ms=0)


# logs


@pytest.fixture(scope="module")
def printed(served):
    """Ten lines, the even ones on stderr, the last without its end."""
    script = "for i in 1 2 3 4 5 6 7 8 9; do echo line $i >&$((2 - i % 2)); sleep 0.01; done; printf end"
    return run(served.stub, script).id


@pytest.mark.parametrize("count", [0, 1, 2, 5, 10, 1000])
def test_logs_prints_the_last_lines(served, printed, count):
    done = procgate("logs", printed, "--tail", str(count), environment=served.client)
    lines = [f"line {i}" for i in range(1, 10)] + ["end"]
    wanted = lines[max(0, 10 - count) :]
    assert done.returncode == 0
    assert done.stdout.decode().splitlines() == [line for line in wanted if line[-1] in "13579d"]
    assert done.stderr.decode().splitlines() == [line for line in wanted if line[-1] in "2468"]


def test_logs_begins_lines_with_their_times(served, printed):
    done = procgate("logs", printed, "--timestamps", environment=served.client)
    stamp = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (line \d|end)$")
    lines = done.stdout.decode().splitlines() + done.stderr.decode().splitlines()
    assert len(lines) == 10 and all(stamp.match(line) for line in lines), lines
    assert done.stdout.decode().splitlines() == sorted(done.stdout.decode().splitlines())


def test_a_line_that_comes_in_pieces_has_one_time(served):
    id = run(served.stub, "printf a; sleep 0.05; printf b; sleep 0.05; echo c; echo d").id
    text = call(served, "logs", id, "--timestamps")
    assert [line.split(" ", 1)[1] for line in text.splitlines()] == ["abc", "d"]
    assert call(served, "logs", id, "--tail", "2") == "abc\nd\n"


def test_logs_leaves_out_what_is_older(served):
    process = start(served.stub, "echo old; read x; echo new; read y")
    until(follow(served.stub, process.id), has_lines(1))
    assert call(served, "logs", process.id, "--since", "1d") == "old\n"
    # It is older than any time that is short enough.
    eventually(lambda: call(served, "logs", process.id, "--since", "0.1s") == "")
    procgate("stdin", process.id, "--no-eof", environment=served.client, input=b"\n")
    until(follow(served.stub, process.id), has_lines(2))
    assert call(served, "logs", process.id, "--since", "1h") == "old\nnew\n"
    stop(served.stub, process.id, grace_ms=0)


def test_logs_follows_behind_the_last_lines(served):
    process = start(served.stub, "echo one; echo two; printf th; read x; echo ree; echo four")
    until(follow(served.stub, process.id), lambda ran: ran.stdout.endswith(b"th"))
    words = ("logs", process.id, "--tail", "2", "--follow")
    with subprocess.Popen(
        [BINARY, *words], env=os.environ | served.client, stdout=subprocess.PIPE
    ) as client:
        assert client.stdout.readline() == b"two\n"
        procgate("stdin", process.id, environment=served.client, input=b"\n")
        assert client.stdout.read() == b"three\nfour\n"
        assert client.wait(10) == 0


def test_the_last_lines_as_json_are_whole_chunks(served, printed):
    text = call(served, "logs", printed, "--tail", "2", "--json")
    events = [json.loads(line) for line in text.splitlines()]
    assert [next(iter(event)) for event in events] == ["output", "output", "exited"]
    assert [event["output"]["text"] for event in events[:2]] == ["line 9\n", "end"]
