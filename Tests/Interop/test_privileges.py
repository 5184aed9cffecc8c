"""allow_new_privileges: whether setuid programs such as sudo work for a user."""

import os
import shutil
import tempfile

import pytest

from contract import refused, Code, collect, follow, run, start
from gateway import gateway

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root runs for other users")

OWN = "grep NoNewPrivs: /proc/self/status"
OF_ANOTHER = "sh -c 'setsid grep NoNewPrivs: /proc/self/status'"


def no_new_privileges(stub, command=OWN, **fields):
    (line,) = run(stub, command, cwd="/", **fields).lines
    return int(line.split()[1])


def test_a_user_cannot_gain_privileges_by_default(stub):
    assert no_new_privileges(stub, run_as="nobody") == 1
    assert no_new_privileges(stub, run_as="nobody", allow_new_privileges=False) == 1
    assert no_new_privileges(stub, OF_ANOTHER, run_as="nobody") == 1


def test_a_user_can_gain_privileges_if_the_request_allows_it(stub):
    assert no_new_privileges(stub, run_as="nobody", allow_new_privileges=True) == 0
    assert no_new_privileges(stub, OF_ANOTHER, run_as="nobody", allow_new_privileges=True) == 0


def test_a_started_process_can_be_allowed_new_privileges(stub):
    process = start(stub, OWN, run_as="nobody", cwd="/", allow_new_privileges=True)
    assert collect(follow(stub, process.id)).stdout.split()[1] == b"0"


def test_each_request_decides_for_its_own_process(stub):
    for _ in range(3):
        assert no_new_privileges(stub, run_as="nobody", allow_new_privileges=True) == 0
        assert no_new_privileges(stub, run_as="nobody") == 1
        assert no_new_privileges(stub, run_as="daemon") == 1


def test_a_setuid_program_works_if_the_request_allows_it(stub):
    with tempfile.TemporaryDirectory(prefix="procgate-", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        program = shutil.copy(shutil.which("id"), directory)
        os.chown(program, 2, 2)
        os.chmod(program, 0o4755)
        if os.statvfs(program).f_flag & os.ST_NOSUID:
            pytest.skip("/tmp is mounted nosuid")
        fields = dict(run_as="nobody", cwd="/")
        assert run(stub, f"{program} -u", **fields).stdout == b"65534\n"
        allowed = run(stub, f"{program} -u", allow_new_privileges=True, **fields)
        assert allowed.stdout == b"2\n"


def test_a_gateway_without_root_follows_the_same_rule():
    with gateway(user="nobody") as g:
        assert no_new_privileges(g.stub) == 1
        assert no_new_privileges(g.stub, allow_new_privileges=True) == 0


def test_a_repeat_with_other_privileges_is_refused(stub):
    start(stub, "true", key="privileges", run_as="nobody", cwd="/")
    with refused(Code.ALREADY_EXISTS, "REQUEST_KEY_REUSED"):
        fields = dict(run_as="nobody", cwd="/", allow_new_privileges=True)
        start(stub, "true", key="privileges", **fields)
