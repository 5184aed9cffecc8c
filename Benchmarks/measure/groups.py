"""The groups of figures: each function takes its floors and then the gateway's figures, with a
fresh gateway, and returns {figure's name: value}. Loads are warmed up and verified."""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from .gateway import Gateway, Target
from .machine import Window, resident_kib
from .tools import LoadFailed, Tools, h2load, nghttpd

MIB, GIB, GB = 1 << 20, 1 << 30, 1e9
BURST = ("-c", "8", "-m", "32")
WIDE = ("-c", "1", "-m", "1", "-w", "30", "-W", "30")
GRPC_HEADERS = ("-H", "content-type: application/grpc", "-H", "te: trailers")
SERVICE = "/procgate.v1.ProcessService"


@dataclass
class Bench:
    """What a group is given. Loads are `smaller` times smaller. `windows` collects the windows of
    one measurement, so that other load on the machine is seen."""

    binary: Path
    tools: Tools
    directory: Path
    certificate: tuple[Path, Path]
    smaller: int = 1
    python: str | None = None
    swift_client: Path | None = None
    windows: list = field(default_factory=list)

    def gateway(self, tls=False):
        certificate = self.certificate if tls else None
        return Gateway(self.binary, self.tools, self.windows, certificate)

    def window(self, pids):
        self.windows.append(Window(pids))
        return self.windows[-1]

    def floor(self, *arguments, stdin=None):
        report, window = self.tools.run_floor(*arguments, stdin=stdin)
        self.windows.append(window)
        return report


def framed_id(process_id):
    """A GetProcessRequest with gRPC's prefix, for h2load."""
    message = b"\n" + bytes([len(process_id)]) + process_id.encode()
    return b"\0" + len(message).to_bytes(4, "big") + message


def get_process_cpu(bench, gateway):
    """(GetProcess calls per second, CPU us for each) under h2load."""
    process_id = gateway.start("true")
    gateway.wait(process_id)
    length = int(bench.tools.say_load(gateway.target, "get", process_id))
    body = bench.directory / "get-process"
    body.write_bytes(framed_id(process_id))
    url = f"{gateway.target.url}{SERVICE}/GetProcess"
    options = (*BURST, "-d", body, *GRPC_HEADERS)
    h2load(url, 5000, *options)
    calls = 200_000 // bench.smaller
    with gateway.window() as window:
        report = h2load(url, calls, *options)
    if report["bytes"] != calls * length:
        raise LoadFailed(f"GetProcess: {report['bytes']} bytes, not {calls} times {length}")
    return report["rate"], window.cpu_s / calls * 1e6


def unary(bench):
    calls = 200_000 // bench.smaller
    with nghttpd(bench.directory / "files") as (url, pid):
        h2load(f"{url}/small", 5000, *BURST)
        with bench.window([pid]) as window:
            floor = h2load(f"{url}/small", calls, *BURST)
    with bench.gateway() as gateway:
        rate, cpu_us = get_process_cpu(bench, gateway)
    return {
        "nghttpd rate": floor["rate"], "nghttpd CPU": window.cpu_s / calls * 1e6,
        "GetProcess rate": rate, "GetProcess CPU": cpu_us,
    }


def execs(bench):
    count = 2000 // bench.smaller
    true = bench.floor("spawn", count, "/bin/true")
    shell = bench.floor("spawn", count, "/bin/sh", "-c", "true")
    with bench.gateway() as gateway:
        gateway.load("exec", "--calls=200", "--at-once=4", "--connections=2", "true")
        one = gateway.load("exec", f"--calls={1000 // bench.smaller}", "true")
        calls = 3000 // bench.smaller
        with gateway.window() as window:
            many = gateway.load(
                "exec", f"--calls={calls}", "--at-once=16", "--connections=4", "true")
    return {
        "vfork true": count / true["seconds"], "vfork sh": count / shell["seconds"],
        "vfork sh p50": shell["p50_ms"], "vfork sh p99": shell["p99_ms"],
        "vfork sh CPU": shell["cpu_s"] / count * 1e3,
        "Exec p50": one["p50_ms"], "Exec p99": one["p99_ms"],
        "Exec rate": calls / many["seconds"], "Exec p99 of 16": many["p99_ms"],
        "Exec CPU": window.cpu_s / calls * 1e3,
        "Exec CPU in all": (window.cpu_s + window.children_cpu_s) / calls * 1e3,
    }


def exec_zeros(gateway, each, streams=1, *options):
    """Execs of head at once, every byte verified: (MB/s, CPU s/GB)."""
    with gateway.window() as window:
        report = gateway.load(
            "exec", f"--calls={streams}", f"--at-once={streams}", f"--expect=zero:{each}",
            *options, f"head -c {each} /dev/zero")
    total = each * streams
    return total / report["seconds"] / 1e6, window.cpu_s / (total / GB)


def file_floor(bench, certificate=None):
    """nghttpd's file of 2 GiB under h2load: (MB/s, CPU s/GB)."""
    with nghttpd(bench.directory / "files", certificate) as (url, pid):
        h2load(f"{url}/small", 100, *WIDE)
        with bench.window([pid]) as window:
            report = h2load(f"{url}/large", 1, *WIDE)
    return report["bytes"] / report["seconds"] / 1e6, window.cpu_s / (report["bytes"] / GB)


