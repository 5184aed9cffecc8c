"""Faulty hosts for a gateway: no cgroups, or a user service that hangs or aborts. Each is a private
mount namespace that a `wrapper` of the gateway enters; other processes do not see it."""

import contextlib
import ctypes
import functools
import glob
import os
import shutil
import struct
import subprocess

import pytest

from contract import run
from gateway import gateway

IN_OPEN, IN_CLOSE = 0x20, 0x18
SERVICE = "hesiod"  # a user service of the C library that no host uses: its file is replaced

# A lookup of nss-hang-* never returns, of nss-abort-* aborts, and of nss-user-* finds a user. While
# the file LOG.hang exists, a lookup by number never returns. Each lookup appends the process id and
# the name to LOG.
USER_SERVICE = r"""
#include <errno.h>
#include <fcntl.h>
#include <nss.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int begins(const char *name, const char *prefix) {
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static void note(const char *name) {
    char line[512];
    int log = open(LOG, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    int length = snprintf(line, sizeof line, "%d %.400s\n", (int)getpid(), name);
    if (log >= 0 && write(log, line, (size_t)length) != length) abort();
    if (log >= 0) close(log);
}

enum nss_status _nss_hesiod_getpwuid_r(
    uid_t id, struct passwd *result, char *buffer, size_t size, int *error) {
    char name[32];
    (void)result, (void)buffer, (void)size, (void)error;
    snprintf(name, sizeof name, "%u", (unsigned)id);
    note(name);
    while (access(LOG ".hang", F_OK) == 0) pause();
    return NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_hesiod_getpwnam_r(
    const char *name, struct passwd *result, char *buffer, size_t size, int *error) {
    note(name);
    if (begins(name, "nss-abort-")) abort();
    while (begins(name, "nss-hang-")) pause();
    if (!begins(name, "nss-user-")) return NSS_STATUS_NOTFOUND;
    if (size < 64) {
        *error = ERANGE;
        return NSS_STATUS_TRYAGAIN;
    }
    strcpy(buffer, "x");
    strcpy(buffer + 2, "/");
    strcpy(buffer + 4, "/bin/sh");
    *result = (struct passwd){.pw_name = (char *)name, .pw_passwd = buffer, .pw_uid = 54321,
        .pw_gid = 54321, .pw_gecos = buffer, .pw_dir = buffer + 2, .pw_shell = buffer + 4};
    return NSS_STATUS_SUCCESS;
}
"""


def private_mounts(script):
    """A wrapper that runs `script`, with mount commands, in a private mount namespace."""
    shell = f'set -e; {script}; exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", shell, "sh"]


@functools.cache
def can_mount_privately():
    probe = private_mounts("mount -t tmpfs none /mnt")
    return (
        os.getuid() == 0 and subprocess.run([*probe, "true"], capture_output=True).returncode == 0
    )


def needs_private_mounts():
    if not can_mount_privately():
        pytest.skip("private mount namespaces need root and CAP_SYS_ADMIN")


def user_service(directory, order="files " + SERVICE):
    """A wrapper that adds USER_SERVICE to the user services, and the file that lists its calls.
    Every user must be able to write to `directory`."""
    needs_private_mounts()
    found = glob.glob(f"/lib/*-linux-gnu/libnss_{SERVICE}.so.2")
    if not found or not shutil.which("gcc"):
        pytest.skip(f"needs gcc, and a libnss_{SERVICE}.so.2 to replace")
    source, library, log = directory / "nss.c", directory / "nss.so", directory / "nss.log"
    source.write_text(USER_SERVICE)
    macro = f'-DLOG="{log}"'
    command = ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", macro, "-o", library, source]
    subprocess.run(command, check=True)
    switch = directory / "nsswitch.conf"
    switch.write_text(f"passwd: {order}\ngroup: files\n")
    binds = f"mount --bind {library} {found[0]}; mount --bind {switch} /etc/nsswitch.conf"
    return private_mounts(binds), log


def service_calls(log):
    """Pairs of process id and name, for each lookup of USER_SERVICE."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(line.split()[0]), line.split()[1]) for line in lines]


class Opens:
    """Counts how often a file is opened."""

    def __init__(self, path):
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.descriptor >= 0
        # The kernel merges equal events in a row, so the events between two opens are watched too.
        mask = IN_OPEN | IN_CLOSE
        assert libc.inotify_add_watch(self.descriptor, os.fsencode(path), mask) >= 0
        self.total = 0

    def count(self):
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.descriptor, 1 << 20):
                events = struct.iter_unpack("=iIII", data)  # events of a watched file have no name
                self.total += sum(bool(mask & IN_OPEN) for _, mask, _, _ in events)
        return self.total

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.descriptor)


NO_CGROUPS = private_mounts("mount -t tmpfs none /sys/fs/cgroup")


def own_cgroup(text):
    """The line of the unified hierarchy in the text of /proc/PID/cgroup."""
    return next((line for line in text.splitlines() if line.startswith("0::")), "0::/")


def has_cgroups(g):
    """True if each command has its own cgroup."""
    with open(f"/proc/{g.supervisor}/cgroup") as file:
        supervisor = own_cgroup(file.read())
    command = own_cgroup(run(g.stub, "cat /proc/self/cgroup", cwd="/").stdout.decode())
    return command.startswith(supervisor) and command != supervisor


def gateway_with(kind, *options, **settings):
    """`kind` is "cgroups" or "no cgroups". Skips the test if this host does not support it."""
    if kind == "cgroups":
        with gateway() as probe:
            if not has_cgroups(probe):
                pytest.skip("commands have no cgroups on this host")
        return gateway(*options, **settings)
    needs_private_mounts()
    return gateway(*options, wrapper=NO_CGROUPS, **settings)
