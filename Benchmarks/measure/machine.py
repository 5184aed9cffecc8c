"""What the kernel says of processes and of this machine: CPU time, resident memory, other load.
Knows nothing of the gateway."""

import os
import platform
import re
import resource
import time
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Two cores: what is measured, with all that it runs, on one; what loads it on the other.
SERVER_CORE, LOAD_CORE = "0", "1"


def pinned(core, *command):
    """The command line that runs `command` on one core."""
    return ["taskset", "-c", core, *map(str, command)]


def _stat(pid):
    """The fields of /proc/PID/stat from the state on, which is the third."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def cpu_s(pid):
    """The CPU time of a living process, all threads, exact to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)


def reaped_cpu_s(pid):
    """The CPU time of the children that a process has waited for, in steps of 10 ms."""
    fields = _stat(pid)
    return (int(fields[13]) + int(fields[14])) / TICKS_PER_S


def resident_kib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.M)[1])


def processes_running(binary, argument):
    """The pids of those that run `binary` and name `argument` on their command line, and of their
    children that run it too."""
    named, parents = set(), {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.path.realpath(entry / "exe") == str(binary):
                pid = int(entry.name)
                parents[pid] = int(_stat(pid)[1])
                if argument.encode() in (entry / "cmdline").read_bytes():
                    named.add(pid)
        except OSError:
            pass  # it ended meanwhile
    return sorted(named | {pid for pid, parent in parents.items() if parent in named})


def _busy_s():
    """Of both cores since the boot; time stolen by the host counts as busy."""
    with open("/proc/stat", encoding="ascii") as stat:
        fields = [int(f) for f in stat.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS_PER_S


def _own_s():
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


class Window:
    """A measurement: `with Window([pid, ...]) as w:`; then `w.elapsed_s`, `w.cpu_s` (of these
    processes), `w.children_cpu_s` (what they ran and reaped) and `w.foreign_s` (CPU time of
    anything else on the machine; a load client has to be waited for inside of the window)."""

    def __init__(self, pids):
        self.pids = list(pids)

    def _read(self):
        own = sum(map(cpu_s, self.pids))
        children = sum(map(reaped_cpu_s, self.pids))
        return time.monotonic(), own, children, _busy_s() - _own_s()

    def __enter__(self):
        self.begin = self._read()
        return self

    def __exit__(self, *_):
        end = self._read()
        self.elapsed_s, self.cpu_s, self.children_cpu_s, others = (
            after - before for after, before in zip(end, self.begin)
        )
        self.foreign_s = max(0.0, others - self.cpu_s - self.children_cpu_s)


def wait_until_quiet(pids, limit_s=5.0):
    """Returns once the processes have used no CPU time for a tenth of a second."""
    deadline = time.monotonic() + limit_s
    before, since = None, time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < 0.1:
        now = [cpu_s(pid) for pid in pids]
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.02)


def describe():
    info = Path("/proc/cpuinfo").read_text(errors="replace")
    model = re.search(r"^model name\s*:\s*(.*)$", info, re.M)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "processor": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load_average": os.getloadavg(),
    }
