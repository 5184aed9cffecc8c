"""What the Swift client costs where it does much: its benchmark program, in a process of its own."""

import json
import os
import subprocess
from pathlib import Path

from contract import MiB
from gateway import BINARY, gateway

CLIENT = os.environ.get("CLIENT_BENCHMARK", str(Path(BINARY).with_name("client-benchmark")))


def measure(g, *words):
    done = subprocess.run(
        [CLIENT, words[0], f"http://127.0.0.1:{g.port}", *map(str, words[1:])],
        capture_output=True,
        timeout=300,
        env={**os.environ, "PROCGATE_TOKEN": g.token},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_ten_thousand_commands_over_one_connection_leave_nothing_behind():
    with gateway() as g:
        few = measure(g, "exec", 1000, 64)
        many = measure(g, "exec", 10_000, 64)
        assert many["calls"] == 10_000
        assert many["peak_kib"] - few["peak_kib"] < 8 * 1024


def test_two_gibibytes_stream_into_it_with_flat_memory():
    with gateway() as g:
        streamed = measure(g, "stream", 2 << 30)
        assert streamed["bytes"] == 2 << 30
        assert streamed["peak_kib"] * 1024 < 64 * MiB
