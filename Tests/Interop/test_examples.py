"""The examples of each language, as Examples/run runs them for a reader."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import BINARY, REPOSITORY, gateway

STEPS = os.environ.get("SWIFT_STEPS", str(Path(BINARY).with_name("example-steps")))


@pytest.mark.parametrize("language", ["swift", "python", "go", "java"])
def test_the_seven_steps_run(language):
    with gateway() as g:
        done = subprocess.run(
            [REPOSITORY / "Examples/run", f"127.0.0.1:{g.port}", g.token, language],
            capture_output=True,
            text=True,
            timeout=400,
            env={**os.environ, "PYTHON": sys.executable, "SWIFT_STEPS": STEPS},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[0] == f"== {language}", done.stdout
        assert done.stdout.splitlines()[-1].strip() == "done", done.stdout + done.stderr
