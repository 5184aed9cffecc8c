"""Unix sockets: who is trusted on them, and whom their files let in."""

import os
import pwd
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from certificates import Authority
from contract import Code, Stub, info, refused, run
from gateway import gateway
from wire import request_bytes, statuses


@pytest.fixture
def socket_path():
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory) / "gateway.sock"


def test_a_unix_socket_trusts_root_without_a_token(socket_path):
    with gateway("--listen", f"unix:{socket_path}") as g:
        mode = socket_path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o660
        stub = Stub(g.channel(target=f"unix:{socket_path}"))
        assert run(stub, "echo over unix").stdout == b"over unix\n"


def test_a_unix_socket_and_a_port_are_listened_on_together(socket_path):
    options = ("--listen", f"unix:{socket_path}", "--listen", "127.0.0.1:0")
    with gateway(*options, listeners=2) as g:
        tcp = next(target for target in g.targets if not target.startswith("unix"))
        assert info(Stub(g.channel(target=f"unix:{socket_path}"))).version
        with refused(Code.UNAUTHENTICATED):
            info(Stub(g.channel(target=tcp)))
        assert info(Stub(g.channel(target=tcp), g.metadata)).version


def test_a_unix_socket_of_another_users_gateway_trusts_that_user_and_root(socket_path):
    nobody = pwd.getpwnam("nobody")
    os.chown(socket_path.parent, nobody.pw_uid, nobody.pw_gid)
    with gateway("--listen", f"unix:{socket_path}", user="nobody") as g:
        assert info(Stub(g.channel(target=f"unix:{socket_path}"))).version


def test_a_unix_socket_does_not_trust_others(socket_path):
    """One who gets past the socket's mode is still asked who it is."""
    with gateway("--listen", f"unix:{socket_path}"):
        socket_path.chmod(0o666)
        program = (
            "import socket, sys\n"
            "s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1])\n"
            "s.sendall(bytes.fromhex(sys.argv[2]))\n"
            "data = b''\n"
            "try:\n"
            "    while b'grpc-status' not in data and len(data) < 100000:\n"
            "        more = s.recv(65536)\n"
            "        if not more: break\n"
            "        data += more\n"
            "except OSError: pass\n"
            "sys.stdout.buffer.write(data)\n"
        )
        asked = request_bytes("/procgate.v1.ProcessService/GetGateway", b"\0\0\0\0\0")
        python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
        done = subprocess.run(
            [python, "-c", program, str(socket_path), asked.hex()],
            capture_output=True,
            user="nobody",
            group=65534,
            extra_groups=[],
            cwd="/",
        )
        if done.returncode:
            pytest.skip("no Python that another user can run")
        assert statuses(done.stdout) in ([], ["16"]), "an answer to a stranger"


def by_unix(g, path, *authorization):
    metadata = [("authorization", value) for value in authorization]
    return Stub(g.channel(target=f"unix:{path}"), metadata)


def test_a_token_is_judged_alone_also_from_a_trusted_user(socket_path, tmp_path):
    """A proxy that runs as the gateway's user passes on what strangers send."""
    tokens = tmp_path / "tokens"
    tokens.write_text("alice the-token-of-alice\n")
    tokens.chmod(0o600)
    with gateway("--listen", f"unix:{socket_path}", "--token-file", tokens) as g:
        assert run(by_unix(g, socket_path), "true").process.owner == "root"
        alice = by_unix(g, socket_path, "Bearer the-token-of-alice")
        assert run(alice, "true").process.owner == "alice"
        for wrong in ("Bearer wrong", "Bearer", "", "Basic the-token-of-alice"):
            with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
                info(by_unix(g, socket_path, wrong))


@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_unix_socket_may_demand_a_token_of_everybody(by, socket_path):
    other = socket_path.with_name("other.sock")
    addresses = [f"unix:{socket_path},token", f"unix:{other}", "127.0.0.1:0"]
    words = [word for address in addresses for word in ("--listen", address)]
    settings = {"environment": {"PROCGATE_LISTEN": ", ".join(addresses)}}
    given = gateway(*words, listeners=3) if by == "option" else gateway(listeners=3, **settings)
    with given as g:
        assert g.targets[0] == f"unix:{socket_path}"
        with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
            info(by_unix(g, socket_path))
        with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
            info(by_unix(g, socket_path, "Bearer wrong"))
        assert info(by_unix(g, socket_path, f"Bearer {g.token}")).version
        assert info(by_unix(g, other)).version


