"""A FUSE file system whose server does not answer: processes that use it hang.

It has one directory, `directory`, and one executable, `program`. The test process must not look at
it by itself."""

import ctypes
import errno
import os
import select
import struct
import threading

import pytest

MNT_DETACH, MS_NOSUID, MS_NODEV = 2, 2, 4
LOOKUP, FORGET, GETATTR, OPEN, READ, INIT, BATCH_FORGET = 1, 2, 3, 14, 15, 26, 42
NODES = {1: 0o040755, 2: 0o040755, 3: 0o100755}
NAMES = {b"directory": 2, b"program": 3}

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def attributes(node):
    times = (0,) * 6
    return struct.pack("<6Q10I", node, 4096, 8, *times, NODES[node], 1, 0, 0, 0, 4096, 0)


class SilentMount:
    """Mounted at `path`. A server that `reads` leaves the requests in `silent_on` without an answer,
    by default all of them: a process that waits for one cannot be killed. A server that does not
    read leaves them in the queue: such a process can be killed."""

    def __init__(self, path, reads=True, silent_on=None):
        if os.getuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
            pytest.skip("mounting a FUSE file system needs root and /dev/fuse")
        path.mkdir()
        self.path, self.reads, self.silent_on = path, reads, silent_on
        self.device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        options = f"fd={self.device},rootmode=40000,user_id=0,group_id=0,allow_other"
        flags = MS_NOSUID | MS_NODEV
        try:
            check(libc.mount(b"silent", os.fsencode(path), b"fuse", flags, options.encode()))
        except OSError as error:
            os.close(self.device)
            pytest.skip(f"cannot mount a FUSE file system: {error}")
        self.requests = 0  # read and not answered
        self.wake, self.waker = os.pipe()
        self.ready = threading.Event()
        self.server = threading.Thread(target=self.serve, daemon=True)
        self.server.start()
        assert self.ready.wait(10), "the kernel sent no INIT"

    def __truediv__(self, name):
        return self.path / name

    def serve(self):
        watched = [self.device, self.wake]
        while True:
            readable, _, _ = select.select(watched, [], [])
            if self.wake in readable:
                return
            try:
                request = os.read(self.device, 1 << 18)
            except BlockingIOError:
                continue
            except OSError:
                return
            if not self.take(request):
                watched = [self.wake]

    def take(self, request):
        """Answers a request. False if the server must not read any more."""
        _, code, unique, node = struct.unpack_from("<IIQQ", request)
        silent = code != INIT and (self.silent_on is None or code in self.silent_on)
        if silent or code in (FORGET, BATCH_FORGET):
            self.requests += silent
            return True
        error, body = self.answer(code, node, request[40:])
        os.write(self.device, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)
        if code == INIT:
            self.ready.set()
        return self.reads

    def answer(self, code, node, argument):
        if code == INIT:
            major, minor, read_ahead, _ = struct.unpack_from("<4I", argument)
            limits = (7, min(minor, 31), read_ahead, 0, 64, 48, 4096, 1)
            return 0, struct.pack("<4I2H2I", *limits).ljust(64, b"\0")
        if code == LOOKUP:
            child = NAMES.get(argument.split(b"\0")[0])
            if child is None:
                return errno.ENOENT, b""
            return 0, struct.pack("<4Q2I", child, 0, 0, 0, 0, 0) + attributes(child)
        if code == GETATTR:
            return 0, struct.pack("<QII", 0, 0, 0) + attributes(node)
        if code == OPEN:
            return 0, struct.pack("<QII", 0, 0, 0)
        return errno.ENOSYS, b""

    def release(self):
        """Aborts the connection: each pending request fails."""
        libc.umount2(os.fsencode(self.path), MNT_DETACH)
        if self.server.is_alive():
            os.write(self.waker, b"x")
            self.server.join(10)
        for descriptor in (self.device, self.wake, self.waker):
            os.close(descriptor)
        self.device = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.device is not None:
            self.release()
