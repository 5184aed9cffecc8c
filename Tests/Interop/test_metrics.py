"""--metrics-listen: Prometheus text over HTTP/1.1."""

import contextlib
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import metrics
from certificates import Authority
from contract import Code, begin, get, has_lines, info, pb, refused, run, spec, start, stop, until
from gateway import REPOSITORY, descriptors, eventually, gateway, kill, procgate, resident
from metrics import LINE
from wire import Connection

pytestmark = pytest.mark.issue3


@contextlib.contextmanager
def with_metrics(*options):
    port = metrics.free_port()
    with gateway("--metrics-listen", f"127.0.0.1:{port}", *options) as g:
        g.metrics = port
        eventually(lambda: metrics.answers(port), what="the metrics' address")
        yield g


@pytest.fixture(scope="module")
def measured():
    with with_metrics() as g:
        yield g


def ask(g, path="/metrics", method="GET"):
    return metrics.ask(g.metrics, path, method)


def samples(g):
    return metrics.samples(g.metrics)


def matching(found, *words):
    return {
        key: value
        for key, value in found.items()
        if all(word.lower() in key.lower() for word in words)
    }


def test_the_answer_is_prometheus_text(measured):
    response, body = ask(measured)
    assert response.status == 200
    assert response.getheader("content-type").startswith("text/plain")
    assert "# TYPE " in body
    assert body.endswith("\n")
    for line in body.splitlines():
        assert not line or line.startswith("#") or LINE.match(line), line


def test_another_path_is_not_found_and_another_method_not_allowed(measured):
    assert ask(measured, "/other")[0].status == 404
    assert ask(measured, method="POST")[0].status in (404, 405)


def test_calls_are_counted_by_method_and_code(measured):
    before = samples(measured)
    for _ in range(3):
        run(measured.stub, "true")
    for _ in range(2):
        with refused(Code.NOT_FOUND):
            get(measured.stub, "none")
    after = samples(measured)

    def grown(*words):
        keys = [key for key in matching(after, *words) if "_bucket" not in key and "le=" not in key]
        return {after[key] - before.get(key, 0) for key in keys}

    assert 3 in grown("Exec", "method")
    assert 2 in grown("GetProcess", "method") or 2 in grown("GetProcess", "NOT_FOUND")
    assert any("not_found" in key.lower() or '"5"' in key for key in matching(after, "GetProcess"))


def test_latencies_are_histograms(measured):
    run(measured.stub, "true")
    body = ask(measured)[1]
    assert " histogram\n" in body
    buckets = [key for key in samples(measured) if "_bucket{" in key]
    assert any('le="+Inf"' in key for key in buckets)


def test_processes_are_counted_by_status(measured):
    process = start(measured.stub, "sleep 1000")
    running = lambda: matching(samples(measured), "process", "running")
    eventually(lambda: any(value >= 1 for value in running().values()), what="a running process")
    stop(measured.stub, process.id, grace_ms=0)
    eventually(lambda: any(value == 0 for value in running().values()), what="none")


def documented():
    """The names in the table of docs/operations.md."""
    section = (REPOSITORY / "docs/operations.md").read_text().split("## Metrics")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`(\w+)(?:\{[^}]*\})?`", row.split("|")[1])]


def test_the_table_of_the_documents_and_the_program_agree(measured):
    names = documented()
    assert len(names) == len(set(names))
    assert set(names) == set(metrics.families(measured.metrics))


def test_each_metric_of_the_table_has_a_test():
    here = Path(__file__).parent
    tests = "".join((here / name).read_text() for name in ("test_metrics.py", "test_stalled_log.py"))
    for name in documented():
        assert re.search(rf"{name}(_count|_sum)?\b", tests), name


def test_a_family_is_described_before_it_has_a_value(measured):
    kinds = metrics.families(measured.metrics)
    assert kinds["procgate_calls_total"] == "counter"
    assert kinds["procgate_call_duration_seconds"] == "histogram"
    assert kinds["procgate_spawn_seconds"] == "summary"
    assert kinds["procgate_streams"] == "gauge"


def test_calls_that_run_are_counted_until_their_end():
    with with_metrics() as g:
        followed = start(g.stub, "sleep 1000").id
        assert samples(g)["procgate_streams"] == 0
        execs = [begin(g.stub, "sleep 1000") for _ in range(4)]
        follows = [
            g.stub.StreamOutput(pb.StreamOutputRequest(process_id=followed)) for _ in range(3)
        ]
        waits = [g.stub.Wait.future(pb.WaitRequest(process_id=followed)) for _ in range(2)]
        eventually(lambda: samples(g)["procgate_streams"] == 9, what="nine calls that run")
        for call in execs[:2] + follows + waits:
            call.cancel()
        eventually(lambda: samples(g)["procgate_streams"] == 2, what="two calls that run")
        # Those that no handler was called for are over, too.
        with Connection(g.address, g.token) as connection:
            assert connection.call("/no.such.Service/Method").status == Code.UNIMPLEMENTED.value[0]
        for call in execs[2:]:
            call.cancel()
        eventually(lambda: samples(g)["procgate_streams"] == 0, what="no call that runs")


