"""ProcessSpec: the command, its arguments, directory and environment."""

import os
import stat
from pathlib import Path

import pytest

from contract import EXITED, Code, MiB, begin, info, pb, refused, run, start
from gateway import gateway

BASE = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG"}


def environment(stub, **fields):
    """What a command finds, without a shell that adds to it."""
    ran = run(stub, "/usr/bin/env", "-0", **fields)
    assert ran.process.exit_code == 0, ran.stderr
    return dict(item.split("=", 1) for item in ran.stdout.decode().split("\0") if item)


@pytest.fixture
def tool(tmp_path):
    """A directory with an executable of its own."""
    path = tmp_path / "own-tool"
    path.write_text("#!/bin/sh\necho own tool: $1\n")
    path.chmod(0o755)
    return path


def test_a_command_without_arguments_is_run_by_the_shell(stub):
    assert run(stub, "echo $((6 * 7)) | tr 2 0; exit 5").stdout == b"40\n"


def test_a_command_with_arguments_is_run_directly(stub):
    assert run(stub, "echo", "$HOME", "|", "cat").stdout == b"$HOME | cat\n"


def test_arguments_arrive_exactly(stub):
    args = [
        "",
        " ",
        "a b",
        "'",
        '"',
        "\\",
        "$HOME",
        "`id`",
        "*",
        "\n",
        "\t",
        "ünïcödé ☃ 🎈",
        "-n",
        "--",
        "x=y",
    ]
    ran = run(stub, "/usr/bin/printf", "%s\\0", *args)
    assert ran.stdout.decode().split("\0")[:-1] == args


def test_the_command_is_argument_zero(stub):
    assert run(stub, "cat", "/proc/self/cmdline").stdout == b"cat\0/proc/self/cmdline\0"


def test_a_nul_in_command_or_argument_is_refused_and_not_cut_off(stub):
    for words in (("echo a\0b",), ("echo", "a\0b")):
        with refused(Code.INVALID_ARGUMENT):
            run(stub, *words)


def test_a_command_is_looked_up_in_the_path_of_its_own_environment(stub, tool):
    ran = run(stub, "own-tool", "found", env={"PATH": f"/nowhere:{tool.parent}:/usr/bin:/bin"})
    assert ran.stdout == b"own tool: found\n"


def test_a_path_as_command_is_taken_as_it_is(stub, tool):
    assert run(stub, str(tool), "x").stdout == b"own tool: x\n"
    assert run(stub, "./own-tool", "x", cwd=str(tool.parent)).stdout == b"own tool: x\n"


def test_shell_none_runs_directly_without_arguments_too(stub, tool):
    assert run(stub, str(tool), shell=pb.SHELL_NONE).stdout == b"own tool:\n"
    ran = run(stub, "echo a", shell=pb.SHELL_NONE)
    assert ran.process.termination_reason == pb.TERMINATION_REASON_START_FAILED


def test_shell_sh_is_sh_minus_c(stub):
    ran = run(stub, "tr '\\0' ' ' < /proc/$$/cmdline", shell=pb.SHELL_SH)
    assert ran.stdout.startswith(b"/bin/sh -c ") or ran.stdout.startswith(b"sh -c ")


def test_shell_login_is_the_users_login_shell(stub):
    ran = run(stub, "shopt -q login_shell && echo login; echo $BASH", shell=pb.SHELL_LOGIN)
    assert ran.stdout.startswith(b"login\n"), ran.stderr
    assert b"bash" in ran.stdout


def test_the_shell_option_names_the_shell_for_commands_without_arguments():
    with gateway("--shell", "/bin/bash") as g:
        assert b"bash" in run(g.stub, "echo $BASH").stdout
        assert run(g.stub, "echo", "$BASH").stdout == b"$BASH\n"


def test_the_default_directory_is_the_home(stub):
    assert run(stub, "pwd").stdout.decode() == str(Path.home().resolve()) + "\n"
    assert run(stub, "pwd", run_as="daemon").stdout == b"/usr/sbin\n"


def test_a_relative_directory_is_relative_to_the_home(stub):
    assert run(stub, "pwd", cwd="../lib", run_as="daemon").stdout == b"/usr/lib\n"
    assert run(stub, "pwd", cwd=".", run_as="daemon").stdout == b"/usr/sbin\n"


def test_an_absolute_directory_is_taken_as_it_is(stub, tmp_path):
    odd = tmp_path / "a directory ünder $HOME"
    odd.mkdir()
    ran = run(stub, "pwd", cwd=str(odd))
    assert ran.stdout.decode() == f"{odd}\n"
    assert ran.process.cwd == str(odd)


def test_a_path_that_no_kernel_takes_is_refused_though_the_place_is_taken():
    with gateway("--max-running", "1") as g:
        begin(g.stub, "exec sleep 1000", timeout=None)
        for size in (4096, MiB):
            with refused(Code.INVALID_ARGUMENT, "CWD_INVALID"):
                start(g.stub, "true", cwd="/" + "x" * (size - 1))
        assert info(g.stub).version


def test_a_directory_that_cannot_be_entered_is_refused(stub, tmp_path):
    (tmp_path / "file").touch()
    for cwd in ("/no/such/directory", "no-such-directory", str(tmp_path / "file"), "/tmp\0/x"):
        with refused(Code.INVALID_ARGUMENT, "CWD_INVALID"):
            run(stub, "true", cwd=cwd)


