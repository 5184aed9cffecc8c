"""Attacks with raw frames: each is cut off, others' calls go on, memory returns."""

import contextlib
import select
import socket
import time

import grpc
import h2.settings
import hpack
import hyperframe.frame as frames
import pytest

from contract import Code, MiB, Stub, begin, info, pb, refused, run, start, stop
from gateway import eventually, gateway, resident
from relay import Relay
from wire import PREFACE, SERVICE, Connection, grpc_headers, message

pytestmark = [pytest.mark.issue3, pytest.mark.timeout(90)]
INFO, EXEC = SERVICE + "GetGateway", SERVICE + "Exec"
ENHANCE_YOUR_CALM = 11
EMPTY = message()


@pytest.fixture(scope="module")
def target():
    with gateway("--retain-time", "2s") as g:  # what is retained is no leak
        yield g


@pytest.fixture(autouse=True)
def unharmed(target):
    """A call of another client goes on through each attack, and memory returns."""
    run(target.stub, "true")
    before = resident(target.pid) + resident(target.supervisor)
    other = target.connect()
    process = start(other, "while read x; do echo $x; done")
    events = other.StreamOutput(pb.StreamOutputRequest(process_id=process.id))
    yield
    other.WriteStdin(pb.WriteStdinRequest(process_id=process.id, data=b"still\n"))
    assert next(event for event in events if event.WhichOneof("event") == "output")
    stop(other, process.id, grace_ms=0)
    assert info(target.connect()).version
    after = lambda: resident(target.pid) + resident(target.supervisor) - before < 24 * MiB
    eventually(after, what="the return of memory")


