"""What calls cost, counted and not timed: instructions and allocations of the gateway (callgrind),
system calls of the gateway, its supervisor and what that starts commands with (strace).

A count is the same on a busy machine. Each is compared with `thresholds.json`, which holds what was
measured and 5% more, for system calls 25%; `--write` writes that file anew. Exits with 1 where a
count is above."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
THRESHOLDS = HERE / "thresholds.json"
MARGIN = 1.05
# How much one read or one turn of a loop finds depends on who runs when.
MARGIN_OF_SYSTEM_CALLS = 1.25
BINARY = Path(os.environ.get("PROCGATE", ROOT / ".build/release/procgate"))
WORK = Path(tempfile.mkdtemp(prefix="procgate-counts-"))
WRAPPER = WORK / "procgate"

sys.path.insert(0, str(ROOT / "Tests/Interop"))
os.environ["PROCGATE"] = str(WRAPPER)

import gateway as harness  # noqa: E402
from contract import exec_request, pb, run  # noqa: E402
from wire import SERVICE, Connection, message  # noqa: E402

EXEC, GET = SERVICE + "Exec", SERVICE + "GetProcess"
STREAM_MIB = 8
# The least of so many is taken: what else a gateway does now and then is not the call's.
ROUNDS = 5


def margin(name):
    return MARGIN_OF_SYSTEM_CALLS if "system calls" in name else MARGIN


def wrap(*tool):
    """The binary that the harness starts: `serve` under the tool, everything else as it is."""
    words = " ".join(map(str, tool))
    WRAPPER.write_text(
        f'#!/bin/sh\n[ "$1" = serve ] || exec {WORK}/binary "$@"\nexec {words} {WORK}/binary "$@"\n'
    )
    WRAPPER.chmod(0o755)


class Calls:
    """One caller, whose requests are the same bytes each time."""

    def __init__(self, g):
        self.connection = Connection(g.address, g.token)
        id = run(g.stub, "true").process.id
        g.close_channels()
        self.known = message(pb.GetProcessRequest(process_id=id).SerializeToString())
        self.true = self.exec("", "/bin/true")
        self.megabytes = self.exec(f"head -c {STREAM_MIB}M /dev/zero")

    @staticmethod
    def exec(command, *args):
        request = exec_request(command, *args)
        if args:
            request.process.command, request.process.args[:] = args[0], args
        return message(request.SerializeToString())

    def call(self, path, body):
        id = self.connection.request(path, body)
        self.connection.responses[id].data = bytearray()
        response = self.connection.response(id, 60)
        assert response.status == 0, response.status
        return response

    def get(self):
        self.call(GET, self.known)

    def run(self):
        self.call(EXEC, self.true)

    def stream(self):
        assert len(self.call(EXEC, self.megabytes).data) > STREAM_MIB << 20


def least(measure, call, times, unit=1):
    """Of several rounds, for one of `times` calls with `unit` units each."""
    found = []
    for _ in range(ROUNDS):
        with measure:
            for _ in range(times):
                call()
        found.append([count / times / unit for count in measure.counts])
    return [min(column) for column in zip(*found)]


class Callgrind:
    """Instructions and allocations within the block."""

    ALLOCATIONS = {"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"}

    def __init__(self, pid):
        self.pid, self.part = pid, 0

    def control(self, word):
        subprocess.run(
            ["callgrind_control", word, str(self.pid)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self):
        self.control("-z")

    def __exit__(self, *_):
        self.control("-d")
        self.part += 1
        text = (WORK / f"callgrind.{self.pid}.{self.part}").read_text()
        instructions = int(re.search(r"^totals: (\d+)", text, re.M)[1])
        self.counts = [instructions, self.allocations(text)]

    def allocations(self, text):
        names, called, count = {}, None, 0
        for line in text.splitlines():
            if found := re.match(r"c?fn=\((\d+)\)(?: (.*))?", line):
                if found[2]:
                    names[found[1]] = found[2]
                called = names[found[1]] if line[0] == "c" else None
            elif line.startswith("calls=") and called:
                count += int(line[6:].split()[0]) * (called in self.ALLOCATIONS)
                called = None
        return count


class Strace:
    """System calls within the block, of each group of processes."""

    def __init__(self, groups):
        self.groups = groups

    def __enter__(self):
        self.tracers = []
        for number, pids in enumerate(self.groups):
            tasks = [task for pid in pids for task in os.listdir(f"/proc/{pid}/task")]
            words = [word for task in tasks for word in ("-p", task)]
            tracer = subprocess.Popen(
                ["strace", "-c", "-o", WORK / f"strace.{number}", *words],
                stderr=subprocess.DEVNULL,
            )
            self.tracers.append(tracer)
            traced = lambda task: f"TracerPid:\t{tracer.pid}" in Path(f"/proc/{task}/status").read_text()
            harness.eventually(lambda: all(map(traced, tasks)), what="strace")

    def __exit__(self, *_):
        self.counts = []
        for number, tracer in enumerate(self.tracers):
            tracer.send_signal(signal.SIGINT)
            tracer.wait(10)
            text = (WORK / f"strace.{number}").read_text()
            # % time, seconds, usecs/call, calls, errors if any, "total"
            self.counts.append(int(text.splitlines()[-1].split()[3]))


def count_instructions(counts):
    wrap(
        "valgrind", "-q", "--tool=callgrind", "--trace-children=no",
        f"--callgrind-out-file={WORK}/callgrind.%p", f"--log-file={WORK}/valgrind.%p",
    )  # fmt: skip
    with harness.gateway() as g:
        calls, callgrind = Calls(g), Callgrind(g.pid)
        for call, name, times, unit in (
            (calls.get, "GetProcess", 50, 1),
            (calls.run, "Exec of true", 30, 1),
            (calls.stream, "a MiB of output", 1, STREAM_MIB),
        ):
            call()
            found = least(callgrind, call, times, unit)
            counts[f"gateway: instructions of {name}"] = found[0]
            counts[f"gateway: allocations of {name}"] = found[1]


def count_system_calls(counts):
    wrap()
    with harness.gateway() as g:
        calls = Calls(g)
        for _ in range(20):
            calls.run()
        helpers = harness.children(g.supervisor)
        strace = Strace([[g.pid], [g.supervisor], helpers])
        found = least(strace, calls.run, 50)
        for name, count in zip(("gateway", "supervisor", "supervisor's helpers"), found):
            counts[f"{name}: system calls of Exec of true"] = count


def main():
    # Valgrind cannot read what the debug information of Swift says.
    shutil.copy(BINARY, WORK / "binary")
    subprocess.run(["strip", "-g", WORK / "binary"], check=True)
    harness.adopt_orphans()
    counts = {}
    try:
        count_instructions(counts)
        count_system_calls(counts)
    finally:
        shutil.rmtree(WORK)
    if "--write" in sys.argv[1:]:
        limits = {name: round(count * margin(name), 1) for name, count in counts.items()}
        THRESHOLDS.write_text(json.dumps(limits, indent=4) + "\n")
    limits = json.loads(THRESHOLDS.read_text())
    assert limits.keys() == counts.keys(), "the counts are others: count again with --write"
    above = 0
    for name, count in counts.items():
        is_above = count > limits[name]
        above += is_above
        print(f"{'ABOVE ' if is_above else '      '}{name}: {count:,.1f} (at most {limits[name]:,.1f})")
    print(f"{len(counts) - above} passed, {above} failed")
    return above > 0


if __name__ == "__main__":
    sys.exit(main())
