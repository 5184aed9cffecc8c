"""A log that nobody reads costs log lines, and no call waits for it."""

import contextlib
import fcntl
import json
import os
import pty
import socket
import subprocess
import termios
import threading

import pytest

from contract import Code, Stub, info, refused, run
from gateway import BINARY, eventually, gateway
from metrics import free_port, samples

# A caller chooses this much of a log line: the path, and what is said of it.
LONG_PATH = f"/{'unknown.' * 25}Service/Method"


class Reader:
    """Reads a descriptor to its end once it is told to, on a thread of its own."""

    def __init__(self, descriptor):
        self.descriptor, self.data = descriptor, b""
        self.thread = threading.Thread(target=self.read, daemon=True)

    def read(self):
        with contextlib.suppress(OSError):  # EIO is the end of a terminal
            while data := os.read(self.descriptor, 65536):
                self.data += data

    @property
    def lines(self):
        """Whole lines, each of them JSON."""
        return [json.loads(line) for line in self.data.decode().splitlines()[: self.data.count(b"\n")]]


@contextlib.contextmanager
def unread(kind):
    """Standard error that nobody reads: its descriptor, and what starts a reader."""
    if kind == "pipe":
        ours, theirs = os.pipe()
    elif kind == "socket":
        ours, theirs = (end.detach() for end in socket.socketpair())
    else:
        ours, theirs = pty.openpty()
        mode = termios.tcgetattr(theirs)
        mode[1] &= ~termios.OPOST
        termios.tcsetattr(theirs, termios.TCSANOW, mode)
        termios.tcflow(theirs, termios.TCOOFF)  # what ^S does
    kept = os.dup(theirs)
    reader = Reader(ours)

    def begin():
        if kind == "terminal":
            termios.tcflow(kept, termios.TCOON)
        os.close(kept)
        reader.thread.start()
        return reader

    try:
        yield theirs, begin
    finally:
        with contextlib.suppress(OSError):
            os.close(kept)
        if not reader.thread.is_alive():
            os.close(ours)


def unknown_calls(g, count):
    channel = g.channel()
    call = channel.unary_unary(LONG_PATH, None, None)
    for _ in range(count):
        with refused(Code.UNIMPLEMENTED):
            call(b"", timeout=10)


def dropped(port):
    return samples(port)["procgate_log_lines_dropped_total"]


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_calls_do_not_wait_for_the_log(kind):
    port = free_port()
    options = ("--log-format", "json", "--metrics-listen", f"127.0.0.1:{port}")
    with unread(kind) as (stderr, read), gateway(*options, start=False) as g:
        g.popen = {"stderr": stderr}
        g.start()
        os.close(stderr)
        unknown_calls(g, 600)
        assert run(g.stub, "echo still here").stdout == b"still here\n"
        while dropped(port) < 100:
            unknown_calls(g, 200)
        made = sum(
            value
            for name, value in samples(port).items()
            if name.startswith("procgate_calls_total")
        )
        missing = dropped(port)
        reader = read()
        notice = eventually(
            lambda: [line for line in reader.lines if "dropped" in line], what="a notice"
        )
        assert [line["dropped"] for line in notice] == [missing]
        assert notice[0]["level"] == "warning"
        # Every call has a line, or is counted as dropped; what is written is in order.
        calls = [line for line in reader.lines if line["message"] == "call"]
        assert len(calls) + missing == made
        assert reader.lines[-1] == notice[0]
        info(g.stub)
        eventually(lambda: reader.lines[-1].get("method", "").endswith("/GetGateway"))
        g.close_channels()
        g.stop()
        reader.thread.join(10)
        assert reader.lines[-1]["message"] == "draining"


def test_a_log_that_is_not_read_does_not_hold_up_the_end():
    with unread("pipe") as (stderr, _), gateway("--log-format", "json", start=False) as g:
        g.popen = {"stderr": stderr}
        g.start()
        os.close(stderr)
        unknown_calls(g, 600)
        g.close_channels()
        g.stop()


