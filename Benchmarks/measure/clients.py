"""The figures of clients: what an Exec costs its caller, and how fast 2 GiB come in. h2load knows
no gRPC and so is the floor. A client is a program that is run so:

    PROGRAM exec http://HOST:PORT CALLS AT_ONCE   →  {"calls", "seconds", "cpu_s", "peak_kib"}
    PROGRAM stream http://HOST:PORT BYTES         →  {"bytes", "seconds", "cpu_s", "peak_kib"}

It runs `true` CALLS times over one connection, or one `head -c BYTES /dev/zero`, verifies what
comes back, and prints that line of JSON; the numbers are without its start and a first call. grpcio's is
in clients/, procgate's own is the release product `client-benchmark`. One that is not there is
left out."""

import json
import os
import resource
from pathlib import Path

from .groups import GIB, GRPC_HEADERS, SERVICE, WIDE
from .machine import LOAD_CORE, pinned
from .tools import LoadFailed, check_output, h2load

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = ROOT.parent / "proto" / "procgate" / "v1"
AT_ONCE = 16


def framed_command(command):
    """An ExecRequest with gRPC's prefix, for h2load; the command has less than 120 bytes."""
    spec = b"\n" + bytes([len(command)]) + command.encode()
    message = b"\n" + bytes([len(spec)]) + spec
    return b"\0" + len(message).to_bytes(4, "big") + message


def children_cpu_s():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def h2load_figures(bench, gateway, calls, size):
    url, body = f"{gateway.target.url}{SERVICE}/Exec", bench.directory / "exec"
    body.write_bytes(framed_command("true"))
    before = children_cpu_s()
    with gateway.window():
        h2load(url, calls, "-c", "1", "-m", AT_ONCE, "-d", body, *GRPC_HEADERS)
    cpu_s = children_cpu_s() - before
    body.write_bytes(framed_command(f"head -c {size} /dev/zero"))
    with gateway.window():
        report = h2load(url, 1, *WIDE, "-d", body, *GRPC_HEADERS)
    if report["bytes"] < size:
        raise LoadFailed(f"h2load: {report['bytes']} bytes of {size}")
    return {"h2load exec CPU": cpu_s / calls * 1e3,
            "h2load stream": report["bytes"] / report["seconds"] / 1e6}


def client_reports(bench, gateway, program, calls, size, **environment):
    """What a client says of its calls, and of its stream."""
    reports = []
    for work in (("exec", gateway.target.url, calls, AT_ONCE),
                 ("stream", gateway.target.url, size)):
        with gateway.window():
            said = check_output(pinned(LOAD_CORE, *program, *work),
                                env={**os.environ, **environment})
        reports.append(json.loads(said.splitlines()[-1]))
    return reports


def python_stubs(bench):
    """Where process_pb2 is, made by grpcio-tools; None where the interpreter has no grpcio."""
    if not bench.python:
        return None
    stubs = bench.tools.directory / "python"
    stubs.mkdir(exist_ok=True)
    try:
        check_output([bench.python, "-c", "import grpc, grpc_tools"])
        check_output([bench.python, "-m", "grpc_tools.protoc", f"-I{CONTRACT}",
                      f"--python_out={stubs}", f"--grpc_python_out={stubs}", "process.proto"])
    except LoadFailed:
        return None
    return stubs


def clients(bench):
    calls, size = 3000 // bench.smaller, 2 * GIB // bench.smaller
    stubs = python_stubs(bench)
    with bench.gateway() as gateway:
        figures = h2load_figures(bench, gateway, calls, size)
        if stubs:
            program = (bench.python, ROOT / "clients" / "grpcio_client.py")
            exec_, stream = client_reports(
                bench, gateway, program, calls, size, PYTHONPATH=str(stubs))
            figures["grpcio exec CPU"] = exec_["cpu_s"] / calls * 1e3
            figures["grpcio stream"] = stream["bytes"] / stream["seconds"] / 1e6
        if bench.swift_client:
            exec_, stream = client_reports(bench, gateway, (bench.swift_client,), calls, size)
            figures["Swift exec CPU"] = exec_["cpu_s"] / calls * 1e3
            figures["Swift stream"] = stream["bytes"] / stream["seconds"] / 1e6
            figures["Swift memory"] = stream["peak_kib"] / 1024
    return figures
