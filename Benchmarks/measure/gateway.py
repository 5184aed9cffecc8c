"""One gateway under measurement: the release binary on the server's core, with a supervisor and a
state directory of its own. The processes of both count. Knows the command line of `procgate serve`."""

import os
import select
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import machine
from .machine import SERVER_CORE, Window, pinned
from .output import Output
from .tools import LoadFailed


@dataclass(frozen=True)
class Target:
    """Where the load goes."""

    url: str
    certificate: Path | None = None

    @property
    def load_options(self):
        ca = [f"--ca={self.certificate}"] if self.certificate else []
        return [f"--target={self.url}", *ca]


class Gateway:
    """`with Gateway(…) as gateway:`. Its measurements are added to `windows`; a certificate (with
    its key) makes it TLS."""

    START_S, STOP_S = 20, 15

    def __init__(self, binary, tools, windows, certificate=None):
        self.binary, self.tools, self.certificate = binary, tools, certificate
        self.windows = windows

    def __enter__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="procgate-bench-"))
        state = self.directory / "state"
        tls = []
        if self.certificate:
            tls = ["--tls-certificate", self.certificate[0], "--tls-key", self.certificate[1]]
        self.process = subprocess.Popen(
            pinned(SERVER_CORE, self.binary, "serve", "--listen", "127.0.0.1:0", "--no-token",
                   "--state-directory", state, "--max-running", "2000", "--log-level", "warning",
                   *tls),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=self.directory,
        )
        self.pids = [self.process.pid]
        try:
            self._find(str(state))
        except BaseException:
            self.__exit__()
            raise
        return self

    def _find(self, state):
        """Waits for the address, makes a first call, and finds the supervisor's processes."""
        self.output = Output(self.process.stdout)
        address = self.output.wait_for(r"listening on (?:https?://)?(\S+:\d+)", self.START_S)
        if not address:
            raise LoadFailed(f"the gateway does not listen: {self.output.tail()}")
        scheme = "https" if self.certificate else "http"
        self.target = Target(
            f"{scheme}://{address[1]}", self.certificate[0] if self.certificate else None)
        self.wait(self.start("true"))
        self.pids = machine.processes_running(os.path.realpath(self.binary), state)
        if self.process.pid not in self.pids or len(self.pids) < 2:
            raise LoadFailed(f"a gateway and a supervisor were expected, not {self.pids}")
        self.pids.sort(key=lambda pid: pid != self.process.pid)

    def __exit__(self, *_):
        for pid in self.pids:
            self._end(pid)
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, pid):
        """The first is the gateway, which on SIGTERM ends its supervisor too."""
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(handle, number)
                if select.select([handle], [], [], self.STOP_S)[0]:
                    return
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)

    def window(self):
        """A measurement of the gateway's and the supervisor's processes."""
        self.windows.append(Window(self.pids))
        return self.windows[-1]

    def load(self, mode, *arguments):
        return self.tools.run_load(self.target, mode, *arguments)

    def start(self, command):
        """Starts a process with a pipe for stdin; returns its id."""
        return self.tools.say_load(self.target, "start", command).strip()

    def wait(self, process_id):
        """What the process printed, once it has ended."""
        return self.tools.say_load(self.target, "wait", process_id)

    def resident_kib(self):
        """Of the gateway and of the supervisor, once neither is busy."""
        machine.wait_until_quiet(self.pids)
        gateway, *supervisor = map(machine.resident_kib, self.pids)
        return [gateway, sum(supervisor)]
