"""The manual, which is made of what the program says of itself."""

import json
import os
import re
import shutil
import subprocess

import pytest

from gateway import BINARY, REPOSITORY, procgate


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("man")
    words = [REPOSITORY / "Packaging/man/generate", BINARY, directory]
    environment = os.environ | {"SOURCE_DATE_EPOCH": "86400"}
    subprocess.run(words, env=environment, check=True, timeout=30)
    return {path.stem: path for path in directory.iterdir()}


def commands():
    root = json.loads(procgate("--experimental-dump-help").stdout)["command"]
    return [c for c in root["subcommands"] if c["commandName"] != "help"]


def test_every_command_has_a_page(pages):
    names = {f"procgate-{command['commandName']}" for command in commands()}
    assert "procgate-exec" in names
    assert set(pages) == names | {"procgate"}


@pytest.mark.skipif(not shutil.which("mandoc"), reason="there is no mandoc here")
def test_the_pages_are_well_formed(pages):
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *pages.values()], capture_output=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.skipif(not shutil.which("groff"), reason="there is no groff here")
def test_groff_has_nothing_to_say_of_the_pages(pages):
    for path in pages.values():
        done = subprocess.run(
            ["groff", "-ww", "-mdoc", "-Tascii", "-z", path], capture_output=True, timeout=30
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), path.name


@pytest.mark.skipif(not shutil.which("mandoc"), reason="there is no mandoc here")
def test_a_page_shows_every_option_and_the_words_of_its_command(pages):
    for command in commands():
        path = pages[f"procgate-{command['commandName']}"]
        done = subprocess.run(["mandoc", "-T", "ascii", path], capture_output=True, timeout=30)
        # A letter that is struck over itself is bold.
        shown = re.sub(r".\x08", "", done.stdout.decode())
        for argument in command["arguments"]:
            for name in argument.get("names", []):
                option = ("--" if name["kind"] == "long" else "-") + name["name"]
                assert (option in shown) == argument["shouldDisplay"], (path.name, option)
        assert "January 2, 1970" in shown
