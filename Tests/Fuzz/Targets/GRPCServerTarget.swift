// The gRPC server over HTTP/2, without a socket: the input says what a peer sends, how it is cut
// into reads, and how time passes. Every handler that begins ends, every call is told of once.

import GRPCProtos
import HTTP2
import NIOCore
import NIOEmbedded
import ProcgateV1
import Protobuf

@testable import GRPCWire

func fuzzGRPCServer(_ bytes: UnsafeRawBufferPointer) {
    var input = FuzzInput(bytes)
    guard let peer = try? HTTP2Peer(limits: input.byte()) else { return }
    if input.flag() { peer.send(HTTP2Peer.preface) }
    while !input.isEmpty, peer.isOpen { peer.act(&input) }
    peer.end()
}

/// The peer of one server connection, and the server's side of it.
private final class HTTP2Peer {
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + frame(type: 4)

    private let loop = EmbeddedEventLoop()
    private let channel: EmbeddedChannel
    private let services: LoopServices
    private let calls = CallCounter()
    private var nextStream: UInt8 = 1
    /// Sent together when the input says so.
    private var held: [UInt8] = []
    private var answer: [UInt8] = []

    /// - Parameter limits: picks one of the configurations.
    init(limits: UInt8) throws {
        // Deadlines are absolute: the loop's time begins now.
        loop.advanceTime(to: .now())
        channel = EmbeddedChannel(loop: loop)
        var configuration = ServerConfiguration()
        configuration.limits.messageBytes = limits & 1 == 0 ? 1 << 20 : 1024
        configuration.limits.connectionMemoryBytes = limits & 2 == 0 ? 4 << 20 : 8192
        configuration.limits.queuedBytes = limits & 4 == 0 ? 64 << 10 : 512
        configuration.http2.maxConcurrentStreams = limits & 8 == 0 ? 100 : 2
        configuration.http2.maxHeaderListBytes = limits & 16 == 0 ? 16 << 10 : 512
        configuration.http2.volatileField = "grpc-timeout"
        configuration.observer = { [calls] _ in calls.told += 1 }
        services = LoopServices(
            loop, router: ServiceRouter(methods(calls)), configuration: configuration,
            memory: BufferMemory(limitBytes: configuration.limits.memoryBytes))
        let peer = PeerIdentity(address: "127.0.0.1:1", host: "127.0.0.1")
        try Acceptor.speakHTTP2(channel, services, peer)
        channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1), promise: nil)
        loop.run()
    }

    var isOpen: Bool { channel.isActive }

    // MARK: What the input says

    func act(_ input: inout FuzzInput) {
        switch input.choice(12) {
        case 0, 1: request(&input)
        case 2, 3: message(&input)
        case 4:
            let type = input.byte()
            let flags = input.byte()
            let stream = input.byte()
            hold(Self.frame(type: type, flags: flags, stream: stream, input.chunk()))
        case 5: hold(input.chunk())
        case 6: windowUpdate(&input)
        case 7: hold(Self.frame(type: 3, stream: input.byte(), [0, 0, 0, input.byte()]))
        case 8: sendHeld(keeping: 0)
        case 9: sendHeld(keeping: input.choice(64))
        case 10: loop.advanceTime(by: .milliseconds(Int64(input.byte()) * 50))
        default: shutDown(input.choice(8))
        }
        if held.count > 32 << 10 { sendHeld(keeping: 0) }
    }

    private static let paths = [
        "/fuzz/Unary", "/fuzz/Serve", "/fuzz/Source", "/fuzz/Collect", "/fuzz/Echo",
        "/fuzz/Fail", "/fuzz/None", "/healthz",
    ]

    private func request(_ input: inout FuzzInput) {
        var fields: [(String, [UInt8])] = [
            (":method", Array((input.choice(16) == 0 ? "GET" : "POST").utf8)),
            (":scheme", Array("http".utf8)),
            (":path", Array(Self.paths[input.choice(Self.paths.count)].utf8)),
            (":authority", Array("localhost".utf8)),
            ("content-type", Array("application/grpc".utf8)),
        ]
        let extras = input.byte()
        if extras & 1 != 0 { fields.append(("grpc-timeout", input.chunk())) }
        if extras & 2 != 0 { fields.append(("grpc-encoding", Array("gzip".utf8))) }
        if extras & 4 != 0 {
            fields.append(("grpc-accept-encoding", Array("gzip".utf8)))
            fields.append(("procgate-compress", Array("gzip".utf8)))
        }
        if extras & 8 != 0 { fields.append(("data-bin", input.chunk())) }
        if extras & 16 != 0 {
            fields.append((String(decoding: input.chunk(), as: UTF8.self), input.chunk()))
        }
        var block: [UInt8] = []
        for (name, value) in fields {
            block += [0] + Self.hpack(Array(name.utf8)) + Self.hpack(value)
        }
        let flags: UInt8 = extras & 32 != 0 ? 5 : 4
        hold(Self.frame(type: 1, flags: flags, stream: nextStream, block))
        nextStream &+= 2
    }

    /// A gRPC message on one of the streams, in one or two DATA frames.
    private func message(_ input: inout FuzzInput) {
        let stream = nextStream &- 2 &- UInt8(input.choice(3)) * 2
        let flag: UInt8 = input.choice(8) == 0 ? 1 : 0
        let ends: UInt8 = input.flag() ? 1 : 0
        let padding = input.number16()
        let body: [UInt8]
        if input.flag() {
            let request = ExecRequest.with {
                $0.process = .with { $0.command = String(repeating: "x", count: padding) }
            }
            body = request.encoded()
        } else {
            body = input.chunk()
        }
        let whole = [flag] + withUnsafeBytes(of: UInt32(body.count).bigEndian) { Array($0) } + body
        let cut = min(whole.count, input.choice(16))
        if cut > 0 { hold(Self.frame(type: 0, stream: stream, Array(whole.prefix(cut)))) }
        var rest = whole.dropFirst(cut)
        while rest.count > 16_384 {
            hold(Self.frame(type: 0, stream: stream, Array(rest.prefix(16_384))))
            rest = rest.dropFirst(16_384)
        }
        hold(Self.frame(type: 0, flags: ends, stream: stream, Array(rest)))
    }

    private func windowUpdate(_ input: inout FuzzInput) {
        let stream = input.flag() ? input.byte() : 0
        hold(Self.frame(type: 8, stream: stream, [0, input.byte(), input.byte(), 1]))
    }

    private func shutDown(_ kind: Int) {
        switch kind {
        case 0: services.drain()
        case 1: services.stop()
        case 2: channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        default: loop.advanceTime(by: .seconds(Int64(kind) * 5))
        }
        loop.run()
    }

    // MARK: Bytes

    private func hold(_ bytes: [UInt8]) {
        held += bytes
    }

    private func sendHeld(keeping kept: Int) {
        let count = max(0, held.count - kept)
        send(Array(held.prefix(count)))
        held.removeFirst(count)
    }

    func send(_ bytes: [UInt8]) {
        guard channel.isActive, !bytes.isEmpty else { return }
        // What the handler makes of it is in its own hands; an error is no crash.
        _ = try? channel.writeInbound(ByteBuffer(bytes: bytes))
        loop.run()
        readAnswer()
    }

    private func readAnswer() {
        while let piece = try? channel.readOutbound(as: ByteBuffer.self) {
            answer += piece.readableBytesView
        }
        while answer.count >= 9 {
            let length = answer[..<3].reduce(0) { $0 << 8 | Int($1) }
            check(answer[3] <= 9, "a frame of type \(answer[3]) is sent")
            check(length <= 64 << 10, "a frame of \(length) bytes is sent")
            guard answer.count >= 9 + length else { break }
            answer.removeFirst(9 + length)
        }
    }

    /// The connection is lost; what was begun must end.
    func end() {
        sendHeld(keeping: 0)
        _ = try? channel.finish(acceptAlreadyClosed: true)
        loop.run()
        loop.advanceTime(by: .hours(1))
        loop.run()
        check(services.openConnections == 0, "a lost connection is still kept")
        check(calls.begun == calls.ended, "\(calls.begun) handlers began, \(calls.ended) ended")
        check(calls.told >= calls.begun, "\(calls.begun) handlers began, \(calls.told) were told")
    }

    static func frame(
        type: UInt8, flags: UInt8 = 0, stream: UInt8 = 0, _ payload: [UInt8] = []
    ) -> [UInt8] {
        let count = payload.count
        return [UInt8(count >> 16 & 255), UInt8(count >> 8 & 255), UInt8(count & 255), type, flags]
            + [0, 0, 0, stream] + payload
    }

    /// A string of HPACK, without Huffman coding.
    private static func hpack(_ text: [UInt8]) -> [UInt8] {
        guard text.count >= 127 else { return [UInt8(text.count)] + text }
        var rest = text.count - 127
        var prefix: [UInt8] = [127]
        while rest >= 128 {
            prefix.append(UInt8(rest & 127 | 128))
            rest >>= 7
        }
        return prefix + [UInt8(rest)] + text
    }
}

