"""A gateway under test: started on a free port, found again in /proc, ended by pid, and proven
gone afterwards with its supervisor and every process of theirs.

The test process is a child subreaper, so whatever a supervisor leaves behind becomes its child."""

import ctypes
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import grpc

import proxies
from contract import Stub

REPOSITORY = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("PROCGATE", str(REPOSITORY / ".build/release/procgate"))
LISTENING = re.compile(r"listening on ([^\s\"',]+)")
PR_SET_CHILD_SUBREAPER = 36
# The binary was built with a sanitizer: see Tests/Sanitizers.
SANITIZED = bool(os.environ.get("PROCGATE_SANITIZED"))

# Through which proxy all cleartext channels go: one of proxies.NAMES, or none.
through = None

running: set["Gateway"] = set()


def adopt_orphans():
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def eventually(condition, timeout=30.0, what="the condition"):
    """The first true value of `condition`, asked until then; what /proc and files tell has no event.

    The time is what a busy machine may take, and no part of what a test proves."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not hold within {timeout} s")
        time.sleep(0.01)


def standstill(measure, still=1.0, timeout=60.0):
    """The value of `measure` once it is not zero and has not changed for a while: what stands still
    tells of no event. Where it changes all the time, that is a failure."""
    last, since = measure(), time.monotonic()

    def stands():
        nonlocal last, since
        if (now := measure()) != last or not now:
            last, since = now, time.monotonic()
        return time.monotonic() - since > still

    eventually(stands, timeout, "a standstill")
    return last


# /proc


def stat(pid):
    """State and parent of a process, or None."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1])


def alive(pid):
    found = stat(pid)
    return found is not None and found[0] not in "ZX"


