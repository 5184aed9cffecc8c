"""HTTP/2 by hand: single frames, odd requests, and what comes back."""

import base64
import socket
import struct
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hpack
import hyperframe.frame as frames

SERVICE = "/procgate.v1.ProcessService/"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def message(payload=b"", compressed=0, length=None):
    """A gRPC message, with a length that may be a lie."""
    return struct.pack(">BI", compressed, len(payload) if length is None else length) + payload


def grpc_headers(path, token=None, **more):
    """Header names are given with `_` for `-`; one with the value None is left out."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    if token:
        headers["authorization"] = f"Bearer {token}"
    for name, value in more.items():
        name = ":" + name[1:] if name.startswith("_") else name.replace("_", "-")
        headers[name] = value
    return [(name, value) for name, value in headers.items() if value is not None]


def raw_frame(kind, payload=b"", stream=0, flags=0):
    """A frame as bytes, whether or not it may be."""
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + payload


def request_bytes(path, body):
    """A connection's first bytes with one whole request, as plain bytes."""
    block = hpack.Encoder().encode(grpc_headers(path))
    head = frames.HeadersFrame(1, block, flags=["END_HEADERS"])
    data = frames.DataFrame(1, body, flags=["END_STREAM"])
    return PREFACE + frames.SettingsFrame(0).serialize() + head.serialize() + data.serialize()


def statuses(data):
    """Every grpc-status in what a server sent."""
    decoder, found, at = hpack.Decoder(), [], 0
    while at + 9 <= len(data):
        frame, length = frames.Frame.parse_frame_header(memoryview(data[at : at + 9]))
        body = data[at + 9 : at + 9 + length]
        if len(body) < length:
            break
        frame.parse_body(memoryview(body))
        if isinstance(frame, frames.HeadersFrame):
            pairs = [
                (bytes(k, "ascii") if isinstance(k, str) else k, v)
                for k, v in decoder.decode(frame.data)
            ]
            found += [
                v if isinstance(v, str) else v.decode() for k, v in pairs if k == b"grpc-status"
            ]
        at += 9 + length
    return found


class Response:
    def __init__(self):
        self.headers, self.trailers, self.data = {}, {}, b""
        self.ended, self.reset, self.closed = False, None, False

    @property
    def http(self):
        return int(self.headers.get(":status", 0))

    @property
    def status(self):
        """grpc-status, or None."""
        value = self.trailers.get("grpc-status", self.headers.get("grpc-status"))
        return None if value is None else int(value)

    @property
    def message(self):
        return self.trailers.get("grpc-message", self.headers.get("grpc-message"))

    def details(self):
        value = (
            self.trailers.get("grpc-status-details-bin") or self.headers["grpc-status-details-bin"]
        )
        return base64.b64decode(value + "=" * (-len(value) % 4))

    @property
    def refused(self):
        """It was answered with an error, or cut off."""
        error = self.status not in (None, 0) or (self.http not in (0, 200))
        return error or self.reset is not None or self.closed

    def __repr__(self):
        return f"<{self.headers} {self.data[:80]} {self.trailers} reset={self.reset} closed={self.closed}>"


class Connection:
    """One client connection that keeps its own books."""

    def __init__(self, target, token=None, context=None, settings=None, buffer=None):
        self.token = token
        family = socket.AF_UNIX if target.startswith("unix:") else None
        if family:
            self.socket = socket.socket(family)
            self.socket.connect(target.removeprefix("unix:"))
        else:
            host, _, port = target.rpartition(":")
            self.socket = socket.create_connection((host.strip("[]"), int(port)), 10)
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True,
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=False,
            )
        )
        self.responses = {}
        self.goaway = None
        self.pings = self.acknowledged_pings = 0
        self.closed = False
        if settings:
            self.h2.local_settings.update(settings)
        self.h2.initiate_connection()
        self.flush()

    # Sending

    def flush(self):
        self.send(self.h2.data_to_send())

    def send(self, data):
        """Bytes as they are. A connection that is gone is noticed, not raised."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True

    def frame(self, *more):
        self.send(b"".join(each.serialize() for each in more))

    def open(self, path, end=False, **headers):
        id = self.h2.get_next_available_stream_id()
        self.responses[id] = Response()
        self.h2.send_headers(id, grpc_headers(path, self.token, **headers), end_stream=end)
        self.flush()
        return id

    def adopt(self):
        """A stream that the caller opens with frames of its own."""
        id = self.h2.get_next_available_stream_id()
        self.responses[id] = Response()
        self.h2.send_headers(id, grpc_headers("/"), end_stream=True)
        self.h2.data_to_send()
        self.h2.encoder = hpack.Encoder()
        return id

    def body(self, id, data, end=True, piece=16384):
        pieces = [data[i : i + piece] for i in range(0, len(data), piece)] or [b""]
        for i, each in enumerate(pieces):
            while self.h2.local_flow_control_window(id) < len(each):
                if not self.pump():
                    return
            self.h2.send_data(id, each, end_stream=end and i == len(pieces) - 1)
            self.flush()

    def request(self, path, body=message(), **headers):
        """A whole request; the response is asked for later."""
        id = self.open(path, **headers)
        self.body(id, body)
        return id

    def call(self, path, body=message(), timeout=10, **headers):
        return self.response(self.request(path, body, **headers), timeout)

    # Receiving

    def pump(self, timeout=10):
        """Takes what has come, waits for some where there is none. False: the connection is over."""
        if self.closed:
            return False
        self.socket.settimeout(max(timeout, 0.001))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise AssertionError("nothing came from the gateway in time") from None
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return False
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            raise AssertionError(f"the gateway broke the protocol: {error!r}") from error
        for event in events:
            self.take(event)
        self.flush()
        return True

    def take(self, event):
        response = self.responses.get(getattr(event, "stream_id", None) or 0)
        match event:
            case h2.events.ResponseReceived():
                response.headers = dict(event.headers)
            case h2.events.TrailersReceived():
                response.trailers = dict(event.headers)
            case h2.events.DataReceived():
                response.data += event.data
                if event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                response.ended = True
            case h2.events.StreamReset():
                if response and response.reset is None:
                    response.reset = event.error_code
            case h2.events.ConnectionTerminated():
                self.goaway = event.error_code
            case h2.events.PingReceived():
                self.pings += 1
            case h2.events.PingAckReceived():
                self.acknowledged_pings += 1

    def until(self, condition, timeout=10):
        end = time.monotonic() + timeout
        while not condition():
            if not self.pump(end - time.monotonic()):
                return False
        return True

    def response(self, id, timeout=10):
        response = self.responses[id]
        self.until(lambda: response.ended or response.reset is not None, timeout)
        response.closed = not response.ended and response.reset is None
        return response

    def ends(self, timeout=10):
        """The gateway closes the connection within the time."""
        self.until(lambda: False, timeout)
        return self.closed

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
