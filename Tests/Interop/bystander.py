"""Another caller that measures whether the calls of a test delay it."""

import threading
import time

import grpc

from contract import error_info, get, pb, run, start, stop

TEN_TIMES_A_SECOND = "while :; do echo x; sleep 0.1; done"

# Seconds. A start that hangs ends after 10 s, so it would delay other callers by more than this. A
# busy machine delays a call by less.
PROMPT = 4
# Seconds after which every start that hangs has ended.
SETTLED = 25


class Bystander:
    """Has its own connection, follows a process that prints ten times a second, and makes calls."""

    def __init__(self, g):
        self.stub = g.connect()
        self.process = start(self.stub, TEN_TIMES_A_SECOND, cwd="/")
        self.arrivals, self.error = [time.monotonic()], None
        request = pb.StreamOutputRequest(process_id=self.process.id)
        self.events = self.stub.StreamOutput(request, timeout=None)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        try:
            for event in self.events:
                if event.WhichOneof("event") == "output":
                    self.arrivals.append(time.monotonic())
        except grpc.RpcError as error:
            self.error = error

    def longest_silence(self):
        """The longest time without output, in seconds, up to now."""
        assert self.reader.is_alive(), f"the stream ended: {self.error}"
        times = [*self.arrivals, time.monotonic()]
        return max(later - earlier for earlier, later in zip(times, times[1:]))

    def longest_call(self):
        """The slowest of an Exec, a GetProcess, a StartProcess and a StopProcess, in seconds."""
        seconds = []

        def timed(call, *arguments, **fields):
            began = time.monotonic()
            result = call(self.stub, *arguments, **fields)
            seconds.append(time.monotonic() - began)
            return result

        assert timed(run, "echo prompt", cwd="/").stdout == b"prompt\n"
        assert timed(get, self.process.id).status == pb.PROCESS_STATUS_RUNNING
        other = timed(start, "sleep 1000", cwd="/")
        timed(stop, other.id, grace_ms=0)
        return max(seconds)

    def is_not_delayed(self):
        assert self.longest_call() < PROMPT
        assert self.longest_silence() < PROMPT

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.events.cancel()
        self.reader.join(10)
        if not any(error):
            stop(self.stub, self.process.id, grace_ms=0)


def outcome(call):
    """The result of a call, or the reason of its error, or the code of an error without reason."""
    try:
        return call()
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata() or ())
        known = "grpc-status-details-bin" in details
        return error_info(error).reason if known else error.code().name


def outcomes(calls, meanwhile=lambda: None, within=SETTLED):
    """The outcomes of concurrent calls. `meanwhile` is called repeatedly until all have ended."""
    results, began = [], time.monotonic()

    def make(call):
        results.append(outcome(call))

    threads = [threading.Thread(target=make, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            meanwhile()
            assert time.monotonic() - began < within, "the calls do not end"
            thread.join(0.1)
    assert len(results) == len(calls), "a call failed in the test"
    return results