def arguments(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def is_symbolizer(pid):
    """A sanitizer's helper, which ends with the process whose report it has made readable."""
    return SANITIZED and "llvm-symbolizer" in "".join(arguments(pid)[:1])


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(parent):
    return [pid for pid in pids() if (found := stat(pid)) and found[1] == parent]


def zombies(parent):
    return [pid for pid in children(parent) if (stat(pid) or "-")[0] == "Z"]


def resident(pid, kind="VmRSS"):
    """Bytes. `RssAnon` is without the arena, whose pages are kept for the next process.

    Under a sanitizer sizes mean nothing, since it keeps what is freed: then always 0."""
    if SANITIZED:
        return 0
    found = re.search(kind + r":\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) * 1024 if found else 0


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def kill(pid, number=signal.SIGKILL):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def reap(pid):
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


class Gateway:
    """`options` are those of `procgate serve`. What is not among them: a free port on loopback, a
    token file with one token, a fresh state directory. `proxy` names the one that its channels go
    through, if not the one of the whole run. `wrapper` is a command line that ends by executing
    the words after it."""

    def __init__(
        self,
        *options,
        environment=None,
        user=None,
        token=None,
        state=None,
        proxy=None,
        wrapper=(),
    ):
        self.home = Path(tempfile.mkdtemp(prefix="procgate-", dir="/tmp"))
        self.state = Path(state) if state else self.home / "state"
        self.options = [str(option) for option in options]
        self.wrapper = list(map(str, wrapper))
        self.user = user
        self.entry = pwd.getpwnam(user) if user else None
        self.token = token
        self.process = None
        # Where standard output and standard error go instead of the log, and other words of Popen.
        self.popen = {}
        self.targets = []
        self.proxy_name, self.proxy = proxy or through, None
        self.channels = []
        self.supervisors = set()
        self._stub = None
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("PROCGATE_")}
        self.environment["XDG_RUNTIME_DIR"] = str(self.home)
        self.environment["CANARY"] = "the gateway's own environment"
        given = set(self.options) | set(environment or {})
        self.environment.update(environment or {})
        self.defaults = []
        self.listen = [] if given & {"--listen", "PROCGATE_LISTEN"} else ["--listen", "127.0.0.1:0"]
        if not given & {"--state-directory", "PROCGATE_STATE_DIRECTORY"}:
            self.defaults += ["--state-directory", str(self.state)]
        if not given & {"--token-file", "--no-token", "PROCGATE_TOKEN_FILE"} and token is None:
            self.token = secrets.token_urlsafe(24)
            self.defaults += ["--token-file", str(self.write("token", self.token + "\n", 0o600))]
        if user:
            for path in [self.home, *self.home.rglob("*")]:
                os.chown(path, self.entry.pw_uid, self.entry.pw_gid)

    def write(self, name, text, mode=0o600):
        path = self.home / name
        path.write_text(text)
        path.chmod(mode)
        return path

    # Starting

    def launch(self, *more):
        """Starts `serve` and does not wait for it."""
        self.log_path = self.home / f"log-{time.monotonic_ns()}"
        with open(self.log_path, "wb") as log:
            serve = [BINARY, "serve", *self.options, *self.listen, *self.defaults, *map(str, more)]
            self.process = subprocess.Popen(
                [*self.wrapper, *serve],
                stdin=subprocess.DEVNULL,
                stdout=self.popen.pop("stdout", log),
                stderr=self.popen.pop("stderr", log),
                env=self.environment,
                cwd="/",
                user=self.user,
                group=self.entry and self.entry.pw_gid,
                extra_groups=[] if self.user else None,
                **self.popen,
            )
        running.add(self)
        return self

    def start(self, *more, listeners=1):
        self.launch(*more)
        return self.await_listeners(listeners)

    def await_listeners(self, listeners=1):
        def listening():
            found = LISTENING.findall(self.log())
            if len(found) < listeners and self.process.poll() is not None:
                raise AssertionError(f"serve ended with {self.process.returncode}:\n{self.log()}")
            return len(found) >= listeners and found

        found = eventually(listening, what="the line `listening on …`")
        self.targets = [re.sub(r"^(https?|tcp)://", "", target).rstrip(".;") for target in found]
        self._stub = None
        return self

    def restart(self, *more):
        """Another gateway on the same address and state directory."""
        if self.listen:
            self.listen = ["--listen", self.address]
        return self.start(*more)

    def log(self):
        return self.log_path.read_text(errors="replace")

    # Calling

    @property
    def address(self):
        return self.targets[0]

    @property
    def port(self):
        return int(self.address.rpartition(":")[2])

    @property
    def entrance(self):
        """Where callers connect who name no address: the proxy, started for the first of them, and
        again for a gateway that came back on another port."""
        if not self.proxy_name or not self.address.startswith("127.0.0.1:"):
            return self.address
        if self.proxy and self.proxy.upstream != self.port:
            self.proxy.stop()
            self.proxy = None
        if self.proxy is None:
            self.proxy = proxies.Proxy(self.proxy_name, self.port)
            self.proxy.start(eventually)
        return self.proxy.address

    @property
    def metadata(self):
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def channel(self, target=None, credentials=None, **options):
        """A connection of its own."""
        settings = {"grpc.use_local_subchannel_pool": 1, "grpc.enable_http_proxy": 0}
        settings |= {"grpc." + name: value for name, value in options.items()}
        target = target or (self.address if credentials else self.entrance)
        settings = list(settings.items())
        if credentials:
            channel = grpc.secure_channel(target, credentials, settings)
        else:
            channel = grpc.insecure_channel(target, settings)
        self.channels.append(channel)
        return channel

    def connect(self, **options):
        """A stub with a connection of its own."""
        return Stub(self.channel(**options), self.metadata)

    @property
    def stub(self):
        if self._stub is None:
            self._stub = self.connect()
        return self._stub

    # Ending

    @property
    def pid(self):
        return self.process.pid

    @property
    def supervisor(self):
        return eventually(
            self.find_supervisor, what="a `procgate supervise` for the state directory"
        )

    def find_supervisor(self):
        for pid in pids():
            words = arguments(pid)
            if "supervise" not in words[1:2] or not alive(pid):
                continue
            try:
                here = os.readlink(f"/proc/{pid}/cwd")
            except OSError:
                here = ""
            state = str(self.state)
            if here == state or any(word == state or word.endswith("=" + state) for word in words):
                self.supervisors.add(pid)
                return pid
        return None

    def kill(self):
        """SIGKILL to the gateway alone."""
        self.find_supervisor()
        self.process.kill()
        self.process.wait(10)

    def terminate(self):
        self.find_supervisor()
        self.process.terminate()

    def wait(self, timeout=40):
        return self.process.wait(timeout)

    def has_not_crashed(self):
        """It may have been killed by the test, but by no trap of its own."""
        code = self.process.poll() if self.process else None
        traps = (-signal.SIGILL, -signal.SIGTRAP, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)
        assert code not in traps, f"the gateway crashed with {code}:\n{self.log()[-6000:]}"

    def stop(self):
        """SIGTERM, and what has to be true after it."""
        supervisor = self.find_supervisor()
        self.process.terminate()
        code = self.process.wait(40)
        assert code == 0, f"exit status {code} after SIGTERM:\n{self.log()[-2000:]}"
        if supervisor:
            eventually(lambda: not alive(supervisor), what="the supervisor's end after SIGTERM")
        left = self.leftovers()
        assert not left, f"left behind: {left}"

    def leftovers(self):
        """Living processes that became ours because nobody ended them. A zombie is for us to reap,
        as it would be for init."""
        known = {gateway.process.pid for gateway in running if gateway.process}
        known |= {proxy.process.pid for proxy in proxies.running}
        for gateway in running:
            gateway.find_supervisor()
            known |= gateway.supervisors
        found = []
        for pid in set(children(os.getpid())) - known:
            if alive(pid) and not arguments(pid):
                # It is ending: its memory has gone already, and its entry goes next.
                eventually(lambda pid=pid: not alive(pid), what="the end of an ending process")
            if alive(pid) and not is_symbolizer(pid):
                found.append((pid, arguments(pid)[:4]))
            else:
                reap(pid)
        return found

    def close_channels(self):
        for channel in self.channels:
            channel.close()
        self.channels.clear()
        self._stub = None

    def clean_up(self):
        self.close_channels()
        if self.proxy:
            self.proxy.stop()
        self.proxy, self.proxy_name = None, None  # nobody would end another one
        if self.process and self.process.poll() is None:
            self.kill()
        while pid := self.find_supervisor():
            kill(pid)
            eventually(lambda pid=pid: not alive(pid), what="the end of a killed supervisor")
        for pid, _ in self.leftovers():
            kill(pid)
            eventually(lambda pid=pid: not alive(pid), what="the end of a leftover")
            reap(pid)
        running.discard(self)
        for pid in self.supervisors:
            reap(pid)
        shutil.rmtree(self.home, ignore_errors=True)


@contextmanager
def gateway(*options, start=True, listeners=1, **settings):
    """One that is ended by SIGTERM and examined, unless the test has ended it or has failed."""
    made = Gateway(*options, **settings)
    try:
        if start:
            made.start(listeners=listeners)
        yield made
        made.close_channels()
        made.has_not_crashed()
        if made.process and made.process.poll() is None:
            made.stop()
    finally:
        made.clean_up()


def procgate(*words, environment=None, timeout=50, **options):
    """A client command, or one that is to fail: its exit status, output and error."""
    base = {k: v for k, v in os.environ.items() if not k.startswith("PROCGATE_")}
    return subprocess.run(
        [BINARY, *map(str, words)],
        env=base | (environment or {}),
        capture_output=True,
        timeout=timeout,
        **({"stdin": subprocess.DEVNULL} if "input" not in options else {}),
        **options,
    )
