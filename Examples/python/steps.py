"""The seven steps of the client's page, against the gateway at PROCGATE_ADDRESS, by grpcio."""

import importlib
import os
import queue
import secrets
import sys
import tempfile
from pathlib import Path

import grpc
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "proto"

made = tempfile.mkdtemp()
protoc.main(
    ["protoc", f"-I{PROTO}", f"--python_out={made}", f"--grpc_python_out={made}",
     "procgate/v1/process.proto"]
)  # fmt: skip
sys.path.insert(0, made)
pb = importlib.import_module("procgate.v1.process_pb2")
rpc = importlib.import_module("procgate.v1.process_pb2_grpc")

address = os.environ.get("PROCGATE_ADDRESS", "127.0.0.1:7070").removeprefix("http://")
token = os.environ.get("PROCGATE_TOKEN")
metadata = [("authorization", f"Bearer {token}")] if token else []


def connect():
    channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
    return channel, rpc.ProcessServiceStub(channel)


def run(stub, spec, **more):
    """Exec, collected: stdout, stderr and the result."""
    output = {pb.OUTPUT_STREAM_STDOUT: b"", pb.OUTPUT_STREAM_STDERR: b""}
    for event in stub.Exec(pb.ExecRequest(process=spec, **more), metadata=metadata):
        if event.WhichOneof("event") == "output":
            output[event.output.stream] += event.output.data
        elif event.WhichOneof("event") == "exited":
            return *output.values(), event.exited.process
    raise RuntimeError("no exit")


channel, stub = connect()

print("1 exec")
out, err, ended = run(stub, pb.ProcessSpec(command="echo out; echo err >&2; exit 3"))
assert (out, err, ended.exit_code) == (b"out\n", b"err\n", 3)

print("2 options")
spec = pb.ProcessSpec(command="pwd && echo $FOO", cwd="/tmp", env={"FOO": "bar"}, timeout_ms=5000)
assert run(stub, spec)[0] == b"/tmp\nbar\n"
late = run(stub, pb.ProcessSpec(command="sleep 60", timeout_ms=200))[2]
assert late.status == pb.PROCESS_STATUS_TIMED_OUT

print("3 start and stdin")
spec = pb.ProcessSpec(command="read line; echo got:$line", labels={"example": "python"})
# The key makes a repeat of a lost call find the first one's process.
key = secrets.token_hex(16)
started = stub.StartProcess(
    pb.StartProcessRequest(process=spec, request_key=key), metadata=metadata
).process
# The offset makes a repeat of a lost write skip what was taken.
stub.WriteStdin(
    pb.WriteStdinRequest(process_id=started.id, data=b"hello\n", eof=True, offset=0),
    metadata=metadata,
)
result = stub.Wait(pb.WaitRequest(process_id=started.id), metadata=metadata).result
assert result.stdout_data == b"got:hello\n"

print("4 get, list, signal")
spec = pb.ProcessSpec(command="sleep 60", labels={"example": "python"})
sleeper = stub.StartProcess(pb.StartProcessRequest(process=spec), metadata=metadata).process
stub.GetProcess(pb.GetProcessRequest(process_id=sleeper.id), metadata=metadata)
listing = stub.ListProcesses(
    pb.ListProcessesRequest(
        status=[pb.PROCESS_STATUS_RUNNING], limit=20, labels={"example": "python"}
    ),
    metadata=metadata,
)
assert sleeper.id in [process.id for process in listing.processes]
stub.Signal(pb.SignalRequest(process_id=sleeper.id, signal="TERM"), metadata=metadata)
gone = stub.Wait(pb.WaitRequest(process_id=sleeper.id), metadata=metadata).result.process
assert (gone.status, gone.signal_name) == (pb.PROCESS_STATUS_KILLED, "SIGTERM")

print("5 stream")
spec = pb.ProcessSpec(command="echo one; sleep 0.1; echo two >&2")
follower = stub.StartProcess(pb.StartProcessRequest(process=spec), metadata=metadata).process
for event in stub.StreamOutput(pb.StreamOutputRequest(process_id=follower.id), metadata=metadata):
    if event.WhichOneof("event") == "output":
        print("  chunk", event.output.seq, event.output.data)
    elif event.WhichOneof("event") == "exited":
        print("  exited with", event.exited.process.exit_code)

print("6 attach")
requests = queue.Queue()
size = pb.TerminalSize(columns=80, rows=24)
spec = pb.ProcessSpec(command="cat", terminal=size)
requests.put(pb.AttachRequest(start=pb.StartProcessRequest(process=spec)))
requests.put(pb.AttachRequest(stdin_data=b"typed\n"))
screen = b""
for event in stub.Attach(iter(requests.get, None), metadata=metadata):
    if event.WhichOneof("event") == "output":
        screen += event.output.data
        if screen == b"typed\r\ntyped\r\n":
            requests.put(pb.AttachRequest(stdin_data=b"\x04"))
    elif event.WhichOneof("event") == "exited":
        requests.put(None)
assert screen.startswith(b"typed\r\ntyped\r\n")

print("7 go on where one was")
spec = pb.ProcessSpec(command="for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done")
# A connection that is lost leaves a keyed command its caller's time to come back; one that is
# closed on purpose, as here, kills it unless it says KEEP.
request = pb.ExecRequest(
    process=spec,
    request_key=secrets.token_hex(16),
    on_disconnect=pb.DISCONNECT_POLICY_KEEP,
)
for event in stub.Exec(request, metadata=metadata):
    if event.WhichOneof("event") == "output":
        request.after_seq = event.output.seq
        if request.after_seq == 3:
            break
# The same key finds the command, and the number says where to go on. Nothing is run again.
channel.close()
channel, stub = connect()
rest = b""
for event in stub.Exec(request, metadata=metadata):
    if event.WhichOneof("event") == "output":
        rest += event.output.data
assert rest == b"4\n5\n6\n", rest
channel.close()
print("done")