/// `@unchecked Sendable`: used on the fuzzer's only thread.
private final class CallCounter: @unchecked Sendable {
    var begun = 0
    var ended = 0
    var told = 0
}

/// One method of each kind, and of each way to answer.
private func methods(_ calls: CallCounter) -> [ServerMethod] {
    func method(
        _ name: String, _ kind: StreamingKind, _ body: @escaping ServerMethod.Handler
    ) -> ServerMethod {
        ServerMethod(path: "/fuzz/\(name)", kind: kind) { call in
            calls.begun += 1
            defer { calls.ended += 1 }
            try await body(call)
        }
    }
    return [
        method("Unary", .unary) { call in
            let request = try await call.request(ExecRequest.self)
            call.note = request.requestKey
            try await call.send(ProcessEvent.with { $0.event = .keepAlive(KeepAlive()) })
        },
        method("Serve", .serverStreaming) { call in
            let request = try await call.request(ExecRequest.self)
            let data = [UInt8](repeating: 7, count: request.process?.command.utf8.count ?? 0)
            for seq in 0..<8 {
                let chunk = OutputChunk.with {
                    $0.seq = UInt64(seq)
                    $0.data = data
                }
                try await call.send(
                    ProcessEvent.with { $0.event = .output(chunk) }, compress: seq % 2 == 0)
            }
        },
        method("Source", .serverStreaming) { call in
            let request = try await call.request(ExecRequest.self)
            let source = RepeatingSource(
                unit: call.framed(ByteBuffer(repeating: 1, count: 100)),
                count: request.process?.command.utf8.count ?? 0)
            call.handOver(source, status: { .ok }, whenOver: { _ in })
        },
        method("Collect", .clientStreaming) { call in
            var bytes = 0
            while let (request, data) = try await call.next(
                StreamStdinRequest.self, detaching: 2)
            {
                bytes += data.readableBytes + request.processId.utf8.count
            }
            try await call.send(WriteStdinResponse.with { $0.stdinBytes = UInt64(bytes) })
        },
        method("Echo", .bidirectional) { call in
            while let message = try await call.nextMessage() {
                try await call.send(encoded: message)
            }
        },
        method("Fail", .bidirectional) { call in
            call.trailers.append("data-bin", bytes: [1, 2])
            let message = try await call.nextMessage() ?? ByteBuffer()
            throw GRPCStatus(
                .invalidArgument, String(decoding: message.readableBytesView, as: UTF8.self))
        },
    ]
}

/// The same message again and again.
private final class RepeatingSource: BodySource {
    private let unit: [UInt8]
    private var offset = 0
    private let count: Int

    init(unit: ByteBuffer, count: Int) {
        self.unit = Array(unit.readableBytesView)
        self.count = count * unit.readableBytes
    }

    func available(limit: Int) -> BodyAvailability {
        guard offset < count else { return .end }
        return .bytes(min(limit, count - offset))
    }

    func copy(into destination: UnsafeMutableRawBufferPointer) {
        for index in destination.indices {
            destination[index] = unit[(offset + index) % unit.count]
        }
        offset += destination.count
    }

    func rest() -> ByteBuffer {
        let begun = offset % unit.count
        return begun == 0 ? ByteBuffer() : ByteBuffer(bytes: unit[begun...])
    }
}
