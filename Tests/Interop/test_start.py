"""StartProcess and GetProcess."""


from contract import (
    EXITED,
    FAILED,
    QUEUED,
    RUNNING,
    Code,
    Stub,
    get,
    listing,
    pb,
    refused,
    start,
    stop,
    wait,
)
from gateway import alive, gateway


def test_a_started_process_outlives_the_call_and_its_connection(shared):
    one = shared.channel()
    id = start(Stub(one, shared.metadata), "sleep 0.3; echo done").id
    one.close()
    assert wait(shared.stub, id).stdout_data == b"done\n"


def test_start_returns_once_the_process_runs(stub):
    process = start(stub, "sleep 1000")
    assert process.status == RUNNING
    assert alive(process.pid)
    assert process.started_at > 0
    assert process.ended_at == 0
    assert process.WhichOneof("outcome") is None
    stop(stub, process.id, grace_ms=0)


def test_start_returns_once_the_process_is_queued():
    with gateway("--max-running", "1") as g:
        first = start(g.stub, "sleep 1000")
        process = start(g.stub, "true")
        assert process.status == QUEUED
        assert process.pid == process.started_at == 0
        assert get(g.stub, process.id).status == QUEUED
        stop(g.stub, first.id, grace_ms=0)
        assert wait(g.stub, process.id).process.exit_code == 0


def test_a_repeat_with_the_same_key_returns_the_first_ones_process(stub, tmp_path):
    command = f"echo ran >> {tmp_path}/log"
    ids = {start(stub, command, key="start once").id for _ in range(5)}
    assert len(ids) == 1
    assert wait(stub, ids.pop()).process.exit_code == 0
    assert start(stub, command, key="start once").status == EXITED
    assert (tmp_path / "log").read_text() == "ran\n"


def test_repeats_at_the_same_time_start_one_process(stub, tmp_path):
    command = f"echo ran >> {tmp_path}/log"
    request = pb.StartProcessRequest(
        process=pb.ProcessSpec(command=command), request_key="start at once"
    )
    calls = [stub.StartProcess.future(request) for _ in range(20)]
    ids = {call.result().process.id for call in calls}
    assert len(ids) == 1
    wait(stub, ids.pop())
    assert (tmp_path / "log").read_text() == "ran\n"


def test_a_key_with_another_spec_is_refused(stub):
    start(stub, "true", key="start reused")
    with refused(Code.ALREADY_EXISTS, "REQUEST_KEY_REUSED"):
        start(stub, "false", key="start reused")


def test_a_refused_start_does_not_take_its_key(stub):
    with refused(Code.INVALID_ARGUMENT, "CWD_INVALID"):
        start(stub, "true", key="taken", cwd="/no/such")
    assert start(stub, "true", key="taken").id


def test_no_stdin_is_dev_null(stub):
    id = start(stub, "readlink /proc/self/fd/0; cat", no_stdin=True).id
    result = wait(stub, id)
    assert result.stdout_data == b"/dev/null\n"


def test_stdin_is_a_pipe_that_stays_open(stub):
    process = start(stub, "readlink /proc/self/fd/0; cat")
    assert not process.stdin_closed
    with refused(Code.DEADLINE_EXCEEDED, "WAIT_TIMED_OUT"):
        wait(stub, process.id, timeout_ms=200)
    stop(stub, process.id, grace_ms=0)
    assert wait(stub, process.id).stdout_data.startswith(b"pipe:")


def test_errors_are_those_of_exec(stub):
    for reason, fields in (
        ("COMMAND_REQUIRED", dict(command="")),
        ("CWD_INVALID", dict(command="true", cwd="/no/such")),
        ("ENV_INVALID", dict(command="true", env={"A=": "b"})),
        ("USER_UNKNOWN", dict(command="true", run_as="no-such-user")),
        ("TERMINAL_INVALID", dict(command="true", terminal=pb.TerminalSize(columns=70000, rows=1))),
        ("ARGUMENTS_TOO_LONG", dict(command="true " + "x" * 200_000)),
    ):
        with refused(Code.INVALID_ARGUMENT, reason):
            start(stub, **fields)


