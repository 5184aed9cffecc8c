"""The arena that supervisor and gateway share: the gateway cannot write to it, and sends only the
output that was requested."""

import os
import re
import signal
import time
from pathlib import Path

import h2.events
import pytest

from bystander import outcome
from contract import MiB, info, pb, run, start, stop
from gateway import eventually, gateway, stat
from test_crash import cut_links
from test_endings import whole_messages
from wire import SERVICE, Connection, message

STREAM = SERVICE + "StreamOutput"


def mappings(pid):
    """(first line, VmFlags) of each mapping of a memfd."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    found = re.findall(r"^([0-9a-f]+-[0-9a-f]+ .*)$(?:.|\n)*?^VmFlags: (.*)$", text, re.M)
    return [(line, flags.split()) for line, flags in found if "/memfd:" in line]


def test_the_gateway_can_only_read_the_arena():
    with gateway() as g:
        assert run(g.stub, "seq 100000", cwd="/").process.exit_code == 0
        shared = mappings(g.pid)
        assert shared, "the gateway maps no arena"
        for line, flags in shared:
            assert line.split()[1].startswith("r--s"), line
            assert "mw" not in flags, f"may be made writable: {line}"
        for name in os.listdir(f"/proc/{g.pid}/fd"):
            if "/memfd:" in os.readlink(f"/proc/{g.pid}/fd/{name}"):
                text = Path(f"/proc/{g.pid}/fdinfo/{name}").read_text()
                flags = int(re.search(r"flags:\s+(\d+)", text).group(1), 8)
                assert flags & os.O_ACCMODE == os.O_RDONLY


class Stalled(Connection):
    """A follower whose window is not opened again by what it receives."""

    def __init__(self, g, id):
        super().__init__(g.address, g.token)
        request = pb.StreamOutputRequest(process_id=id).SerializeToString()
        self.id = self.request(STREAM, message(request))

    @property
    def data(self):
        return self.responses[self.id].data

    def take(self, event):
        if isinstance(event, h2.events.DataReceived):
            self.responses[event.stream_id].data += event.data
        else:
            super().take(event)

    def open_window(self):
        for stream in (None, self.id):
            self.h2.increment_flow_control_window(32 * MiB, stream)
        self.flush()


@pytest.mark.parametrize("opens", [True, False], ids=["window", "no window"])
def test_a_follower_in_the_middle_of_a_message_does_not_hang_if_the_link_is_lost(opens):
    """It goes on, or its call ends: with a status, or a reset if the message cannot be finished."""
    with gateway() as g:
        command = f"head -c {MiB} /dev/zero | tr '\\0' a; read x"
        process = start(g.stub, command, cwd="/")
        with Stalled(g, process.id) as follower:
            assert follower.until(lambda: len(follower.data) == 65_535)
            assert cut_links(g) > 0
            if opens:
                follower.open_window()
            response = follower.responses[follower.id]
            ended = lambda: response.ended or response.reset is not None
            assert follower.until(lambda: ended() or len(follower.data) > MiB, 20)
            # A status behind half a message would be taken for a broken stream.
            assert not response.ended or whole_messages(follower.data)
        # The call may have ended before there is another link.
        end = lambda: outcome(lambda: stop(g.stub, process.id, grace_ms=0))
        eventually(lambda: end() != "SUPERVISOR_UNAVAILABLE", what="another link")


def printer(letter, directory):
    """Prints 1 MiB of a letter, and 64 MiB more once a file is there."""
    prefix = f"{directory}/{letter}"
    text = f"head -c {{}} /dev/zero | tr '\\0' {letter}"
    wait = f"touch {prefix}-first; until [ -e {prefix}-go ]; do sleep 0.02; done"
    return f"{text.format(MiB)}; {wait}; {text.format(64 * MiB)}; touch {prefix}-done"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("attempt", range(3))
def test_a_gateway_that_was_stopped_sends_no_output_of_another_process(attempt, tmp_path):
    policy = pb.OutputPolicy(retain_bytes=2 * MiB)
    with gateway("--max-output-memory", "16MiB") as g:
        ids = {}
        for letter in "ab":
            command = printer(letter, tmp_path)
            ids[letter] = start(g.stub, command, cwd="/", output=policy).id
            if letter == "a":
                followers = [Stalled(g, ids["a"]) for _ in range(8)]
                for each in followers:
                    assert each.until(lambda each=each: len(each.data) >= 60_000)
            eventually((tmp_path / f"{letter}-first").exists)
        info(g.stub)
        g.process.send_signal(signal.SIGSTOP)
        eventually(lambda: stat(g.pid)[0] == "T", what="the gateway to stop")
        try:
            assert cut_links(g) > 0
            for letter in "ab":
                (tmp_path / f"{letter}-go").touch()
                eventually((tmp_path / f"{letter}-done").exists, 30, "the whole output")
            for each in followers:
                each.open_window()
        finally:
            g.process.send_signal(signal.SIGCONT)
        end = time.monotonic() + 20
        for each in followers:
            response = each.responses[each.id]
            over = lambda: response.ended or response.reset is not None
            each.until(over, end - time.monotonic())
            assert b"a" * 1000 in each.data
            assert b"b" * 10 not in each.data
            each.close()
