"""--metrics-listen: Prometheus text over HTTP/1.1."""

import contextlib
import http.client
import re
import socket

import pytest

from contract import Code, begin, get, refused, run, start, stop
from gateway import eventually, gateway

pytestmark = pytest.mark.issue3
LINE = re.compile(
    r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\]|\\.)*",?)*\})? (\S+)( \d+)?$'
)


@pytest.fixture(scope="module")
def measured():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with gateway("--metrics-listen", f"127.0.0.1:{port}") as g:
        g.metrics = port
        eventually(lambda: answers(port), what="the metrics' address")
        yield g


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def ask(g, path="/metrics", method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", g.metrics, timeout=10)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response, body


def samples(g):
    """Name and labels to value."""
    found = {}
    for line in ask(g)[1].splitlines():
        if line and not line.startswith("#"):
            name, labels, value, _ = LINE.match(line).groups()
            found[name + (labels or "")] = float(value)
    return found


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


def test_the_rest_of_what_is_promised_is_there(measured):
    events = begin(measured.stub, "head -c 1000000 /dev/zero")
    list(events)
    found = samples(measured)
    for words in (
        ["bytes"],
        ["connections"],
        ["streams"],
        ["queue"],
        ["spawn"],
        ["retained"],
        ["restart"],
    ):
        assert matching(found, *words), words
    assert max(matching(found, "connections").values()) >= 1


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
