"""What peers and processes that do not read make the gateway hold: the formula of docs/security.md."""

import contextlib
import time

import h2.settings
import pytest

from contract import Code, MiB, begin, info, pb, refused, run, start, stop, wait
from gateway import eventually, gateway, resident
from wire import SERVICE, Connection, message

pytestmark = pytest.mark.timeout(180)
KiB = 1024
BUDGET = 64 * MiB  # --max-buffer-memory
LABEL = "x" * 200 * KiB
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
WATCH_HEALTH = "/grpc.health.v1.Health/Watch"


def anonymous(g):
    """Of the gateway alone: what it maps of the arena is the supervisor's."""
    return resident(g.pid, "RssAnon")


def most(connections, budget=BUDGET):
    """The formula of docs/security.md."""
    return 24 * MiB + 2 * budget + connections * MiB


@pytest.fixture(scope="module")
def g():
    with gateway("--max-buffer-memory", "64MiB", "--retain-bytes", "24MiB") as running:
        yield running


@pytest.fixture(autouse=True)
def bystander(g):
    """Another caller's Exec is answered all the while, and the memory is back afterwards."""
    other = g.connect()
    run(other, "true")
    yield other
    eventually(lambda: anonymous(g) < 32 * MiB, 10, "the return of memory")


def seconds_of_an_exec(stub):
    began = time.monotonic()
    assert run(stub, "true").exited
    return time.monotonic() - began


def is_bounded(g, other, connections=1):
    """It stands still below the formula, and others are served. An Exec takes some milliseconds; one
    that waits for what others hold waits until they end. Five seconds lie between on any machine."""
    sizes = []
    for _ in range(20):
        assert seconds_of_an_exec(other) < 5
        sizes.append(anonymous(g))
    assert max(sizes) < most(connections), f"{max(sizes) / MiB:.0f} MiB"


def deaf(g, window=0, **settings):
    """A peer that gives its streams no window: no byte of a message can be sent to it."""
    codes = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
    return Connection(g.address, g.token, settings=codes, **settings)


def ask(connection, path, request, times, batch=50):
    """So many calls, whose answers may come or not."""
    body = message(request.SerializeToString())
    for i in range(times):
        with contextlib.suppress(Exception):  # the connection has no window for it
            id = connection.open(path)
            connection.h2.send_data(id, body, end_stream=True)
        if i % batch == batch - 1:
            connection.flush()
            drain(connection)
    connection.flush()


def drain(connection):
    """Takes what is there."""
    with contextlib.suppress(AssertionError):
        while connection.pump(0.02):
            pass


def upload(connection, calls, size, timeout=5):
    """The bodies of many calls side by side, as far as there is a window for them."""
    left = {id: memoryview(body) for id, body in calls.items()}
    end = time.monotonic() + timeout
    sent = 0
    while left and time.monotonic() < end:
        before = sent
        for id in list(left):
            if connection.responses[id].reset is not None or connection.responses[id].ended:
                del left[id]
                continue
            room = min(
                connection.h2.local_flow_control_window(id),
                connection.h2.max_outbound_frame_size,
                len(left[id]),
            )
            if room <= 0:
                continue
            last = room == len(left[id]) and size is not None
            connection.h2.send_data(id, bytes(left[id][:room]), end_stream=last)
            connection.flush()
            left[id] = left[id][room:]
            sent += room
            if not left[id]:
                del left[id]
        with contextlib.suppress(AssertionError):
            connection.pump(0.001 if sent > before else 0.5)
    return sent


# Peers that never read


def printed(stub, count):
    """An ended process that has printed so many bytes."""
    id = start(stub, f"head -c {count} /dev/zero; head -c {count // 8} /dev/zero >&2").id
    wait(stub, id, max_output_bytes=1)
    return id


@pytest.fixture(scope="module")
def labelled(g):
    ids = [run(g.stub, "true", labels={"memory": LABEL}).id for _ in range(40)]
    return ids


def questions(g, ids, printed_id):
    return {
        "Wait": pb.WaitRequest(process_id=printed_id, max_output_bytes=64 * MiB),
        "GetProcess": pb.GetProcessRequest(process_id=ids[0]),
        "ListProcesses": pb.ListProcessesRequest(limit=1000),
        "WatchProcesses": pb.WatchProcessesRequest(),
        "StreamOutput": pb.StreamOutputRequest(process_id=printed_id),
        "Signal": pb.SignalRequest(process_id=ids[0], signal="0"),
        "StopProcess": pb.StopProcessRequest(process_id=ids[0]),
        "GetGateway": pb.GetGatewayRequest(),
        "Exec": pb.ExecRequest(process=pb.ProcessSpec(command="head -c 200000 /dev/zero")),
        "StartProcess": pb.StartProcessRequest(
            process=pb.ProcessSpec(command="true", labels={"memory": LABEL})
        ),
    }


RPCS = list(questions(None, ["x"], "x"))


