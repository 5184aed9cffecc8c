"""Each call is logged once, with what is needed and nothing that is secret."""

import json

import pytest

from contract import Code, Stub, get, info, refused, run, start, wait, write
from gateway import eventually, gateway

pytestmark = pytest.mark.issue3


def entries(g, *words):
    found = []
    for line in g.log().splitlines():
        if line.startswith("{"):
            json.loads(line)
            if all(word in line for word in words):
                found.append(line)
    return found


@pytest.fixture
def logged(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("alice the-token-of-alice\n")
    tokens.chmod(0o600)
    options = ("--log-format", "json", "--token-file", tokens)
    with gateway(*options, token="the-token-of-alice") as g:
        yield g


def test_each_call_is_logged_once(logged):
    for _ in range(3):
        info(logged.stub)
    eventually(lambda: len(entries(logged, "GetGateway")) >= 3, what="three lines")
    run(logged.stub, "true")
    eventually(lambda: entries(logged, "Exec"), what="another line")
    assert len(entries(logged, "GetGateway")) == 3
    assert len(entries(logged, "Exec")) == 1


def test_a_line_names_the_caller_the_method_the_status_and_the_process(logged):
    id = run(logged.stub, "exit 3").id
    with refused(Code.NOT_FOUND):
        get(logged.stub, "none")
    (line,) = eventually(lambda: entries(logged, "Exec"))
    assert "alice" in line and id in line
    keys = " ".join(flat(json.loads(line))).lower()
    assert "duration" in keys or "ms" in keys or "seconds" in keys
    (line,) = eventually(lambda: entries(logged, "GetProcess"))
    assert "NOT_FOUND" in line or "notFound" in line or "5" in line


def flat(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from flat(inner)


def test_a_refused_call_keeps_its_message_and_has_an_error(logged):
    with refused(Code.NOT_FOUND):
        get(logged.stub, "none")
    (line,) = eventually(lambda: entries(logged, "GetProcess"))
    pairs = json.loads(line, object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), "a key comes twice"
    told = dict(pairs)
    assert told["message"] == "call"
    assert told["status"] == "NOT_FOUND"
    assert "none" in told["error"]


def test_a_duration_is_a_number(logged):
    run(logged.stub, "sleep 0.05")
    (line,) = eventually(lambda: entries(logged, "Exec"))
    duration = json.loads(line)["duration_ms"]
    assert isinstance(duration, float | int)
    assert duration >= 50


@pytest.mark.parametrize("level", ["info", "trace"])
def test_nothing_secret_is_logged(level, tmp_path):
    with gateway("--log-format", "json", "--log-level", level) as g:
        env = {"PASSWORD": "secret-of-env"}
        run(g.stub, "true", env=env, stdin=b"secret-of-stdin")
        id = start(g.stub, "cat", env=env).id
        write(g.stub, id, b"secret-of-write", eof=True)
        wait(g.stub, id)
        with refused(Code.UNAUTHENTICATED):
            info(Stub(g.channel(), [("authorization", "Bearer secret-of-stranger")]))
        eventually(lambda: entries(g, "Wait") and entries(g, "GetGateway"))
        text = g.log()
        for secret in ("secret-of-env", "secret-of-stdin", "secret-of-write", "secret-of-stranger"):
            assert secret not in text
        assert g.token not in text
