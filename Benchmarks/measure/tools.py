"""The programs that load and the floors: the project's own, built here by gcc, and Debian's h2load
and nghttpd. Each answer is checked; a load that failed raises LoadFailed."""

import json
import re
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from .machine import LOAD_CORE, SERVER_CORE, Window, pinned

SOURCES = Path(__file__).resolve().parent.parent / "tools"
PROGRAMS = {
    "load": ["load.c", "connection.c", "call.c", "events.c"],
    "floors": ["floors.c"],
    "workload": ["workload.c"],
}
PACKAGES = "gcc pkg-config libnghttp2-dev libssl-dev nghttp2-client nghttp2-server openssl"


class LoadFailed(Exception):
    """A load client, a floor or the gateway did not do what it had to."""


def check_output(command, timeout_s=150, **options):
    """The stdout of a command that has to succeed."""
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=timeout_s,
            check=False, **options,
        )
    except subprocess.TimeoutExpired as late:
        raise LoadFailed(f"{' '.join(map(str, command))}: not done after {timeout_s} s") from late
    if done.returncode != 0:
        said = (done.stdout[-600:] + done.stderr[-600:]).strip()
        raise LoadFailed(f"{' '.join(map(str, command))}: status {done.returncode}: {said}")
    return done.stdout


class Tools:
    """`directory` holds what is built."""

    def __init__(self, directory):
        self.directory = directory
        self.load, self.floors, self.workload = (directory / name for name in PROGRAMS)

    def build(self):
        for program in ("gcc", "pkg-config", "h2load", "nghttpd", "taskset", "openssl"):
            if not shutil.which(program):
                raise SystemExit(f"{program} is missing: apt-get install {PACKAGES} util-linux")
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            flags = check_output(["pkg-config", "--cflags", "--libs", "libnghttp2", "openssl"])
            for name, sources in PROGRAMS.items():
                check_output(
                    ["gcc", "-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-o",
                     self.directory / name, *sources, *flags.split()], cwd=SOURCES,
                )
        except LoadFailed as failed:
            raise SystemExit(f"{failed}\nNeeded: apt-get install {PACKAGES}") from failed

    def run_load(self, target, mode, *arguments):
        """One run of the load client: its JSON report."""
        return json.loads(self.say_load(target, mode, *arguments).splitlines()[-1])

    def say_load(self, target, mode, *arguments):
        """The same for modes that print an id, a length or a process's output."""
        return check_output(self.load_command(target, mode, *arguments))

    def load_command(self, target, mode, *arguments):
        options, rest = [], []
        for argument in arguments:
            (options if str(argument).startswith("--") else rest).append(str(argument))
        return pinned(
            LOAD_CORE, self.load, mode, *target.load_options, "--timeout=60", *options, "--", *rest)

    def run_floor(self, *arguments, stdin=None):
        """One floor on the server's core: (its JSON report, the window it was taken in)."""
        with Window([]) as window:
            said = check_output(pinned(SERVER_CORE, self.floors, *arguments), input=stdin)
        return json.loads(said.splitlines()[-1]), window


def h2load(url, calls, *options):
    """One run: the rate in calls/s, the seconds, and the bytes of the bodies."""
    said = check_output(pinned(LOAD_CORE, "h2load", "-t", "1", "-n", calls, *options, url))
    finished = re.search(r"finished in ([\d.]+)(us|ms|s|m), ([\d.]+) req/s", said)
    succeeded = re.search(r"(\d+) succeeded", said)
    data = re.search(r"\((\d+)\) data", said)
    if not finished or not succeeded or int(succeeded[1]) != calls:
        raise LoadFailed(f"h2load: {said[-600:]}")
    unit_s = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60}[finished[2]]
    return {"rate": float(finished[3]), "seconds": float(finished[1]) * unit_s,
            "bytes": int(data[1])}


def make_certificate(directory):
    """A self-signed certificate for loopback: (certificate, key)."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    check_output(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate],
    )
    return certificate, key


def _wait_until_accepting(port, limit_s=10):
    """nghttpd says nothing when it is ready, so this asks until it answers."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError as refused:
            if time.monotonic() > deadline:
                raise LoadFailed("nghttpd does not listen") from refused
            time.sleep(0.01)


@contextmanager
def nghttpd(directory, certificate=None):
    """nghttpd serving `directory` on the server's core: (its address as a URL, its pid)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tls = [] if certificate else ["--no-tls"]
    pair = [certificate[1], certificate[0]] if certificate else []
    command = pinned(
        SERVER_CORE, "nghttpd", *tls, "-a", "127.0.0.1", "-n", "1", "-d", directory, port, *pair)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_until_accepting(port)
            scheme = "https" if certificate else "http"
            yield f"{scheme}://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()