def test_a_start_without_a_spec_is_refused(stub):
    with refused(Code.INVALID_ARGUMENT, "COMMAND_REQUIRED"):
        stub.StartProcess(pb.StartProcessRequest())


def test_a_command_that_is_not_there_is_told_as_failed(stub):
    process = wait(stub, start(stub, "/no/such/command", "x").id).process
    assert process.status == FAILED
    assert process.termination_reason == pb.TERMINATION_REASON_START_FAILED
    assert "no such file" in process.error.lower() or "not found" in process.error.lower()


def test_running_and_queued_beyond_the_limits_are_refused():
    with gateway("--max-running", "2", "--max-queued", "1") as g:
        statuses = [start(g.stub, "sleep 1000").status for _ in range(3)]
        assert statuses == [RUNNING, RUNNING, QUEUED]
        with refused(Code.RESOURCE_EXHAUSTED, "TOO_MANY_PROCESSES"):
            start(g.stub, "sleep 1000")
        with refused(Code.RESOURCE_EXHAUSTED, "TOO_MANY_PROCESSES"):
            list(g.stub.Exec(pb.ExecRequest(process=pb.ProcessSpec(command="true"))))
        assert len(listing(g.stub).processes) == 3


def test_the_queue_is_served_in_order():
    with gateway("--max-running", "1") as g:
        first = start(g.stub, "sleep 1000")
        ids = [start(g.stub, "sleep 0.02").id for _ in range(6)]
        stop(g.stub, first.id, grace_ms=0)
        ended = [wait(g.stub, id).process for id in ids]
        times = [process.started_at for process in ended]
        assert times == sorted(times)
        assert all(a.ended_at <= b.started_at for a, b in zip(ended, ended[1:]))


def test_no_more_run_at_once_than_max_running(tmp_path):
    with gateway("--max-running", "3") as g:
        command = f"mkdir {tmp_path}/$$; ls {tmp_path} | wc -l; sleep 0.05; rmdir {tmp_path}/$$"
        ids = [start(g.stub, command).id for _ in range(24)]
        counts = [int(wait(g.stub, id).stdout_data) for id in ids]
        assert max(counts) <= 3
        assert max(counts) >= 2


def test_get_process_shows_it_as_it_stands(stub):
    process = start(stub, "read line; exit 7", labels={"a": "b"})
    found = get(stub, process.id)
    assert found == process
    stub.WriteStdin(pb.WriteStdinRequest(process_id=process.id, data=b"go\n"))
    ended = wait(stub, process.id).process
    assert get(stub, process.id) == ended
    assert ended.exit_code == 7


def test_every_method_that_names_a_process_refuses_an_unknown_one(stub):
    for id in ("", "no-such-process", "0" * 32, "../../etc/passwd", "x" * 10_000, "\0", "ü"):
        named = dict(process_id=id)
        for call in (
            lambda named=named: stub.GetProcess(pb.GetProcessRequest(**named)),
            lambda named=named: list(stub.StreamOutput(pb.StreamOutputRequest(**named))),
            lambda named=named: stub.WriteStdin(pb.WriteStdinRequest(**named)),
            lambda named=named: stub.Signal(pb.SignalRequest(signal="TERM", **named)),
            lambda named=named: stub.StopProcess(pb.StopProcessRequest(**named)),
            lambda named=named: stub.Wait(pb.WaitRequest(**named)),
            lambda named=named: stub.DeleteProcess(pb.DeleteProcessRequest(**named)),
        ):
            with refused(Code.NOT_FOUND, "PROCESS_NOT_FOUND"):
                call()


def test_start_does_not_wait_for_the_command(stub):
    process = start(stub, "sleep 1000")
    stop(stub, process.id, grace_ms=0)