def test_a_socket_that_demands_a_token_has_one_beside_certificates(socket_path, tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("gateway")
    words = ("--tls-certificate", certificate, "--tls-key", key)
    words += ("--tls-client-ca", authority.certificate, "--listen", f"unix:{socket_path},token")
    with gateway(*words, token="") as g:
        token = (g.home / "procgate" / "token").read_text().split()[-1]
        with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
            info(by_unix(g, socket_path))
        assert info(by_unix(g, socket_path, f"Bearer {token}")).version


# What the C library is asked for, told by a library that is loaded before it.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void tell(const char *line) {
    int fd = open(getenv("SHIM_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dprintf(fd, "%s\n", line);
    close(fd);
}

int listen(int fd, int backlog) {
    struct sockaddr_un address = {0};
    socklen_t length = sizeof address;
    struct stat facts;
    char line[300];
    if (getsockname(fd, (struct sockaddr *)&address, &length) == 0 && address.sun_family == AF_UNIX
        && stat(address.sun_path, &facts) == 0) {
        snprintf(line, sizeof line, "listen %s %o", address.sun_path, facts.st_mode & 0777);
        tell(line);
    }
    return ((int (*)(int, int))dlsym(RTLD_NEXT, "listen"))(fd, backlog);
}

int getpwuid_r(uid_t user, struct passwd *entry, char *text, size_t size, struct passwd **found) {
    tell("getpwuid_r");
    return ((int (*)(uid_t, struct passwd *, char *, size_t, struct passwd **))
                dlsym(RTLD_NEXT, "getpwuid_r"))(user, entry, text, size, found);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    words = ["gcc", "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c", "-ldl"]
    subprocess.run(words, check=True)
    return folder / "shim.so"


def watched(shim, log, *words, **settings):
    return gateway(*words, environment={"LD_PRELOAD": str(shim), "SHIM_LOG": str(log)}, **settings)


def test_no_socket_is_open_to_others_before_it_has_its_mode(shim, socket_path, tmp_path):
    metrics = socket_path.with_name("metrics.sock")
    words = ("--listen", f"unix:{socket_path}", "--metrics-listen", f"unix:{metrics}")
    log = tmp_path / "log"
    before = os.umask(0)
    try:
        with watched(shim, log, *words):
            told = dict(line.split()[1:] for line in log.read_text().splitlines() if "listen" in line)
            for path in (socket_path, metrics):
                assert int(told[str(path)], 8) & 0o077 == 0, told
                assert stat.S_IMODE(path.stat().st_mode) == 0o660
    finally:
        os.umask(before)


def test_no_call_asks_for_the_name_of_its_caller(shim, socket_path, tmp_path):
    log = tmp_path / "log"
    with watched(shim, log, "--listen", f"unix:{socket_path}") as g:
        asked = lambda: log.read_text().count("getpwuid_r")
        at_start = asked()
        stub = by_unix(g, socket_path)
        for _ in range(20):
            info(stub)
        assert asked() == at_start


def test_a_stale_unix_socket_is_replaced(socket_path):
    with gateway("--listen", f"unix:{socket_path}") as g:
        g.kill()
        assert socket_path.exists()
        g.start()
        assert info(Stub(g.channel(target=f"unix:{socket_path}"))).version


def test_a_unix_socket_is_removed_at_the_end(socket_path):
    with gateway("--listen", f"unix:{socket_path}") as g:
        g.stop()
    assert not socket_path.exists()


def test_a_file_that_is_no_socket_is_not_replaced(socket_path):
    socket_path.write_text("precious")
    with gateway("--listen", f"unix:{socket_path}", start=False) as g:
        g.launch()
        assert g.wait(10) == 1
        assert "is no socket" in g.log()
    assert socket_path.read_text() == "precious"
