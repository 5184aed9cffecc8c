"""StopProcess of a tree that forks: SIGTERM reaches every new child, so the stop is fast."""

import sys
import time

import pytest

from contract import follow, has_lines, pb, start, stop, until
from gateway import alive, eventually
from hosts import gateway_with

# Four processes fork at most 400 children each, which sleep. TERM has its default action: a handler
# in Python can lose a signal during a fork.
FORKS = """
import os, time
def forks():
    print("forks", flush=True)
    for _ in range(400):
        if os.fork() == 0:
            time.sleep(1000)
            os._exit(0)
        time.sleep(0.0005)
    time.sleep(1000)
for _ in range(3):
    if os.fork() == 0:
        forks()
forks()
"""
# Seconds. A stop that misses a child takes the whole grace time.
GRACE_MS, PROMPT = 25_000, 12


@pytest.fixture(scope="module", params=["cgroups", "no cgroups"])
def g(request):
    with gateway_with(request.param) as running:
        yield running


@pytest.mark.timeout(150)
def test_a_stop_of_a_forking_tree_does_not_take_the_grace_time(g):
    for attempt in range(40):
        process = start(g.stub, sys.executable, "-I", "-c", FORKS, cwd="/")
        until(follow(g.stub, process.id), has_lines(4))
        began = time.monotonic()
        stopped = stop(g.stub, process.id, grace_ms=GRACE_MS)
        assert time.monotonic() - began < PROMPT, f"stop {attempt} missed a child"
        assert stopped.termination_reason == pb.TERMINATION_REASON_STOPPED
        assert not alive(process.pid)


@pytest.mark.timeout(150)
def test_a_stop_of_forking_descendants_does_not_take_the_grace_time(g):
    for attempt in range(20):
        words = f"{sys.executable} -I -c '{FORKS}'"
        process = start(g.stub, f"{words} & read x", cwd="/")
        events = follow(g.stub, process.id)
        until(events, has_lines(4))
        request = pb.WriteStdinRequest(process_id=process.id, data=b"\n")
        g.stub.WriteStdin(request)
        eventually(lambda: not alive(process.pid), what="the end of the command itself")
        began = time.monotonic()
        stopped = stop(g.stub, process.id, grace_ms=GRACE_MS)
        assert time.monotonic() - began < PROMPT, f"stop {attempt} missed a child"
        assert not stopped.descendants_alive