def test_what_was_logged_is_written_before_the_end():
    with unread("pipe") as (stderr, read), gateway("--log-format", "json", start=False) as g:
        g.popen = {"stderr": stderr}
        g.start()
        os.close(stderr)
        unknown_calls(g, 400)
        reader = read()
        g.close_channels()
        g.stop()
        reader.thread.join(10)
        assert sum(line["message"] == "call" for line in reader.lines) == 400
        assert not any("dropped" in line for line in reader.lines)


def mounted(path):
    path.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)]
    return subprocess.run(words, capture_output=True).returncode == 0


def test_a_full_disk_costs_whole_lines(tmp_path):
    disk = tmp_path / "disk"
    if not mounted(disk):
        pytest.skip("cannot mount a file system here")
    port = free_port()
    options = ("--log-format", "json", "--metrics-listen", f"127.0.0.1:{port}")
    try:
        (disk / "ballast").write_bytes(bytes(128 << 10))
        with gateway(*options, start=False) as g:
            g.popen = {"stderr": (disk / "log").open("ab")}
            g.start()
            while dropped(port) < 10:
                unknown_calls(g, 50)
            (disk / "ballast").unlink()

            def lines():
                text = (disk / "log").read_bytes()
                return [json.loads(line) for line in text.splitlines()[: text.count(b"\n")]]

            notices = lambda: [line["dropped"] for line in lines() if "dropped" in line]
            eventually(lambda: sum(notices()) == dropped(port), what="a notice")
            info(g.stub)
            eventually(lambda: lines()[-1].get("method", "").endswith("/GetGateway"))
            calls = samples(port).items()
            made = sum(value for name, value in calls if name.startswith("procgate_calls_total"))
            written = sum(line["message"] == "call" for line in lines())
            assert written + dropped(port) == made
            g.popen.clear()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_device_that_takes_nothing_costs_the_lines_alone():
    port = free_port()
    with gateway("--metrics-listen", f"127.0.0.1:{port}", start=False) as g:
        g.popen = {"stderr": open("/dev/full", "wb")}
        g.start()
        for _ in range(10):
            info(g.stub)
        eventually(lambda: dropped(port) >= 10, what="lines that are counted")


def full_pipe():
    """Its two ends; a writer waits."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    fcntl.fcntl(writer, fcntl.F_SETFL, 0)
    return reader, writer


def test_standard_output_that_is_not_read_holds_up_nothing():
    port = free_port()
    reader, writer = full_pipe()
    with gateway("--listen", f"127.0.0.1:{port}", start=False) as g:
        g.popen = {"stdout": writer}
        g.launch()
        os.close(writer)
        g.targets = [f"127.0.0.1:{port}"]
        eventually(lambda: info(Stub(g.channel(), g.metadata)).version if up(g) else False)
        g.close_channels()
        g.stop()
    os.close(reader)


def up(g):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", g.port), 1).close()
        return True


def test_a_supervisor_whose_output_is_not_read_supervises():
    reader, writer = full_pipe()
    with gateway(start=False) as g:
        g.state.mkdir(mode=0o700)
        words = [BINARY, "supervise", "--state-directory", str(g.state)]
        with subprocess.Popen(words, env=g.environment, stdout=writer) as ahead:
            os.close(writer)
            try:
                eventually((g.state / "supervisor.sock").exists, what="the supervisor's socket")
                g.start()
                assert g.supervisor == ahead.pid
                assert run(g.stub, "echo here").stdout == b"here\n"
                g.close_channels()
                g.process.terminate()
                assert g.wait() == 0
            finally:
                ahead.kill()
    os.close(reader)


def test_lines_of_others_in_the_same_pipe_stay_whole():
    """Several gateways may share one pipe, as under a process manager."""
    ours, theirs = os.pipe()
    reader = Reader(ours)
    reader.thread.start()
    with gateway("--log-format", "json", start=False) as one:
        with gateway("--log-format", "json", start=False) as other:
            for g in (one, other):
                g.popen = {"stderr": theirs}
                g.start()
            os.close(theirs)
            threads = [threading.Thread(target=unknown_calls, args=(g, 400)) for g in (one, other)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    reader.thread.join(10)
    assert sum(line["message"] == "call" for line in reader.lines) == 800
