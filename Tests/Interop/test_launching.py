"""The launcher: the process that clones the supervisor's commands."""

import os
import signal

from contract import run
from gateway import alive, children, eventually, gateway


def launchers(g):
    """The supervisor's children that run its own program."""
    program = os.readlink(f"/proc/{g.supervisor}/exe")
    return [p for p in children(g.supervisor) if os.readlink(f"/proc/{p}/exe") == program]


def test_commands_of_a_new_launcher_have_the_limits_of_the_old_ones():
    command = "ulimit -Sn; ulimit -Hn"
    with gateway() as g:
        before = run(g.stub, command).stdout
        helpers = launchers(g)
        assert helpers
        for pid in helpers:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not any(map(alive, helpers)), 30, "the helpers' end")
        eventually(lambda: succeeds(g, command), 30, "a new launcher")
        assert run(g.stub, command).stdout == before


def succeeds(g, command):
    return run(g.stub, command).stdout