def test_a_directory_closed_to_the_user_does_not_run_the_command(stub, tmp_path):
    os.chmod(tmp_path, stat.S_IRWXU)
    try:
        ran = run(stub, "echo ran", cwd=str(tmp_path), run_as="daemon")
    except Exception as error:
        assert error.code() == Code.INVALID_ARGUMENT
    else:
        assert ran.process.termination_reason == pb.TERMINATION_REASON_START_FAILED
        assert ran.stdout == b""


def test_the_base_environment_is_exactly_six_variables(stub):
    found = environment(stub)
    assert set(found) == BASE
    assert found["HOME"] == str(Path.home())
    assert found["USER"] == found["LOGNAME"] == "root"
    assert found["SHELL"] == "/bin/bash"
    assert {"/usr/bin", "/bin"} <= set(found["PATH"].split(":"))
    assert found["LANG"]


def test_the_base_environment_is_the_target_users(stub):
    found = environment(stub, run_as="daemon")
    assert set(found) == BASE
    assert found["HOME"] == "/usr/sbin"
    assert found["USER"] == found["LOGNAME"] == "daemon"
    assert found["SHELL"] == "/usr/sbin/nologin"


def test_env_is_added_to_the_base_environment(stub):
    found = environment(stub, env={"FOO": "bar baz", "EMPTY": "", "UNI": "ü☃", "X": "a=b\nc"})
    assert set(found) == BASE | {"FOO", "EMPTY", "UNI", "X"}
    assert (found["FOO"], found["EMPTY"], found["UNI"], found["X"]) == (
        "bar baz",
        "",
        "ü☃",
        "a=b\nc",
    )


def test_env_replaces_what_the_base_environment_has(stub):
    found = environment(stub, env={"HOME": "/tmp", "LANG": "C"})
    assert set(found) == BASE
    assert (found["HOME"], found["LANG"]) == ("/tmp", "C")


def test_clear_env_starts_from_env_alone(stub):
    assert environment(stub, clear_env=True, env={"ONLY": "this"}) == {"ONLY": "this"}
    assert environment(stub, clear_env=True) == {}


def test_a_large_environment_arrives_whole(stub):
    env = {f"V{i}": "x" * 50 for i in range(2000)}
    assert set(environment(stub, env=env)) == BASE | set(env)


def test_an_environment_that_cannot_be_is_refused(stub):
    for env in ({"": "x"}, {"A=B": "x"}, {"A": "x\0y"}, {"A\0B": "x"}):
        with refused(Code.INVALID_ARGUMENT, "ENV_INVALID"):
            run(stub, "true", env=env)


def test_a_variable_beyond_what_the_system_takes_is_refused(stub):
    with refused(Code.INVALID_ARGUMENT):
        run(stub, "true", env={"A": "x" * 200_000})


def test_nothing_of_the_supervisor_is_inherited_but_three_descriptors(stub):
    ran = run(stub, "ls", "-l", "/proc/self/fd")
    names = {line.split(" -> ")[0].split()[-1] for line in ran.lines[1:]}
    assert names == {"0", "1", "2", "3"}, ran.lines  # 3 is the directory that ls reads


def test_signals_are_neither_blocked_nor_ignored(stub):
    ran = run(stub, "grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status")
    assert [line.split()[1] for line in ran.lines] == ["0" * 16] * 2


def test_a_command_leads_a_process_group_of_its_own(stub):
    ran = run(stub, "echo $$; cut -d ' ' -f 5 /proc/$$/stat")
    leader, group = map(int, ran.stdout.split())
    assert leader == group == ran.started.pid


def test_spec_fields_come_back_in_the_process(stub):
    ran = run(
        stub, "echo", "a", "b c", cwd="/tmp", run_as="daemon", labels={"k": "v", "": "e", "ü": "☃"}
    )
    for process in (ran.started, ran.process):
        assert process.command == "echo"
        assert list(process.args) == ["a", "b c"]
        assert process.cwd == "/tmp"
        assert process.run_as == "daemon"
        assert dict(process.labels) == {"k": "v", "": "e", "ü": "☃"}
    assert ran.process.status == EXITED


def test_a_field_of_a_later_contract_is_ignored(stub):
    unknown = b"\xa2\x06\x03abc"  # field 100, bytes
    process = pb.ProcessSpec.FromString(
        pb.ProcessSpec(command="echo a").SerializeToString() + unknown
    )
    ran = list(stub.Exec(pb.ExecRequest(process=process)))
    assert ran[-1].exited.process.exit_code == 0


def test_a_field_of_another_type_is_ignored(stub):
    group = b"\xa3\x06\x08\x01\xa4\x06"  # field 100, as proto2 had groups
    timeout = b"\x2d\x01\x00\x00\x00"  # timeout_ms, as fixed32
    process = pb.ProcessSpec.FromString(
        pb.ProcessSpec(command="sleep 0.1; echo a").SerializeToString() + group + timeout
    )
    ran = list(stub.Exec(pb.ExecRequest(process=process)))
    assert ran[-1].exited.process.exit_code == 0