def test_a_connection_that_is_lost_ends_its_calls(measured):
    before = samples(measured)["procgate_streams"]
    with Connection(measured.address, measured.token) as connection:
        request = pb.ExecRequest(process=spec("sleep 1000")).SerializeToString()
        request = b"\0" + len(request).to_bytes(4, "big") + request
        for _ in range(5):
            connection.request("/procgate.v1.ProcessService/Exec", request)
        eventually(lambda: samples(measured)["procgate_streams"] == before + 5)
    eventually(lambda: samples(measured)["procgate_streams"] == before)


def test_a_known_load_is_counted_exactly():
    """What is not counted by other tests here."""
    with with_metrics("--max-running", "2", "--max-connections", "3") as g:
        version = procgate("--version").stdout.decode().split()[-1]
        assert samples(g)[f'procgate_build_info{{version="{version}"}}'] == 1
        connection = Connection(g.address, g.token)
        assert connection.call("/procgate.v1.ProcessService/GetGateway").status == 0
        stub = g.stub
        assert info(stub).version == version
        eventually(lambda: samples(g)["procgate_connections"] == 2)
        assert samples(g)["procgate_connections_total"] == 2
        third, fourth = (socket.create_connection(("127.0.0.1", g.port), 10) for _ in range(2))
        assert fourth.recv(1) == b"" or third.recv(1) == b""
        assert samples(g)["procgate_connections_refused_total"] == 1
        connection.close()
        third.close()
        fourth.close()
        eventually(lambda: samples(g)["procgate_connections"] == 1)

        method = 'method="/procgate.v1.ProcessService/Exec"'
        assert len(run(stub, "head -c 1000000 /dev/zero").stdout) == 1_000_000
        run(stub, "cat >/dev/null", stdin=bytes(500_000))
        after = samples(g)
        assert after[f'procgate_calls_total{{{method},code="OK"}}'] == 2
        assert after[f"procgate_call_duration_seconds_count{{{method}}}"] == 2
        assert 0 < after[f"procgate_call_duration_seconds_sum{{{method}}}"] < 60
        assert 1_000_000 < after[f"procgate_sent_bytes_total{{{method}}}"] < 1_100_000
        assert 500_000 < after[f"procgate_received_bytes_total{{{method}}}"] < 510_000
        assert after["procgate_spawn_seconds_count"] == 2
        assert 0 < after["procgate_spawn_seconds_sum"] < 60
        assert after["procgate_retained_bytes"] >= 1_000_000

        sleeping = [start(stub, "sleep 1000").id for _ in range(5)]
        after = samples(g)
        assert after['procgate_processes{status="running"}'] == 2
        assert after['procgate_processes{status="queued"}'] == after["procgate_queue_length"] == 3
        assert after['procgate_processes{status="exited"}'] == 2
        for id in sleeping:
            stop(stub, id, grace_ms=0)
        assert samples(g)["procgate_queue_length"] == 0

        with socket.create_connection(("127.0.0.1", g.port), 10) as flood:
            ping = b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)
            with contextlib.suppress(ConnectionError):
                flood.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" + ping * 500)
                while flood.recv(65536):
                    pass
        assert samples(g)['procgate_floods_total{kind="pings"}'] == 1


def test_failed_handshakes_are_counted(tmp_path):
    certificate, key = Authority(tmp_path / "ca").issue("gateway")
    with with_metrics("--tls-certificate", certificate, "--tls-key", key) as g:
        for count in (1, 2, 3):
            with socket.create_connection(("127.0.0.1", g.port), 10) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(2000))
                with contextlib.suppress(ConnectionError):
                    while plain.recv(4096):
                        pass
            eventually(lambda: samples(g)["procgate_handshakes_failed_total"] == count)
        assert samples(g)["procgate_connections_total"] == 0


def test_processes_are_counted_by_how_they_ended():
    with with_metrics("--max-running", "4") as g:
        stub = g.stub
        for _ in range(3):
            run(stub, "exit 1")
        run(stub, "kill -KILL $$")
        for _ in range(2):
            run(stub, "sleep 1000", timeout_ms=50)
        stop(stub, start(stub, "sleep 1000").id, grace_ms=0)
        run(stub, "/no/such/program", "argument")
        call = begin(stub, "echo ready; sleep 1000")
        until(call, has_lines(1))
        call.cancel()
        expected = {
            "exited": 3, "signalled": 1, "timeout": 2, "stopped": 1, "start_failed": 1,
            "caller_gone": 1, "out_of_memory": 0, "shutdown": 0, "queue_timeout": 0,
        }  # fmt: skip
        counted = lambda: {
            key.split('"')[1]: value
            for key, value in samples(g).items()
            if key.startswith("procgate_processes_ended_total{")
        }
        eventually(lambda: counted() == expected, what=f"{expected}")
        # Forgetting a process does not take it back.
        stub.DeleteProcess(pb.DeleteProcessRequest(process_id=run(stub, "true").id))
        assert counted()["exited"] == 4


