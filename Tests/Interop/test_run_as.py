"""`run_as`: by name and number, with the user's own groups, and who may be named."""

import grp
import os
import pwd

import pytest

from contract import Code, info, refused, run
from gateway import gateway

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root runs for other users")


def identity(stub, **fields):
    ran = run(stub, "id -u; id -g; id -G", cwd="/", **fields)
    user, group, groups = ran.lines
    return int(user), int(group), set(map(int, groups.split()))


def expected(name):
    entry = pwd.getpwnam(name)
    return entry.pw_uid, entry.pw_gid, set(os.getgrouplist(name, entry.pw_gid))


def test_the_default_is_the_gateways_own_user(stub):
    user, group, _ = identity(stub)
    assert (user, group) == (0, 0)


def test_a_user_is_named(stub):
    for name in ("daemon", "nobody", "root"):
        assert identity(stub, run_as=name) == expected(name)


def test_a_user_is_numbered(stub):
    for name in ("daemon", "nobody"):
        assert identity(stub, run_as=str(pwd.getpwnam(name).pw_uid)) == expected(name)


def test_a_users_supplementary_groups_come_with_it(stub):
    known = {entry.pw_name for entry in pwd.getpwall()}
    members = sorted({name for group in grp.getgrall() for name in group.gr_mem} & known)
    if not members:
        pytest.skip("no user here has a supplementary group")
    for name in members:
        assert identity(stub, run_as=name) == expected(name)
        assert len(expected(name)[2]) > 1


def test_real_effective_and_saved_ids_are_all_the_users(stub):
    ran = run(stub, "grep -E '^(Uid|Gid):' /proc/self/status", run_as="daemon", cwd="/")
    assert [line.split()[1:] for line in ran.lines] == [["1"] * 4] * 2


def test_the_user_has_no_way_back(stub):
    ran = run(
        stub, "grep -E '^(CapEff|CapPrm|NoNewPrivs):' /proc/self/status", run_as="daemon", cwd="/"
    )
    told = {line.split()[0]: int(line.split()[1], 16) for line in ran.lines}
    assert told == {"CapEff:": 0, "CapPrm:": 0, "NoNewPrivs:": 1}


def test_the_user_cannot_read_what_only_root_may(stub):
    ran = run(stub, "cat /etc/shadow", run_as="nobody", cwd="/")
    assert ran.stdout == b""
    assert ran.process.exit_code != 0


def test_the_users_command_can_be_stopped_with_its_tree(stub):
    ran = run(stub, "sleep 1000", run_as="daemon", cwd="/", timeout_ms=200)
    assert ran.process.status == 6


def test_an_unknown_user_is_refused(stub):
    for name in ("no-such-user", "root\0", "root x"):
        with refused(Code.INVALID_ARGUMENT, "USER_UNKNOWN"):
            run(stub, "true", run_as=name)


def test_numbers_that_are_no_user_ids_are_refused(stub):
    for name in ("-1", "4294967295", "4294967296", "99999999999999999999", "0x0"):
        with refused(Code.INVALID_ARGUMENT, "USER_UNKNOWN"):
            run(stub, "true", run_as=name)


def test_allow_user_names_the_others_that_run_as_may_name():
    with gateway("--allow-user", "daemon") as g:
        assert identity(g.stub, run_as="daemon")[0] == 1
        assert identity(g.stub, run_as="1")[0] == 1
        for name in ("nobody", "65534", "bin"):
            with refused(Code.PERMISSION_DENIED, "RUN_AS_DENIED"):
                run(g.stub, "true", run_as=name)


def test_allow_user_may_be_repeated():
    with gateway("--allow-user", "daemon", "--allow-user", "nobody") as g:
        assert identity(g.stub, run_as="daemon")[0] == 1
        assert identity(g.stub, run_as="nobody")[0] == 65534
        with refused(Code.PERMISSION_DENIED, "RUN_AS_DENIED"):
            run(g.stub, "true", run_as="bin")


def test_allow_user_star_is_all():
    with gateway("--allow-user", "*") as g:
        assert identity(g.stub, run_as="bin")[0] == 2


def test_default_user_runs_what_names_nobody():
    with gateway("--default-user", "daemon") as g:
        assert identity(g.stub) == expected("daemon")
        assert identity(g.stub, run_as="nobody") == expected("nobody")


def test_the_default_user_may_always_be_named():
    with gateway("--default-user", "daemon", "--allow-user", "nobody") as g:
        assert identity(g.stub, run_as="daemon") == expected("daemon")
        with refused(Code.PERMISSION_DENIED, "RUN_AS_DENIED"):
            run(g.stub, "true", run_as="root")


def test_a_gateway_without_root_runs_as_itself_and_as_nobody_else():
    with gateway(user="nobody") as g:
        assert identity(g.stub)[0] == 65534
        assert identity(g.stub, run_as="nobody")[0] == 65534
        for name in ("daemon", "root", "0"):
            with refused(Code.PERMISSION_DENIED, "RUN_AS_DENIED"):
                run(g.stub, "true", run_as=name)
        assert info(g.stub).version
