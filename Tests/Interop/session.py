"""An Attach call with both of its directions at hand."""

import queue

from contract import Ran, pb


class Session:
    def __init__(self, stub, on_disconnect=0, timeout=50, metadata=(), **first):
        self.outgoing = queue.SimpleQueue()
        self.ran = Ran()
        self.send(on_disconnect=on_disconnect, **first)
        self.events = stub.Attach(
            iter(self.outgoing.get, None), timeout=timeout, metadata=metadata
        )

    def send(self, **fields):
        self.outgoing.put(pb.AttachRequest(**fields))

    def type(self, text):
        self.send(stdin_data=text.encode() if isinstance(text, str) else text)

    def close(self):
        """The caller sends no more."""
        self.outgoing.put(None)

    def cancel(self):
        self.events.cancel()
        self.close()

    def until(self, condition):
        if condition(self.ran):
            return self.ran
        for event in self.events:
            if condition(self.ran.add(event)):
                return self.ran
        raise AssertionError(f"the session ended first: {self.ran.events} {self.ran.stdout}")

    def sees(self, text):
        """Reads until the text is there, and forgets all up to its end."""
        text = text.encode() if isinstance(text, str) else text
        self.until(lambda ran: text in ran.stdout)
        rest = self.ran.stdout.partition(text)[2]
        first = self.ran.chunks[-1]
        self.ran.chunks[:] = [pb.OutputChunk(seq=first.seq, stream=first.stream, data=rest)]

    def end(self):
        """Reads to the end."""
        try:
            for event in self.events:
                self.ran.add(event)
        finally:
            self.close()
        return self.ran


def attach(stub, command, *args, no_stdin=False, on_disconnect=0, key="", **fields):
    """A session that starts a process."""
    process = pb.ProcessSpec(command=command, args=args, **fields)
    request = pb.StartProcessRequest(process=process, request_key=key, no_stdin=no_stdin)
    return Session(stub, start=request, on_disconnect=on_disconnect)


def join(stub, id, on_disconnect=0, metadata=(), **fields):
    """A session with a process that is there."""
    request = pb.StreamOutputRequest(process_id=id, **fields)
    return Session(stub, join=request, on_disconnect=on_disconnect, metadata=metadata)