def test_the_gateways_own_process_is_measured():
    with with_metrics() as g:
        before = samples(g)
        stat = Path(f"/proc/{g.pid}/stat").read_text().rpartition(")")[2].split()
        booted = int(re.search(r"btime (\d+)", Path("/proc/stat").read_text()).group(1))
        # /proc counts in hundredths, and the time of the boot in seconds.
        assert abs(before["process_start_time_seconds"] - booted - int(stat[19]) / 100) < 2
        limits = Path(f"/proc/{g.pid}/limits").read_text()
        most = int(re.search(r"Max open files +(\d+)", limits).group(1))
        assert before["process_max_fds"] == most
        assert 0.5 < before["process_resident_memory_bytes"] / resident(g.pid) < 2
        open_before = before["process_open_fds"]
        # The connection that asks, and what is open to look.
        assert 0 <= open_before - descriptors(g.pid) <= 2
        held = [Connection(g.address, g.token) for _ in range(20)]
        assert all(c.call("/grpc.health.v1.Health/Check").status == 0 for c in held)
        # The connection of the scrape before may be open still, or closed by now.
        assert abs(samples(g)["process_open_fds"] - open_before - 20) <= 1
        for connection in held:
            connection.close()
        for _ in range(200):
            info(g.stub)
        spent = samples(g)["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
        assert 0 < spent < 60


def test_metrics_are_answered_while_the_supervisor_stands_still():
    with with_metrics() as g:
        run(g.stub, "true")
        before = samples(g)
        assert before["procgate_supervisor_up"] == 1
        kill(g.supervisor, 19)
        try:
            # Many that ask at once share one question.
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda _: samples(g), range(24)))
        finally:
            kill(g.supervisor, 18)
        for stopped in answers:
            assert stopped["procgate_supervisor_up"] == 0
            assert stopped["procgate_connections"] == 1
            assert not matching(stopped, "procgate_processes")
            assert not matching(stopped, "spawn") and not matching(stopped, "retained")
        after = samples(g)
        assert after["procgate_supervisor_up"] == 1
        assert after.keys() >= before.keys()


def test_a_supervisor_that_is_replaced_is_counted():
    with with_metrics() as g:
        assert samples(g)["procgate_supervisor_restarts_total"] == 0
        kill(g.supervisor)
        eventually(lambda: samples(g)["procgate_supervisor_restarts_total"] == 1, 20)
        eventually(lambda: samples(g)["procgate_supervisor_up"] == 1, 20)


def test_each_family_is_described_once_and_what_only_grows_is_a_counter(measured):
    run(measured.stub, "true")
    kinds, helped = {}, set()
    for line in ask(measured)[1].splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in kinds
            kinds[name] = kind
        elif line.startswith("# HELP "):
            name = line.split()[2]
            assert name not in helped and name not in kinds
            helped.add(name)
    assert helped == set(kinds)
    assert {name for name, kind in kinds.items() if kind == "counter"} == {
        name for name in kinds if name.endswith("_total")
    }
    assert kinds["procgate_supervisor_restarts_total"] == "counter"
    for key in samples(measured):
        family = re.sub(r"\{.*", "", key)
        assert family in kinds or re.sub(r"_(bucket|sum|count)$", "", family) in kinds, key


def test_a_head_that_is_too_large_is_refused(measured):
    with socket.create_connection(("127.0.0.1", measured.metrics), 10) as visitor:
        visitor.sendall(b"GET /metrics HTTP/1.1\r\nx-large: " + b"y" * 20_000 + b"\r\n\r\n")
        assert b" 200 " not in visitor.recv(4096)
    assert ask(measured)[0].status == 200


def test_a_request_that_does_not_end_is_cut_off_and_visitors_are_counted(measured):
    visitors = [socket.create_connection(("127.0.0.1", measured.metrics), 10) for _ in range(40)]
    try:
        for visitor in visitors:
            visitor.settimeout(20)
        # Those above the limit at once, the others when their request should have come.
        for visitor in visitors:
            with contextlib.suppress(ConnectionError):
                assert visitor.recv(1) == b""
    finally:
        for visitor in visitors:
            visitor.close()
    assert ask(measured)[0].status == 200


def test_a_public_address_is_refused():
    with gateway("--metrics-listen", "0.0.0.0:0", start=False) as g:
        g.launch()
        assert g.wait(10) != 0
        assert "0.0.0.0" in g.log()


def test_many_scrapes_in_a_row_are_answered(measured):
    for _ in range(50):
        assert ask(measured)[0].status == 200


def test_metrics_are_off_by_default(shared):
    assert "metrics" not in shared.log().lower().replace("no metrics", "")
