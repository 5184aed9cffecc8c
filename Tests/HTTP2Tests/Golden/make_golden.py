#!/usr/bin/env python3
"""Writes GoldenFrames.swift: bytes that Python's h2, hpack and hyperframe make of requests and
answers, for the session to read. Needs `pip install h2 hpack hyperframe`; run it in place."""

import hpack
from h2.config import H2Configuration
from h2.connection import H2Connection
from hyperframe import frame as frames

REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/test.Post/Echo"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("grpc-timeout", "1500m"),
    ("x-note", "a value that Huffman coding makes shorter"),
]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def client():
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    return connection


def plain_request():
    connection = client()
    connection.send_headers(1, REQUEST)
    connection.send_data(1, b"\0\0\0\0\5hello", end_stream=True)
    return connection.data_to_send()


def repeated_requests():
    """Three requests of which the later ones are indices of the first one's fields."""
    connection = client()
    for stream in (1, 3, 5):
        connection.send_headers(stream, REQUEST, end_stream=True)
    return connection.data_to_send()


def cut_headers():
    """A header block in one HEADERS and several CONTINUATION frames, padded DATA, priority."""
    block = hpack.Encoder().encode(REQUEST)
    head = frames.HeadersFrame(1, block[:7], stream_weight=200, depends_on=0, exclusive=False)
    head.flags.add("PRIORITY")
    out = PREFACE + frames.SettingsFrame(0).serialize() + head.serialize()
    rest = block[7:]
    step = max(1, len(rest) // 3)
    pieces = [rest[i:i + step] for i in range(0, len(rest), step)]
    for index, piece in enumerate(pieces):
        more = frames.ContinuationFrame(1, piece)
        if index == len(pieces) - 1:
            more.flags.add("END_HEADERS")
        out += more.serialize()
    data = frames.DataFrame(1, b"\0\0\0\0\5hello", pad_length=17)
    data.flags.add("PADDED")
    data.flags.add("END_STREAM")
    return out + data.serialize()


def answer():
    """What a server sends for `plain_request`: head, two DATA frames, trailers."""
    asked = client()
    asked.send_headers(1, REQUEST, end_stream=True)
    server = H2Connection(H2Configuration(client_side=False))
    server.initiate_connection()
    server.receive_data(asked.data_to_send())
    server.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
    server.send_data(1, b"\0\0\0\0\5he")
    server.send_data(1, b"llo")
    server.send_headers(
        1, [("grpc-status", "0"), ("x-trailer", "last")], end_stream=True)
    return server.data_to_send()


def swift(name, text, value):
    digits = value.hex()
    lines = [digits[i:i + 88] for i in range(0, len(digits), 88)]
    body = "\n".join("        " + line for line in lines)
    return f'    /// {text}\n    static let {name} = bytes(\n        """\n{body}\n        """)\n'


GOLDEN = [
    ("plainRequest", "A request with a message of five bytes.", plain_request()),
    ("repeatedRequests", "Three requests with the same fields.", repeated_requests()),
    ("cutHeaders", "A header block in pieces, and padded DATA.", cut_headers()),
    ("answer", "An answer with one message and trailers.", answer()),
]

with open("GoldenFrames.swift", "w") as out:
    out.write("// Written by make_golden.py with Python's h2; not to be edited.\n\n")
    out.write("enum GoldenFrames {\n")
    out.write("\n".join(swift(*golden) for golden in GOLDEN))
    out.write("""
    private static func bytes(_ text: String) -> [UInt8] {
        let digits = text.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
        return stride(from: 0, to: digits.count, by: 2).map {
            UInt8(digits[$0] << 4 | digits[$0 + 1])
        }
    }
}
""")
