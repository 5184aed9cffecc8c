"""What a server prints: read to its end by a thread, so that it never blocks, and waited for."""

import re
import threading


class Output:
    """Takes over `stream`, the read end of a process's stdout and stderr (bytes)."""

    KEPT_LINES = 200

    def __init__(self, stream):
        self._lines, self._ended = [], False
        self._changed = threading.Condition()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream):
        for line in stream:
            with self._changed:
                self._lines = self._lines[-self.KEPT_LINES:] + [line.decode(errors="replace")]
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern, timeout_s):
        """The first match, or None at the stream's end or after the time."""
        def found():
            return next((m for m in (re.search(pattern, x) for x in self._lines) if m), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended, timeout_s)
            return found()

    def tail(self):
        with self._changed:
            return "".join(self._lines[-20:])