def stream(bench):
    size = 2 * GIB // bench.smaller
    head = ("head", "-c", size, "/dev/zero")
    relay = bench.floor("relay", "read", 1, 1, *head)
    splice = bench.floor("relay", "splice", 1, 1, *head)
    file_rate, file_cpu = file_floor(bench)
    with bench.gateway() as gateway:
        exec_zeros(gateway, 64 * MIB)
        one, one_cpu = exec_zeros(gateway, size)
        eight, eight_cpu = exec_zeros(gateway, size // 8, 8)
        small, _ = exec_zeros(gateway, size // 4, 1, "--window=65535")
    return {
        "relay": size / relay["seconds"] / 1e6, "relay CPU": relay["cpu_s"] / (size / GB),
        "splice": size / splice["seconds"] / 1e6, "splice CPU": splice["cpu_s"] / (size / GB),
        "nghttpd file": file_rate, "nghttpd file CPU": file_cpu,
        "stream": one, "stream CPU": one_cpu, "8 streams": eight, "8 streams CPU": eight_cpu,
        "small windows": small,
    }


def lines(bench):
    count, times = 200_000 // bench.smaller, 3
    command = f"{bench.tools.workload} lines {count}"
    relay = bench.floor("relay", "read", 1, 1, *command.split())
    with bench.gateway() as gateway:
        gateway.load("exec", f"--expect=lines:{count}", command)
        with gateway.window() as window:
            report = gateway.load(
                "exec", f"--calls={times}", f"--expect=lines:{count}", command)
    printed = count * times
    return {
        "relay lines": count / relay["seconds"] / 1e3,
        "relay lines CPU": relay["cpu_s"] / count * 1e6,
        "lines": printed / report["seconds"] / 1e3,
        "lines CPU": window.cpu_s / printed * 1e6,
    }


def followers(bench):
    size, rate, count = 32 * MIB // bench.smaller, 8 * MIB, 50
    command = f"{bench.tools.workload} pattern {size} {rate}"
    fan = bench.floor("relay", "read", count, 1, *command.split(), stdin="go\n")
    with bench.gateway() as gateway:
        process_id = gateway.start(command)
        follow = bench.tools.load_command(
            gateway.target, "follow", f"--calls={count}", "--connections=5",
            f"--expect=pattern:{size}", process_id)
        with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as load:
            said = load.stdout.readline()
            with gateway.window() as window:
                bench.tools.say_load(gateway.target, "write", process_id, "go\n")
                report, _ = load.communicate()
        if said != "ready\n" or load.returncode:
            raise LoadFailed(f"followers: {said}{report}")
    return {
        "fan-out CPU": fan["cpu_s"] / (fan["bytes"] / GB),
        "followers CPU": window.cpu_s / (size * count / GB),
        "followers lag p99": json.loads(report)["lag_p99_ms"],
    }


def stdin(bench):
    size = 256 * MIB // bench.smaller
    pour = bench.floor("pour", size, 1, "wc", "-c")
    with bench.gateway() as gateway:
        upload(gateway, f"{bench.tools.workload} check {16 * MIB}", 16 * MIB, "ok")
        with gateway.window() as window:
            report = upload(gateway, "wc -c", size, str(size))
    return {
        "pour": size / pour["seconds"] / 1e6, "pour CPU": pour["cpu_s"] / (size / GB),
        "StreamStdin": size / report["seconds"] / 1e6,
        "StreamStdin CPU": window.cpu_s / (size / GB),
    }


def upload(gateway, command, size, said):
    """StreamStdin into a command that has to print `said` then."""
    process_id = gateway.start(command)
    report = gateway.load("upload", process_id, size)
    printed = gateway.wait(process_id).strip()
    if printed != said:
        raise LoadFailed(f"{command}: {printed!r} instead of {said!r}")
    return report


def memory(bench):
    count = 1000 // bench.smaller
    with nghttpd(bench.directory / "files") as (url, pid):
        before = resident_kib(pid)
        held = hold(bench, Target(url), lambda: resident_kib(pid),
                    "hold-connections", f"--connections={count}")
    figures = {"nghttpd connection": (held - before) / count}
    with bench.gateway() as gateway:
        idle = gateway.resident_kib()
        process_id = gateway.start("echo; exec sleep 1000")
        before = sum(gateway.resident_kib())
        held = hold(bench, gateway.target, lambda: sum(gateway.resident_kib()),
                    "hold-calls", f"--calls={count}", "--connections=10", process_id)
    figures["idle StreamOutput"] = (held - before) / count
    figures["idle gateway"], figures["idle supervisor"] = (kib / 1024 for kib in idle)
    figures["idle both"] = sum(idle) / 1024
    with bench.gateway() as gateway:
        before = sum(gateway.resident_kib())
        held = hold(bench, gateway.target, lambda: sum(gateway.resident_kib()),
                    "hold-connections", f"--connections={count}")
    figures["idle connection"] = (held - before) / count
    return figures


def hold(bench, target, read, *mode):
    """What `read` returns while the load client holds calls or connections open."""
    command = bench.tools.load_command(target, *mode)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as load:
        said = load.stdout.readline()
        value = read() if said == "ready\n" else None
        rest, _ = load.communicate("")
    if value is None or load.returncode:
        raise LoadFailed(f"{mode[0]}: {said}{rest}")
    return value


def tls(bench):
    file_rate, file_cpu = file_floor(bench, bench.certificate)
    with bench.gateway(tls=True) as gateway:
        exec_zeros(gateway, 64 * MIB)
        rate, cpu = exec_zeros(gateway, 2 * GIB // bench.smaller)
        _, unary_us = get_process_cpu(bench, gateway)
    return {
        "nghttpd TLS file": file_rate, "nghttpd TLS file CPU": file_cpu,
        "TLS stream": rate, "TLS stream CPU": cpu, "TLS GetProcess CPU": unary_us,
    }