@pytest.mark.parametrize("rpc", RPCS)
def test_a_peer_that_never_reads(g, bystander, labelled, rpc):
    request = questions(g, labelled, printed(g.stub, 8 * MiB))[rpc]
    times = 100 if rpc in ("Exec", "StartProcess", "Signal") else 600
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(deaf(g)) for _ in range(2)]
        for peer in peers:
            ask(peer, SERVICE + rpc, request, times)
        is_bounded(g, bystander, len(peers))


def test_a_peer_that_never_reads_its_reflection(g, bystander):
    from grpc_reflection.v1alpha import reflection_pb2

    request = reflection_pb2.ServerReflectionRequest(
        file_containing_symbol="procgate.v1.ProcessService"
    )
    with deaf(g) as peer:
        ask(peer, REFLECTION, request, 800)
        is_bounded(g, bystander)


def test_compressed_answers_that_nobody_reads(g, bystander):
    id = printed(g.stub, 8 * MiB)
    request = pb.WaitRequest(process_id=id, max_output_bytes=64 * MiB)
    with deaf(g) as peer:
        body = message(request.SerializeToString())
        for _ in range(40):
            call = peer.open(
                SERVICE + "Wait", grpc_accept_encoding="gzip", procgate_compress="gzip"
            )
            peer.h2.send_data(call, body, end_stream=True)
            peer.flush()
        is_bounded(g, bystander)


# Peers that never finish


@pytest.mark.parametrize(
    "rpc", [*RPCS, "WriteStdin", "StreamStdin", "Attach", "DeleteProcess", "ResizeTerminal"]
)
def test_a_peer_that_never_finishes_its_message(g, bystander, rpc):
    """Each message says that it has 16 MiB, of which all but the last bytes are sent."""
    with Connection(g.address, g.token) as peer:
        head = message(length=16 * MiB - 1)
        calls = {peer.open(SERVICE + rpc): head + bytes(15 * MiB) for _ in range(40)}
        sent = upload(peer, calls, None)
        # It was let in, and held back: not refused.
        assert 4 * MiB < sent < 2 * BUDGET
        is_bounded(g, bystander)


# Processes that never read


def sleeper(stub):
    return start(stub, "exec sleep 1000").id


def test_writes_to_a_process_that_never_reads(g, bystander):
    id = sleeper(g.stub)
    request = pb.WriteStdinRequest(process_id=id, data=bytes(15 * MiB))
    body = message(request.SerializeToString())
    with Connection(g.address, g.token) as peer:
        calls = {peer.open(SERVICE + "WriteStdin"): body for _ in range(60)}
        upload(peer, calls, len(body))
        is_bounded(g, bystander)
        # The same connection has room for what ends it.
        stopping = pb.StopProcessRequest(process_id=id, grace_ms=0)
        answer = peer.call(SERVICE + "StopProcess", message(stopping.SerializeToString()))
        assert answer.status == 0


@pytest.mark.parametrize("rpc", ["StreamStdin", "Attach"])
def test_streams_to_a_process_that_never_reads(g, bystander, rpc):
    id = sleeper(g.stub)
    data = bytes(1 * MiB)
    if rpc == "StreamStdin":
        first = pb.StreamStdinRequest(process_id=id, data=data)
        more = pb.StreamStdinRequest(data=data)
    else:
        first = pb.AttachRequest(join=pb.StreamOutputRequest(process_id=id))
        more = pb.AttachRequest(stdin_data=data)
    body = message(first.SerializeToString()) + 15 * message(more.SerializeToString())
    with Connection(g.address, g.token) as peer:
        calls = {peer.open(SERVICE + rpc): body for _ in range(40)}
        upload(peer, calls, None)
        is_bounded(g, bystander)
    stop(g.stub, id, grace_ms=0)


def test_input_of_processes_that_never_read_it(g, bystander):
    request = pb.ExecRequest(
        process=pb.ProcessSpec(command="exec sleep 1000"), stdin_data=bytes(4 * MiB)
    )
    body = message(request.SerializeToString())
    with Connection(g.address, g.token) as peer:
        calls = {peer.open(SERVICE + "Exec"): body for _ in range(40)}
        upload(peer, calls, len(body))
        is_bounded(g, bystander)


# What is left to others


def test_a_large_call_beside_a_full_connection(g, bystander):
    """One connection that holds its whole share does not keep another one's large message out."""
    id = sleeper(g.stub)
    request = pb.WriteStdinRequest(process_id=id, data=bytes(15 * MiB))
    body = message(request.SerializeToString())
    with Connection(g.address, g.token) as peer:
        upload(peer, {peer.open(SERVICE + "WriteStdin"): body for _ in range(20)}, len(body))
        data = bytes(8 * MiB)
        ran = run(bystander, "wc -c", stdin=data)
        assert ran.lines == [str(len(data))]
    stop(g.stub, id, grace_ms=0)


