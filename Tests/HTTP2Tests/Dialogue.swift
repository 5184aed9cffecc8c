// Two sessions joined in memory, or one with a scripted peer.

import HTTP2
import NIOCore

/// An event without its session's objects, to be compared.
enum Told: Equatable {
    case headers(Int32, [String])
    case trailers(Int32, [String])
    case data(Int32, [UInt8])
    case end(Int32)
    case closed(Int32, HTTP2ErrorCode?)
    case drained(Int32)
    case bodySent(Int32)
    case settings
    case pong(UInt64)
    case goAway(Int32, HTTP2ErrorCode)
    case flood(HTTP2Flood)
}

extension HeaderBlock {
    var lines: [String] {
        var lines: [String] = []
        forEach { name, value in
            lines.append(
                String(decoding: name, as: UTF8.self) + "="
                    + String(decoding: value, as: UTF8.self))
            return true
        }
        return lines
    }
}

/// One end, with all that it was told.
final class End {
    let session: HTTP2Session
    private(set) var told: [Told] = []
    private(set) var streams: [Int32: HTTP2Stream] = [:]
    var now: UInt64 = 0

    init(_ role: HTTP2Session.Role, _ configuration: HTTP2Configuration = .init()) {
        session = HTTP2Session(role: role, configuration: configuration)
    }

    func receive(_ bytes: [UInt8]) throws(HTTP2Error) {
        var failure: HTTP2Error?
        bytes.withUnsafeBytes { raw in
            do throws(HTTP2Error) {
                try session.receive(raw, now: now)
            } catch {
                failure = error
            }
        }
        note(bytes)
        if let failure { throw failure }
    }

    func note(_ input: [UInt8] = []) {
        for event in session.takeEvents() {
            switch event {
            case .headers(let stream):
                streams[stream.id] = stream
                told.append(.headers(stream.id, stream.headers?.lines ?? []))
            case .trailers(let stream):
                told.append(.trailers(stream.id, stream.trailers?.lines ?? []))
            case .data(let stream, let offset, let count):
                told.append(.data(stream.id, Array(input[offset..<(offset + count)])))
            case .end(let stream): told.append(.end(stream.id))
            case .closed(let stream, let code): told.append(.closed(stream.id, code))
            case .drained(let stream): told.append(.drained(stream.id))
            case .bodySent(let stream): told.append(.bodySent(stream.id))
            case .settings: told.append(.settings)
            case .pong(let payload): told.append(.pong(payload))
            case .goAway(let last, let code, _): told.append(.goAway(last, code))
            case .flood(let flood): told.append(.flood(flood))
            }
        }
    }

    /// All that is to be sent now.
    func output(limit: Int = 1 << 20) throws -> [UInt8] {
        var buffer = ByteBuffer()
        var more = true
        while more { more = try session.write(into: &buffer, limit: buffer.readableBytes + limit) }
        note()
        return Array(buffer.readableBytesView)
    }

    /// The DATA of one stream, put together.
    func body(of id: Int32) -> [UInt8] {
        told.reduce(into: []) { body, event in
            if case .data(id, let bytes) = event { body += bytes }
        }
    }

    func forget() {
        told.removeAll()
    }
}

struct Pair {
    let client: End
    let server: End

    init(client: HTTP2Configuration = .init(), server: HTTP2Configuration = .init()) throws {
        self.client = End(.client, client)
        self.server = End(.server, server)
        try exchange()
        self.client.forget()
        self.server.forget()
    }

    /// Carries bytes both ways until both are silent.
    func exchange() throws {
        while true {
            let there = try client.output()
            if !there.isEmpty { try server.receive(there) }
            let back = try server.output()
            if !back.isEmpty { try client.receive(back) }
            if there.isEmpty && back.isEmpty { return }
        }
    }
}

extension HeaderList {
    static func of(_ fields: KeyValuePairs<String, String>) -> HeaderList {
        var builder = HeaderListBuilder()
        for (name, value) in fields { builder.append(name: name, value: value) }
        return HeaderList(builder)
    }

    static let request = HeaderList.of([
        ":method": "POST", ":scheme": "http", ":path": "/a", ":authority": "localhost",
    ])
    static let response = HeaderList.of([":status": "200"])
}

/// A frame as it stands on the wire.
struct RawFrame: Equatable {
    var type: UInt8
    var flags: UInt8 = 0
    var stream: Int32 = 0
    var payload: [UInt8] = []

    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    static let settings = RawFrame(type: 4)

    var bytes: [UInt8] {
        let count = payload.count
        return [UInt8(count >> 16 & 255), UInt8(count >> 8 & 255), UInt8(count & 255), type, flags]
            + withUnsafeBytes(of: stream.bigEndian) { Array($0) } + payload
    }

    static func all(in bytes: [UInt8]) -> [RawFrame] {
        var frames: [RawFrame] = []
        var rest = bytes[...]
        while rest.count >= 9 {
            let head = Array(rest.prefix(9))
            let count = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
            let stream = head[5...8].reduce(Int32(0)) { $0 << 8 | Int32($1) }
            frames.append(
                RawFrame(
                    type: head[3], flags: head[4], stream: stream,
                    payload: Array(rest.dropFirst(9).prefix(count))))
            rest = rest.dropFirst(9 + count)
        }
        return frames
    }

    /// A header block of literal fields without compression.
    static func block(_ fields: KeyValuePairs<String, String>) -> [UInt8] {
        func text(_ text: String) -> [UInt8] {
            var count = text.utf8.count
            var prefix: [UInt8] = []
            if count < 127 {
                prefix = [UInt8(count)]
            } else {
                prefix = [127]
                count -= 127
                while count >= 128 {
                    prefix.append(UInt8(count & 127 | 128))
                    count >>= 7
                }
                prefix.append(UInt8(count))
            }
            return prefix + text.utf8
        }
        return fields.reduce(into: []) { block, field in
            block += [0] + text(field.key) + text(field.value)
        }
    }

    static let requestBlock = block([
        ":method": "POST", ":scheme": "http", ":path": "/a", ":authority": "localhost",
    ])

    static func request(_ stream: Int32, ends: Bool = true) -> RawFrame {
        RawFrame(type: 1, flags: ends ? 5 : 4, stream: stream, payload: requestBlock)
    }
}
