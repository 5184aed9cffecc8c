"""Wrong usage: exit status 64 and one line that names what is wrong. No gateway is asked."""

import os
import subprocess

import pytest

from gateway import BINARY, procgate


def refused(*words, status=64, **options):
    done = procgate(*words, **options)
    told = done.stderr.decode()
    assert done.returncode == status, (words, told)
    assert done.stdout == b""
    assert len(told.strip().splitlines()) == 1, told
    return told


def test_arguments_that_are_not_utf_8_are_refused_by_their_place():
    for words, place in (
        ((b"exec", b"--", b"echo", b"a\xff"), "argument 4"),
        ((b"ps", b"--label", b"k=\xc3\x28"), "argument 3"),
        ((b"show", b"\xed\xa0\x80"), "argument 2"),
    ):
        done = subprocess.run(
            [os.fsencode(BINARY), *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=20
        )
        told = done.stderr.decode()
        assert done.returncode == 64, told
        assert place in told and "UTF-8" in told
        assert len(told.strip().splitlines()) == 1


def test_a_variable_that_is_not_utf_8_is_named_without_its_value():
    environment = os.environ | {"PROCGATE_TOKEN": os.fsdecode(b"secret\xff")}
    done = subprocess.run(
        [BINARY, "info"], env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=20
    )
    assert done.returncode == 64
    assert b"PROCGATE_TOKEN" in done.stderr and b"secret" not in done.stderr


def test_a_token_that_no_field_carries_is_wrong_usage(tmp_path):
    assert "ASCII" in refused("info", environment={"PROCGATE_TOKEN": "gehé"})
    (tmp_path / "token").write_text("name geh\x07\n")
    assert "ASCII" in refused("info", "--token-file", tmp_path / "token")


@pytest.mark.parametrize(
    "words",
    [
        "exec --timeout 5 -- true", "exec --timeout -5s -- true", "start --timeout 1.5 -- true",
        "wait id --timeout 5", "stop id --grace -1s", "serve --keep-alive 5",
        "serve --grace-period -5s",
    ],
)  # fmt: skip
def test_what_is_no_duration_is_told_with_what_is_one(words):
    told = refused(*words.split())
    assert "' is no duration: write 250ms, 5s, 2m or 1h" in told


def test_what_is_no_size_is_told_with_what_is_one():
    for value in ("5XB", "-1B", "many"):
        told = refused("serve", "--retain-bytes", value)
        assert f"--retain-bytes: '{value}' is no size: write 64KiB, 4MiB or 1GiB" in told


def test_an_option_that_is_not_there_is_no_command():
    for command in ("exec", "start"):
        for option, named in (("--nosuch", "--nosuch"), ("-x", "-x"), ("-ix", "-x")):
            assert f"'{named}'" in refused(command, option, "ls")
        assert procgate(command, "--help").stdout.startswith(b"OVERVIEW: ")


def test_the_value_of_an_option_that_has_a_few_is_told_in_one_sentence():
    told = refused("signal", "id", "TERM", "--scope", "all")
    assert "'leader'" in told and ".;" not in told


@pytest.mark.parametrize(
    "words", ["nosuch", "help nosuch", "nosuch --help", "help ps nosuch"]
)
def test_a_command_that_is_not_there_is_wrong_usage(words):
    told = refused(*words.split())
    assert "'nosuch'" in told or "'ps'" in told


@pytest.mark.parametrize("words", ["help", "help ps", "help help", "ps --help", "--version"])
def test_help_is_no_failure(words):
    done = procgate(*words.split())
    assert done.returncode == 0 and done.stderr == b""
    assert done.stdout


@pytest.mark.parametrize("words", ["--help", "--version", "help ps"])
@pytest.mark.parametrize("output", [">&-", ">/dev/full"])
def test_what_cannot_be_printed_is_a_failure(words, output):
    done = subprocess.run(
        ["bash", "-c", f"{BINARY} {words} {output}"], capture_output=True, timeout=20
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"procgate: cannot write: ")
