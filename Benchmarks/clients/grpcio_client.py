"""A gRPC client in Python for the `client` figures: what the same calls cost with grpcio.

    grpcio_client.py exec http://HOST:PORT CALLS AT_ONCE
    grpcio_client.py stream http://HOST:PORT BYTES

Needs grpcio, and process_pb2 on PYTHONPATH. Prints one line of JSON, with its own CPU time without
the interpreter's start and a first call; exit status 1 where an answer is wrong."""

import asyncio
import json
import resource
import sys
import time

import grpc
import process_pb2 as messages
import process_pb2_grpc as service


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def run(stub, command):
    """Bytes of stdout, after a process that ended well."""
    count, seq, ended = 0, 0, None
    request = messages.ExecRequest(process=messages.ProcessSpec(command=command))
    async for event in stub.Exec(request):
        kind = event.WhichOneof("event")
        if kind == "output":
            seq += 1
            assert event.output.seq == seq, f"chunk {event.output.seq} instead of {seq}"
            count += len(event.output.data)
        elif kind == "exited":
            ended = event.exited.process
    assert ended.status == messages.PROCESS_STATUS_EXITED and ended.exit_code == 0, str(ended)
    return count


async def run_many(stub, calls, at_once):
    left = iter(range(calls))

    async def work():
        for _ in left:
            await run(stub, "true")

    await asyncio.gather(*(work() for _ in range(at_once)))
    return {"calls": calls}


async def run_stream(stub, size):
    received = await run(stub, f"head -c {size} /dev/zero")
    assert received == size, f"{received} bytes instead of {size}"
    return {"bytes": received}


async def main(mode, url, *numbers):
    async with grpc.aio.insecure_channel(url.removeprefix("http://")) as channel:
        stub = service.ProcessServiceStub(channel)
        await run(stub, "true")
        begin, cpu_begin = time.monotonic(), cpu_s()
        report = await {"exec": run_many, "stream": run_stream}[mode](stub, *map(int, numbers))
        report["seconds"] = time.monotonic() - begin
        report["cpu_s"] = cpu_s() - cpu_begin
        report["peak_kib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps(report))


asyncio.run(main(*sys.argv[1:]))
