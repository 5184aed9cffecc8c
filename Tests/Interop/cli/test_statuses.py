"""The exit status of `procgate exec` and its relatives, and the options that decide it."""

import os
import subprocess

import pytest

from contract import get, start, stop
from gateway import BINARY, eventually, gateway, procgate


@pytest.fixture(scope="module")
def served():
    with gateway("--allow-user", "*") as g:
        g.client = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
        yield g


def call(served, *words, **options):
    return procgate(*words, environment=served.client, **options)


def told(done, status):
    line = done.stderr.decode()
    assert done.returncode == status, (done.args, line)
    assert len(line.splitlines()) == 1, line
    return line


@pytest.fixture
def programs(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    return {
        "missing": tmp_path / "none", "directory": tmp_path, "plain": plain,
        "below": plain / "a file has none",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name, status", [("missing", 127), ("directory", 126), ("plain", 126), ("below", 126)]
)
def test_a_program_that_cannot_be_executed_is_told_from_one_that_does_not_exist(
    served, programs, name, status
):
    path = str(programs[name])
    assert path in told(call(served, "exec", "--", path, "word"), status)
    session = call(served, "exec", "-t", "--", path, "word")
    assert path in told(session, status)
    started = call(served, "start", "--", path, "word")
    id = started.stdout.decode().strip()
    assert path in told(call(served, "wait", id), status)
    assert path in told(call(served, "attach", id), status)


def test_a_name_that_is_not_in_the_path_does_not_exist(served):
    assert "nosuchprogram" in told(call(served, "exec", "--", "nosuchprogram", "word"), 127)


def test_the_shells_own_statuses_are_the_commands(served, programs):
    assert call(served, "exec", "--", "nosuchprogram").returncode == 127
    assert call(served, "exec", "--", str(programs["plain"])).returncode == 126


def test_a_timeout_of_nothing_is_none(served):
    done = call(served, "exec", "--timeout", "0s", "--", "sleep 0.2; exit 5")
    assert done.returncode == 5
    assert call(served, "exec", "--timeout", "0.2s", "--", "sleep 1000").returncode == 124


@pytest.mark.parametrize("written", ["1.5s", "2d", "0.5h", "1500ms", "0.25m"])
def test_durations_have_fractions_and_days(served, written):
    assert call(served, "exec", "--timeout", written, "--", "true").returncode == 0


@pytest.mark.parametrize("output", [">/dev/full", ">&-", "| true"])
@pytest.mark.parametrize("options", ["", "--json", "-t"])
def test_output_that_cannot_be_written_leaves_a_failed_commands_status(served, output, options):
    def run(code):
        script = f"set -o pipefail; {BINARY} exec {options} -- 'echo out; exit {code}' {output}"
        return subprocess.run(
            ["bash", "-c", script], env=os.environ | served.client, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=20,
        )  # fmt: skip

    assert run(3).returncode == 3
    assert run(0).returncode == (1 if output != "| true" else 141)


def test_a_process_has_stdin_where_it_was_asked_for(served, tmp_path):
    (tmp_path / "input").write_bytes(b"written")
    without = call(served, "start", "--", "wc -c").stdout.decode().strip()
    assert call(served, "wait", without).returncode == 0
    assert call(served, "logs", without).stdout.strip() == b"0"
    assert get(served.stub, without).stdin_closed
    with_pipe = call(served, "start", "-i", "--", "cat").stdout.decode().strip()
    assert call(served, "stdin", with_pipe, "--no-eof", tmp_path / "input").returncode == 0
    assert not get(served.stub, with_pipe).ended_at
    assert call(served, "stdin", with_pipe, tmp_path / "input").returncode == 0
    assert call(served, "logs", "--follow", with_pipe).stdout == b"writtenwritten"


def test_a_process_without_stdin_can_be_attached_to(served):
    id = call(served, "start", "--", "sleep 0.3; echo late; exit 4").stdout.decode().strip()
    done = call(served, "attach", id, input=b"typed")
    assert (done.returncode, done.stdout) == (4, b"late\n"), done.stderr


def test_start_takes_the_options_of_exec(served):
    words = (
        "start", "-i", "--cwd", "/tmp", "--env", "A=1", "--timeout", "1.5m", "--run-as", "daemon",
        "--label", "statuses=all", "--keep", "--detach-keys", "ctrl-a", "--allow-new-privileges",
        "--", "pwd; echo $A; id -un",
    )  # fmt: skip
    id = call(served, *words).stdout.decode().strip()
    assert call(served, "logs", "--follow", id).stdout == b"/tmp\n1\ndaemon\n"
    assert get(served.stub, id).labels == {"statuses": "all"}


def test_start_gives_no_terminal(served):
    assert "'-t'" in told(call(served, "start", "-t", "--", "true"), 64)


@pytest.mark.parametrize("keys", ["", "ctrl-", "ctrl-p,", "ctrl-1", "ab", "é"])
def test_what_is_no_key_is_wrong_usage(served, keys):
    line = told(call(served, "exec", "-t", "--detach-keys", keys, "--", "true"), 64)
    assert "--detach-keys" in line


def test_the_token_of_the_environment_comes_first_without_white_space(served, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("someone wrong\n")
    words = ("info", "--address", served.address, "--token-file", wrong)
    assert procgate(*words).returncode == 77
    environment = {"PROCGATE_TOKEN": f" \t{served.token}\n"}
    assert procgate(*words, environment=environment).returncode == 0


def test_a_wait_names_the_whole_id(served):
    process = start(served.stub, "sleep 1000")
    line = told(call(served, "wait", process.id[:6], "--timeout", "0.1s"), 1)
    assert process.id in line
    stop(served.stub, process.id, grace_ms=0)
    eventually(lambda: get(served.stub, process.id).ended_at)
