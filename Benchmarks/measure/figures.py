"""What is measured: the figures by group, each with its unit and with what it is divided by. The
groups themselves are taken in groups.py and clients.py."""

from dataclasses import dataclass

MORE, LESS = "+", "-"


@dataclass(frozen=True)
class Figure:
    """`better`: whether more or less of it is. `bases`: the figures of the same round that it is
    divided by; a figure without any is a floor, or stands for itself."""

    name: str
    what: str
    unit: str
    better: str
    bases: tuple[str, ...] = ()


FIGURES = {
    "unary": (
        Figure("nghttpd rate", "an 80-byte file, h2load -c 8 -m 32", "calls/s", MORE),
        Figure("nghttpd CPU", "for each", "us", LESS),
        Figure("GetProcess rate", "of an ended process, h2load -c 8 -m 32", "calls/s", MORE,
               ("nghttpd rate",)),
        Figure("GetProcess CPU", "for each", "us", LESS, ("nghttpd CPU",)),
    ),
    "exec": (
        Figure("vfork true", "/bin/true in a row", "/s", MORE),
        Figure("vfork sh", "sh -c true in a row", "/s", MORE),
        Figure("vfork sh p50", "", "ms", LESS),
        Figure("vfork sh p99", "", "ms", LESS),
        Figure("vfork sh CPU", "parent and child", "ms", LESS),
        Figure("Exec p50", "of `true`, one at a time", "ms", LESS, ("vfork sh p50",)),
        Figure("Exec p99", "", "ms", LESS, ("vfork sh p99",)),
        Figure("Exec rate", "16 at a time on 4 connections", "/s", MORE, ("vfork sh",)),
        Figure("Exec p99 of 16", "", "ms", LESS),
        Figure("Exec CPU", "for each, without the children", "ms", LESS),
        Figure("Exec CPU in all", "with the children", "ms", LESS, ("vfork sh CPU",)),
    ),
    "stream": (
        Figure("relay", "head -c 2G, pipe to TCP, read and write", "MB/s", MORE),
        Figure("relay CPU", "", "s/GB", LESS),
        Figure("splice", "the same by splice", "MB/s", MORE),
        Figure("splice CPU", "", "s/GB", LESS),
        Figure("nghttpd file", "one of 2 GiB", "MB/s", MORE),
        Figure("nghttpd file CPU", "", "s/GB", LESS),
        Figure("stream", "Exec of head -c 2G", "MB/s", MORE, ("relay", "nghttpd file")),
        Figure("stream CPU", "", "s/GB", LESS, ("relay CPU", "nghttpd file CPU")),
        Figure("8 streams", "of 256 MiB each on one connection", "MB/s", MORE, ("relay",)),
        Figure("8 streams CPU", "", "s/GB", LESS, ("relay CPU",)),
        Figure("small windows", "of 64 KiB; 512 MiB", "MB/s", MORE),
    ),
    "lines": (
        Figure("relay lines", "200,000 lines, a write for each", "klines/s", MORE),
        Figure("relay lines CPU", "", "us/line", LESS),
        Figure("lines", "Exec of the same, 3 times", "klines/s", MORE, ("relay lines",)),
        Figure("lines CPU", "", "us/line", LESS, ("relay lines CPU",)),
    ),
    "followers": (
        Figure("fan-out CPU", "one pipe to 50 sockets, for what arrives", "s/GB", LESS),
        Figure("followers CPU", "50 on 5 connections, 32 MiB at 8 MiB/s", "s/GB", LESS,
               ("fan-out CPU",)),
        Figure("followers lag p99", "age of a chunk when it arrives", "ms", LESS),
    ),
    "stdin": (
        Figure("pour", "256 MiB, TCP to pipe, into wc -c", "MB/s", MORE),
        Figure("pour CPU", "", "s/GB", LESS),
        Figure("StreamStdin", "256 MiB into wc -c", "MB/s", MORE, ("pour",)),
        Figure("StreamStdin CPU", "", "s/GB", LESS, ("pour CPU",)),
    ),
    "memory": (
        Figure("nghttpd connection", "idle, of 1000", "KiB", LESS),
        Figure("idle gateway", "resident after one call", "MiB", LESS),
        Figure("idle supervisor", "", "MiB", LESS),
        Figure("idle both", "", "MiB", LESS),
        Figure("idle StreamOutput", "of 1000 on 10 connections", "KiB", LESS),
        Figure("idle connection", "of 1000", "KiB", LESS, ("nghttpd connection",)),
    ),
    "tls": (
        Figure("nghttpd TLS file", "one of 2 GiB", "MB/s", MORE, ("nghttpd file",)),
        Figure("nghttpd TLS file CPU", "", "s/GB", LESS, ("nghttpd file CPU",)),
        Figure("TLS stream", "Exec of head -c 2G", "MB/s", MORE, ("nghttpd TLS file", "stream")),
        Figure("TLS stream CPU", "", "s/GB", LESS, ("nghttpd TLS file CPU", "stream CPU")),
        Figure("TLS GetProcess CPU", "for each, h2load -c 8 -m 32", "us", LESS,
               ("GetProcess CPU",)),
    ),
    "client": (
        Figure("h2load exec CPU", "the client's, of `true`, 16 at a time", "ms", LESS),
        Figure("grpcio exec CPU", "Python's", "ms", LESS, ("h2load exec CPU",)),
        Figure("Swift exec CPU", "ProcgateClient's", "ms", LESS,
               ("h2load exec CPU", "grpcio exec CPU")),
        Figure("h2load stream", "2 GiB by Exec", "MB/s", MORE),
        Figure("grpcio stream", "", "MB/s", MORE, ("h2load stream",)),
        Figure("Swift stream", "", "MB/s", MORE, ("h2load stream",)),
        Figure("Swift memory", "the peak, while it streams", "MiB", LESS),
    ),
}
