"""A terminal of a real terminal program (tmux), with a shell in it."""

import os
import secrets
import subprocess
from contextlib import contextmanager

from gateway import BINARY, alive, eventually


class Screen:
    def __init__(self, environment, columns, rows):
        self.socket = "procgate-" + secrets.token_hex(6)
        base = {k: v for k, v in os.environ.items() if not k.startswith(("PROCGATE_", "TMUX"))}
        self.environment = base | {"LC_ALL": "C.UTF-8"} | environment
        shell = self.tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows),
            "-P", "-F", "#{pane_pid}", "env PS1='$ ' bash --norc --noprofile -i",
        )  # fmt: skip
        self.shell = int(shell)
        self.prompts("$")

    def tmux(self, *words):
        done = subprocess.run(
            ["tmux", "-L", self.socket, *words],
            env=self.environment,
            capture_output=True,
            timeout=10,
            check=True,
        )
        return done.stdout.decode()

    def text(self):
        return self.tmux("capture-pane", "-p", "-t", "0")

    def type(self, *keys):
        """Names of keys, as tmux has them, or text."""
        self.tmux("send-keys", "-t", "0", *keys)

    def line(self, text):
        self.type("-l", text)
        self.type("Enter")

    def resize(self, columns, rows):
        self.tmux("resize-window", "-t", "0", "-x", str(columns), "-y", str(rows))

    def shows(self, what, timeout=15):
        """Waits until the screen shows the text, or what a function of the screen finds."""
        found = what if callable(what) else lambda text: what in text
        try:
            return eventually(lambda: found(self.text()), timeout)
        except AssertionError:
            raise AssertionError(f"not on the screen: {what}\n{self.text()}") from None

    def prompts(self, mark):
        """Waits until the last line is the shell's prompt alone."""
        self.shows(lambda text: text.rstrip().split("\n")[-1] == mark)

    def end(self):
        """The shell becomes nobody's child, and is gone when this returns."""
        subprocess.run(
            ["tmux", "-L", self.socket, "kill-server"], capture_output=True, timeout=10
        )
        eventually(lambda: not alive(self.shell), what="the end of the terminal's shell")


@contextmanager
def screen(environment, columns=80, rows=24):
    made = Screen(environment | {"P": BINARY}, columns, rows)
    try:
        yield made
    finally:
        made.end()
