"""The gateway's metrics as the tests read them."""

import http.client
import re
import socket

LINE = re.compile(
    r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\]|\\.)*",?)*\})? (\S+)( \d+)?$'
)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def ask(port, path="/metrics", method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response, body


def samples(port):
    """Name and labels to value."""
    found = {}
    for line in ask(port)[1].splitlines():
        if line and not line.startswith("#"):
            name, labels, value, _ = LINE.match(line).groups()
            found[name + (labels or "")] = float(value)
    return found


def families(port):
    """Each family's kind by its name."""
    lines = ask(port)[1].splitlines()
    return dict(line.split()[2:4] for line in lines if line.startswith("# TYPE "))