class Attacker:
    """Bytes out, and what comes back kept aside, without the books of an honest client."""

    def __init__(self, g, reads=True):
        self.socket = socket.create_connection(("127.0.0.1", g.port), 10)
        self.socket.setblocking(False)
        self.token, self.encoder = g.token, hpack.Encoder()
        self.encoder.header_table_size = 0  # every block stands by itself
        self.received, self.reads, self.cut = bytearray(), reads, False
        self.next_stream = 1
        self.send(PREFACE + frames.SettingsFrame(0).serialize())

    def block(self, path=INFO, **more):
        return self.encoder.encode(grpc_headers(path, self.token, **more))

    def stream(self):
        self.next_stream += 2
        return self.next_stream - 2

    def read(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    data = self.socket.recv(1 << 16)
                except (ConnectionError, TimeoutError):
                    data = b""
                if not data:
                    self.cut = True
                    return
                self.received += data

    def send(self, data, timeout=10):
        """All of it, unless the gateway cuts the connection or takes no more."""
        view, end = memoryview(data), time.monotonic() + timeout
        while view and not self.cut:
            readable, writable, _ = select.select(
                [self.socket] if self.reads else [], [self.socket], [], end - time.monotonic()
            )
            if readable:
                self.read()
            if writable:
                try:
                    view = view[self.socket.send(view) :]
                except BlockingIOError:
                    pass
                except OSError:
                    self.cut = True
            if not readable and not writable or time.monotonic() > end:
                return False
        return not self.cut

    def is_cut(self, timeout=10):
        """The gateway closes the connection."""
        end = time.monotonic() + timeout
        while not self.cut and time.monotonic() < end:
            select.select([self.socket], [], [], end - time.monotonic())
            self.read()
        return self.cut

    def flood(self, make, limit, batch=500):
        """Sends what `make` gives up to `limit` times; whether it was cut off."""
        for _ in range(limit // batch):
            if not self.send(b"".join(make() for _ in range(batch))):
                break
        return self.is_cut(15)

    def goaway(self):
        """The error code the gateway gave, or None where it just closed."""
        data, at = bytes(self.received), 0
        while at + 9 <= len(data):
            length, kind = int.from_bytes(data[at : at + 3]), data[at + 3]
            if kind == 7 and at + 17 <= len(data):
                code = int.from_bytes(data[at + 13 : at + 17])
                if code:
                    return code
            at += 9 + length
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def test_rapid_reset_is_cut_off(target):
    with Attacker(target) as attacker:
        block = attacker.block()

        def reset():
            id = attacker.stream()
            head = frames.HeadersFrame(id, block, flags=["END_HEADERS"])
            return head.serialize() + frames.RstStreamFrame(id, 8).serialize()

        assert attacker.flood(reset, 20_000)
        assert attacker.goaway() in (ENHANCE_YOUR_CALM, None, 2)


def test_rapid_reset_of_execs_leaves_no_process(target):
    body = pb.ExecRequest(process=pb.ProcessSpec(command="sleep 1000", labels={"rapid": "reset"}))
    payload = message(body.SerializeToString())
    with Attacker(target) as attacker:
        block = attacker.block(EXEC)

        def reset():
            id = attacker.stream()
            return b"".join(
                frame.serialize()
                for frame in (
                    frames.HeadersFrame(id, block, flags=["END_HEADERS"]),
                    frames.DataFrame(id, payload, flags=["END_STREAM"]),
                    frames.RstStreamFrame(id, 8),
                )
            )

        attacker.flood(reset, 3000, batch=100)

    def none_left():
        listed = target.stub.ListProcesses(
            pb.ListProcessesRequest(labels={"rapid": "reset"}, status=[1, 2], limit=1000)
        )
        return not listed.processes

    eventually(none_left, what="the end of every process of a reset Exec")


def test_a_ping_flood_is_cut_off(target):
    with Attacker(target) as attacker:
        ping = frames.PingFrame(0, bytes(8)).serialize()
        assert attacker.flood(lambda: ping, 200_000)
        assert attacker.goaway() in (ENHANCE_YOUR_CALM, None)


def test_a_ping_flood_without_reading_is_cut_off(target):
    with Attacker(target, reads=False) as attacker:
        ping = frames.PingFrame(0, bytes(8)).serialize()
        assert attacker.flood(lambda: ping, 1_000_000, batch=5000)


def test_a_settings_flood_is_cut_off(target):
    with Attacker(target) as attacker:
        settings = frames.SettingsFrame(0, {4: 65535}).serialize()
        assert attacker.flood(lambda: settings, 200_000)


def test_a_continuation_flood_is_cut_off(target):
    with Attacker(target) as attacker:
        attacker.send(frames.HeadersFrame(1, attacker.block()).serialize())
        empty = frames.ContinuationFrame(1, b"").serialize()
        assert attacker.flood(lambda: empty, 100_000)


def test_a_continuation_flood_of_headers_is_cut_off(target):
    with Attacker(target) as attacker:
        attacker.send(frames.HeadersFrame(1, attacker.block()).serialize())
        block = hpack.Encoder().encode([("x-flood", "y" * 8000)], huffman=False)
        more = frames.ContinuationFrame(1, block).serialize()
        assert attacker.flood(lambda: more, 10_000, batch=50)


def test_a_window_update_flood_is_cut_off(target):
    with Attacker(target) as attacker:
        update = frames.WindowUpdateFrame(0, 1).serialize()
        assert attacker.flood(lambda: update, 1_000_000, batch=5000)


def test_a_flood_of_empty_data_frames_is_cut_off(target):
    with Attacker(target) as attacker:
        head = frames.HeadersFrame(1, attacker.block(EXEC), flags=["END_HEADERS"])
        attacker.send(head.serialize())
        empty = frames.DataFrame(1, b"").serialize()
        assert attacker.flood(lambda: empty, 1_000_000, batch=5000)


def test_resets_that_the_gateway_is_made_to_send_are_counted(target):
    """CVE-2025-8671: a frame that is a stream error, on stream after stream."""
    with Attacker(target) as attacker:
        block = attacker.block(SERVICE + "Wait")

        def provoke():
            id = attacker.stream()
            head = frames.HeadersFrame(id, block, flags=["END_HEADERS"]).serialize()
            update = frames.WindowUpdateFrame(id, 1).serialize()
            return head + update[:-4] + bytes(4)  # an increment of 0

        assert attacker.flood(provoke, 20_000)


def test_resets_by_an_overflowing_window_are_counted(target):
    with Attacker(target) as attacker:
        block = attacker.block(SERVICE + "Wait")

        def provoke():
            id = attacker.stream()
            head = frames.HeadersFrame(id, block, flags=["END_HEADERS"]).serialize()
            return head + frames.WindowUpdateFrame(id, 2**31 - 1).serialize()

        assert attacker.flood(provoke, 20_000)


def header_bomb(attacker, pieces):
    id = attacker.stream()
    block = attacker.block() + b"".join(pieces)
    parts = [block[i : i + 16000] for i in range(0, len(block), 16000)]
    out = []
    for i, part in enumerate(parts):
        flags = ["END_HEADERS"] if i == len(parts) - 1 else []
        kind = frames.ContinuationFrame if i else frames.HeadersFrame
        out.append(kind(id, part, flags=flags).serialize())
    return b"".join(out) + frames.DataFrame(id, EMPTY, flags=["END_STREAM"]).serialize()


def test_a_header_block_of_96_kilobytes_is_refused(target):
    with Connection(target.address, target.token) as connection:
        try:
            response = connection.call(INFO, x_large="y" * 96_000)
        except Exception as error:
            pytest.fail(f"{error!r}")
        assert response.refused
        assert response.http in (0, 431) or response.status == 8
    with Connection(target.address, target.token) as connection:
        many = {f"x_h{i}": "y" * 90 for i in range(1000)}
        assert connection.call(INFO, **many).refused


def test_headers_of_twelve_kilobytes_are_taken(target):
    with Connection(target.address, target.token) as connection:
        assert connection.call(INFO, x_large="y" * 12_000).status == 0


def test_a_header_bomb_is_refused(target):
    """One entry of 4 KB in the table, named thousands of times with a byte each."""
    with Attacker(target) as attacker:
        entry = hpack.Encoder().encode([("x-bomb", "y" * 3900)], huffman=False)
        attacker.send(header_bomb(attacker, [entry, b"\xbe" * 30_000]))
        reset, headers = 3, 1
        answered = lambda: attacker.read() or {reset, headers} & set(kinds(attacker.received))
        eventually(lambda: answered() or attacker.cut, what="an answer")
        assert attacker.cut or reset in kinds(attacker.received) or b"431" in attacker.received


def kinds(data):
    data, at, found = bytes(data), 0, []
    while at + 9 <= len(data):
        found.append(data[at + 3])
        at += 9 + int.from_bytes(data[at : at + 3])
    return found


def test_a_peer_that_never_reads_holds_no_memory(target):
    with Attacker(target, reads=False) as attacker:
        window = frames.SettingsFrame(0, {4: 2**31 - 1}).serialize()
        attacker.send(window + frames.WindowUpdateFrame(0, 2**31 - 1 - 65535).serialize())
        block = attacker.block(EXEC)
        request = pb.ExecRequest(process=pb.ProcessSpec(command="cat /dev/zero"))
        before = resident(target.pid) + resident(target.supervisor)
        for _ in range(8):
            id = attacker.stream()
            head = frames.HeadersFrame(id, block, flags=["END_HEADERS"])
            body = frames.DataFrame(id, message(request.SerializeToString()), flags=["END_STREAM"])
            attacker.send(head.serialize() + body.serialize())
        sizes = []

        def steady():
            sizes.append(resident(target.pid) + resident(target.supervisor))
            return len(sizes) > 100 and sizes[-1] <= sizes[-100] + MiB

        eventually(steady, what="memory to stand still")
        # A window for each of the eight in the supervisor's arena, mapped by both.
        assert sizes[-1] - before < 160 * MiB


def test_answers_to_a_peer_that_never_reads_do_not_gather(target):
    with Attacker(target, reads=False) as attacker:
        window = frames.SettingsFrame(0, {4: 2**31 - 1}).serialize()
        attacker.send(window + frames.WindowUpdateFrame(0, 2**31 - 1 - 65535).serialize())
        block = attacker.block()
        before = resident(target.pid)

        def ask():
            id = attacker.stream()
            head = frames.HeadersFrame(id, block, flags=["END_HEADERS"]).serialize()
            return head + frames.DataFrame(id, EMPTY, flags=["END_STREAM"]).serialize()

        for _ in range(400):
            if not attacker.send(b"".join(ask() for _ in range(200)), timeout=3):
                break
        assert resident(target.pid) - before < 32 * MiB


def test_requests_that_never_complete_are_ended(target):
    """Nothing, half a preface, headers without their end, half a message."""
    with contextlib.ExitStack() as stack:
        attackers = [stack.enter_context(Attacker(target)) for _ in range(3)]
        silent = socket.create_connection(("127.0.0.1", target.port), 10)
        half = socket.create_connection(("127.0.0.1", target.port), 10)
        half.sendall(PREFACE[:12])
        cut_headers = frames.HeadersFrame(1, attackers[1].block()).serialize()
        attackers[1].send(cut_headers)
        whole = frames.HeadersFrame(1, attackers[2].block(), flags=["END_HEADERS"]).serialize()
        attackers[2].send(whole + frames.DataFrame(1, b"\0\0\0\0\x0a").serialize())
        for plain in (silent, half):
            plain.settimeout(45)
            with contextlib.suppress(ConnectionError):
                while plain.recv(4096):
                    pass
            plain.close()
        assert attackers[1].is_cut(45)
        answered = lambda: attackers[2].read() or {1, 3} & set(kinds(attackers[2].received))
        eventually(lambda: answered() or attackers[2].cut, 45, "an end of half a message")


def test_messages_that_never_end_hold_little(target):
    """Sixty-four that claim 16 MiB each, sent as far as the gateway gives room."""
    most = 15 * MiB
    with Connection(target.address, target.token) as connection:
        ids = [connection.open(SERVICE + "WriteStdin") for _ in range(64)]
        sent = dict.fromkeys(ids, 0)
        for id in ids:
            connection.h2.send_data(id, message(length=16 * MiB - 1))
        with contextlib.suppress(AssertionError):  # nothing more comes: it gives no more room
            while sum(sent.values()) < 256 * MiB:
                before = sum(sent.values())
                for id in ids:
                    window = connection.h2.local_flow_control_window(id)
                    count = min(window, connection.h2.max_outbound_frame_size, most - sent[id])
                    if count > 0:
                        connection.h2.send_data(id, bytes(count))
                        sent[id] += count
                        connection.flush()
                if sum(sent.values()) == before and not connection.pump(2):
                    break
        assert MiB < sum(sent.values()) < 96 * MiB
        assert resident(target.pid) < 256 * MiB


def test_a_stranger_sends_health_no_large_message(target):
    with Connection(target.address) as connection:
        response = connection.call("/grpc.health.v1.Health/Check", message(bytes(8192)))
        assert response.status == 8
        waiting = connection.open(SERVICE + "WriteStdin")
        assert connection.response(waiting).status == 16  # before any body


def test_wrong_tokens_are_rate_limited():
    with gateway() as g:
        stub = Stub(g.channel(), [("authorization", "Bearer wrong")])
        for _ in range(2000):
            try:
                info(stub)
            except grpc.RpcError as error:
                if error.code() == Code.RESOURCE_EXHAUSTED:
                    return
                assert error.code() == Code.UNAUTHENTICATED
        pytest.fail("2,000 wrong tokens from one peer were each answered at once")


def test_a_connection_with_calls_is_pinged():
    with gateway("--keep-alive", "1s") as g, Connection(g.address, g.token) as connection:
        request = pb.ExecRequest(process=pb.ProcessSpec(command="sleep 1000"))
        connection.request(EXEC, message(request.SerializeToString()))
        assert connection.until(lambda: connection.pings >= 2, 10)


def test_a_dead_connection_is_found_out_and_its_exec_killed():
    with gateway("--keep-alive", "1s") as g, Relay(g.address) as relay:
        events = begin(g.connect(target=relay.address), "sleep 1000")
        id = next(events).started.id
        relay.hold()
        process = g.stub.Wait(pb.WaitRequest(process_id=id)).result.process
        assert process.termination_reason == pb.TERMINATION_REASON_CALLER_GONE
        events.cancel()


def test_a_client_that_pings_now_and_then_is_not_cut_off(target):
    with Connection(target.address, target.token) as connection:
        for _ in range(20):
            connection.h2.ping(bytes(8))
            connection.flush()
            wanted = connection.acknowledged_pings + 1
            assert connection.until(lambda wanted=wanted: connection.acknowledged_pings >= wanted)
        assert connection.call(INFO).status == 0


def test_an_honest_client_that_cancels_much_is_not_cut_off(target):
    stub = target.connect()
    for _ in range(500):
        events = begin(stub, "sleep 1000")
        next(events)
        events.cancel()
    with refused(Code.NOT_FOUND, "PROCESS_NOT_FOUND"):
        stub.GetProcess(pb.GetProcessRequest(process_id="none"))


def test_limits_are_announced(target):
    with Connection(target.address, target.token) as connection:
        assert connection.call(INFO).status == 0
        settings = connection.h2.remote_settings
        assert settings.max_concurrent_streams == 1024
        assert settings[h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE] == 16384
