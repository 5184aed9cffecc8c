"""The contract as Python sees it: stubs generated from proto/ when the tests start, and the few
calls that most tests make."""

import atexit
import importlib
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "proto"


def generate():
    to = tempfile.mkdtemp(prefix="procgate-stubs-")
    atexit.register(shutil.rmtree, to, ignore_errors=True)
    source = "procgate/v1/process.proto"
    words = ["protoc", f"-I{PROTO}", f"--python_out={to}", f"--grpc_python_out={to}", source]
    if protoc.main(words) != 0:
        raise SystemExit(f"protoc could not read {PROTO / source}")
    sys.path.insert(0, to)
    module = source.removesuffix(".proto").replace("/", ".")
    return importlib.import_module(module + "_pb2"), importlib.import_module(module + "_pb2_grpc")


pb, rpc = generate()
Code = grpc.StatusCode
STDOUT, STDERR = pb.OUTPUT_STREAM_STDOUT, pb.OUTPUT_STREAM_STDERR
QUEUED, RUNNING = pb.PROCESS_STATUS_QUEUED, pb.PROCESS_STATUS_RUNNING
EXITED, FAILED = pb.PROCESS_STATUS_EXITED, pb.PROCESS_STATUS_FAILED
KILLED, TIMED_OUT = pb.PROCESS_STATUS_KILLED, pb.PROCESS_STATUS_TIMED_OUT
KEEP, KILL = pb.DISCONNECT_POLICY_KEEP, pb.DISCONNECT_POLICY_KILL
MiB = 1 << 20


class Method:
    def __init__(self, method, metadata, deadline):
        self.method, self.metadata, self.deadline = method, metadata, deadline

    def options(self, timeout=-1, metadata=(), **more):
        """`timeout=None` is no deadline at all."""
        timeout = self.deadline if timeout == -1 else timeout
        return {"timeout": timeout, "metadata": (*self.metadata, *metadata), **more}

    def __call__(self, request, **options):
        return self.method(request, **self.options(**options))

    def future(self, request, **options):
        return self.method.future(request, **self.options(**options))

    def with_call(self, request, **options):
        return self.method.with_call(request, **self.options(**options))


class Stub:
    """The service's stub, with the caller's metadata and a deadline on every call."""

    def __init__(self, channel, metadata=(), deadline=50):
        self._stub = rpc.ProcessServiceStub(channel)
        self._metadata, self._deadline = tuple(metadata), deadline

    def __getattr__(self, name):
        return Method(getattr(self._stub, name), self._metadata, self._deadline)


# Errors


def error_info(error):
    """The ErrorInfo of a failed call, after what every error has to have."""
    raw = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    assert raw is not None, f"{error.code()} without details: {error.details()}"
    status = status_pb2.Status.FromString(raw)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            assert info.domain == "procgate"
            return info
    raise AssertionError(f"{error.code()} without an ErrorInfo: {error.details()}")


@contextmanager
def refused(code, reason=None):
    """The calls inside are to fail so. Yields a list that then holds the error."""
    caught = []
    try:
        yield caught
    except grpc.RpcError as error:
        caught.append(error)
        assert error.code() == code, f"{error.code()}: {error.details()}"
        if reason:
            found = error_info(error).reason
            assert found == reason, f"reason {found}: {error.details()}"
            assert error.details(), f"{reason} comes without a message"
    else:
        raise AssertionError(f"was not refused with {code} {reason or ''}")


# Running


def spec(command="", *args, **fields):
    return pb.ProcessSpec(command=command, args=args, **fields)


class Ran:
    """What a stream of events told."""

    def __init__(self):
        self.events, self.chunks, self.gaps = [], [], []
        self.queued = self.started = self.exited = None

    def add(self, event):
        kind = event.WhichOneof("event")
        assert kind, "an event without content"
        assert self.exited is None, f"{kind} after exited"
        self.events.append(kind)
        if kind == "output":
            self.chunks.append(event.output)
        elif kind == "gap":
            self.gaps.append(event.gap)
        elif kind != "keep_alive":
            assert getattr(self, kind) is None, f"a second {kind}"
            setattr(self, kind, getattr(event, kind))
        return self

    def data(self, stream):
        return b"".join(chunk.data for chunk in self.chunks if chunk.stream == stream)

    @property
    def stdout(self):
        return self.data(STDOUT)

    @property
    def stderr(self):
        return self.data(STDERR)

    @property
    def lines(self):
        return self.stdout.decode().splitlines()

    @property
    def seqs(self):
        return [chunk.seq for chunk in self.chunks]

    @property
    def process(self):
        return self.exited.process

    @property
    def id(self):
        known = self.queued or self.started or (self.exited and self.exited.process)
        return known.id


def collect(events, into=None):
    """All events to the stream's end."""
    ran = into or Ran()
    for event in events:
        ran.add(event)
    return ran


def until(events, condition, into=None):
    """Events up to the first after which `condition(ran)` holds."""
    ran = into or Ran()
    for event in events:
        if condition(ran.add(event)):
            return ran
    raise AssertionError(f"the stream ended first: {ran.events}")


def has_lines(count):
    return lambda ran: ran.stdout.count(b"\n") >= count


def exec_request(command, *args, stdin=b"", key="", after=0, on_disconnect=0, **fields):
    return pb.ExecRequest(
        process=spec(command, *args, **fields),
        stdin_data=stdin,
        request_key=key,
        after_seq=after,
        on_disconnect=on_disconnect,
    )


def begin(stub, command, *args, timeout=-1, metadata=(), **fields):
    """An Exec that goes on: its stream."""
    request = exec_request(command, *args, **fields)
    return stub.Exec(request, timeout=timeout, metadata=metadata)


def run(stub, command, *args, **fields):
    """An Exec to its end, which has to have one."""
    ran = collect(begin(stub, command, *args, **fields))
    assert ran.exited is not None, f"no exited event: {ran.events}"
    return ran


def start(stub, command, *args, key="", no_stdin=False, **fields):
    request = pb.StartProcessRequest(
        process=spec(command, *args, **fields), request_key=key, no_stdin=no_stdin
    )
    return stub.StartProcess(request).process


def get(stub, id):
    return stub.GetProcess(pb.GetProcessRequest(process_id=id)).process


def wait(stub, id, **fields):
    return stub.Wait(pb.WaitRequest(process_id=id, **fields)).result


def follow(stub, id, **fields):
    return stub.StreamOutput(pb.StreamOutputRequest(process_id=id, **fields))


def write(stub, id, data=b"", **fields):
    request = pb.WriteStdinRequest(process_id=id, data=data, **fields)
    return stub.WriteStdin(request).stdin_bytes


def send_signal(stub, id, signal, scope=0):
    return stub.Signal(pb.SignalRequest(process_id=id, signal=signal, scope=scope)).process


def stop(stub, id, **fields):
    return stub.StopProcess(pb.StopProcessRequest(process_id=id, **fields)).process


def delete(stub, id):
    return stub.DeleteProcess(pb.DeleteProcessRequest(process_id=id))


def listing(stub, **fields):
    return stub.ListProcesses(pb.ListProcessesRequest(**fields))


def info(stub):
    return stub.GetGateway(pb.GetGatewayRequest())