def test_strangers_have_sixteen_streams_on_a_connection(g):
    with Connection(g.address) as peer:
        calls = [peer.request(WATCH_HEALTH) for _ in range(40)]
        refused = lambda: [c for c in calls if peer.responses[c].status == 8]
        assert peer.until(lambda: len(refused()) == 24)
        served = [c for c in calls if peer.responses[c].data]
        assert peer.until(lambda: len([c for c in calls if peer.responses[c].data]) == 16)
        # One that ends makes room for another.
        peer.h2.reset_stream(calls[0])
        peer.flush()
        again = peer.request(WATCH_HEALTH)
        assert peer.until(lambda: peer.responses[again].data)
        assert len(served) <= 16
    with Connection(g.address, g.token) as known:
        calls = [known.request(WATCH_HEALTH) for _ in range(40)]
        assert known.until(lambda: all(known.responses[c].data for c in calls))


def test_watches_of_health_by_strangers_cost_little(g, bystander):
    before = anonymous(g)
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            peer = stack.enter_context(Connection(g.address))
            for _ in range(200):
                peer.open(WATCH_HEALTH)
            ids = list(peer.responses)
            for id in ids:
                peer.h2.send_data(id, message(), end_stream=True)
            peer.flush()
            drain(peer)
        assert anonymous(g) - before < 40 * (16 * 16 * KiB + 128 * KiB)
        assert seconds_of_an_exec(bystander) < 5


@pytest.mark.parametrize("field", ["args", "env"])
def test_more_arguments_than_any_host_takes(g, field):
    """They are refused before they are made: a million strings take seconds and much memory."""
    spec = pb.ProcessSpec(command="true")
    if field == "args":
        spec.args.extend(["a"] * 1_500_000)
    else:
        spec.env.update({f"V{i}": "" for i in range(600_000)})
    start_request = pb.StartProcessRequest(process=spec)
    with refused(Code.INVALID_ARGUMENT, "ARGUMENTS_TOO_LONG"):
        list(g.stub.Exec(pb.ExecRequest(process=spec)))
    with refused(Code.INVALID_ARGUMENT, "ARGUMENTS_TOO_LONG"):
        g.stub.StartProcess(start_request)
    with refused(Code.INVALID_ARGUMENT, "ARGUMENTS_TOO_LONG"):
        list(g.stub.Attach(iter([pb.AttachRequest(start=start_request)])))


def test_labels_that_take_more_memory_than_any_request():
    request = pb.ExecRequest(process=pb.ProcessSpec(command="true"))
    request.process.labels.update({f"{i:x}": "" for i in range(1_200_000)})
    with gateway() as usual, refused(Code.INVALID_ARGUMENT, "ARGUMENTS_TOO_LONG"):
        list(usual.stub.Exec(request))


# Wait


def test_a_result_is_pulled_whole(g):
    """Larger than a stream's window, both streams interleaved, cut at its front."""
    script = (
        "for i in $(seq 200); do head -c 30000 /dev/zero; "
        "head -c 9000 /dev/zero | tr '\\0' e >&2; done"
    )
    stub = g.connect(max_receive_message_length=-1)
    id = run(stub, script).id
    whole = wait(stub, id, max_output_bytes=64 * MiB)
    assert whole.stdout_data == bytes(200 * 30000)
    assert whole.stderr_data == b"e" * 200 * 9000
    assert not whole.output_truncated and whole.process.id == id
    part = wait(stub, id, max_output_bytes=1 * MiB)
    assert len(part.stdout_data) + len(part.stderr_data) == 1 * MiB
    assert part.output_truncated and part.last_seq == whole.last_seq
    assert whole.stdout_data.endswith(part.stdout_data)


def test_a_result_whose_process_is_forgotten_meanwhile(g):
    """What was announced is still sent: it is copied before the log lets go of it."""
    id = printed(g.stub, 4 * MiB)
    request = pb.WaitRequest(process_id=id, max_output_bytes=64 * MiB)
    with deaf(g, window=100_000) as peer:
        call = peer.request(SERVICE + "Wait", message(request.SerializeToString()))
        peer.until(lambda: len(peer.responses[call].data) >= 50_000)
        g.stub.DeleteProcess(pb.DeleteProcessRequest(process_id=id))
        run(g.stub, "head -c 8000000 /dev/zero | tr '\\0' x")  # over the blocks that were freed
        response = peer.response(call)
        assert response.status == 0
        result = pb.WaitResponse.FromString(response.data[5:]).result
        assert result.stdout_data == bytes(4 * MiB)
        assert result.stderr_data == bytes(4 * MiB // 8)


def test_the_limit_is_an_option():
    with gateway("--max-buffer-memory", "8MiB") as small:
        data = bytes(12 * MiB)  # a message alone may be larger
        assert run(small.stub, "wc -c", stdin=data).lines == [str(len(data))]
        assert info(small.stub).version
        events = begin(small.stub, "sleep 1000")
        assert next(iter(events)).HasField("started")
        events.cancel()
