// Peers that use the HTTP/2 layer by hand, to say what the gRPC layer never would.

import GRPCWire
import HTTP2
import NIOCore
import NIOPosix
import Synchronization

/// Does nothing with what it is told.
class SilentDelegate: HTTP2ConnectionDelegate {
    var connection: HTTP2Handler?

    func connectionStarted(_ connection: HTTP2Handler) { self.connection = connection }
    func headersReceived(_ stream: HTTP2Stream) {}
    func dataReceived(_ stream: HTTP2Stream, _ bytes: ByteBuffer) {
        stream.consume(bytes.readableBytes)
    }
    func trailersReceived(_ stream: HTTP2Stream) {}
    func endReceived(_ stream: HTTP2Stream) {}
    func closed(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode?) {}
    func drained(_ stream: HTTP2Stream) {}
    func bodySent(_ stream: HTTP2Stream) {}
    func settingsReceived() {}
    func pongReceived(_ payload: UInt64) {}
    func goAwayReceived(lastStreamID: Int32, _ code: HTTP2ErrorCode, message: String) {}
    func floodFound(_ flood: HTTP2Flood) {}
    func batchEnded() {}
    func connectionClosed(_ error: (any Error)?) { connection = nil }
}

/// Sends one request without a body, and tells the answer: status, grpc-status, encodings.
final class ManualClient: SilentDelegate {
    private let request: HeaderList
    private let answer: Signal<String>

    private init(_ request: HeaderList, _ answer: Signal<String>) {
        self.request = request
        self.answer = answer
    }

    static func ask(_ target: GRPCTarget, _ request: HeaderList) async throws -> String? {
        guard case .http(let host, let port) = target else { return nil }
        let answer = Signal<String>()
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        HTTP2Handler(
                            role: .client, configuration: HTTP2Configuration(),
                            output: OutputBuffer(), delegate: ManualClient(request, answer)))
                }
            }.connect(host: host, port: port).get()
        let told = await answer.next()
        try? await channel.close()
        return told
    }

    override func connectionStarted(_ connection: HTTP2Handler) {
        super.connectionStarted(connection)
        connection.session.request(request, context: nil)?.end(trailers: nil)
    }

    override func closed(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode?) {
        let fields = [
            stream.headers?.string(":status"),
            stream.headers?.string("grpc-status") ?? stream.trailers?.string("grpc-status"),
        ]
        var told = fields.compactMap { $0 }
        // Of interest where the encoding was refused.
        if stream.headers?.string("grpc-message")?.contains("compressed") == true {
            told.append(stream.headers?.string("grpc-accept-encoding") ?? "-")
        }
        answer.send(told.joined(separator: " "))
    }
}

/// A server that answers each request, counted over all connections, as its script says.
final class ManualServer: Sendable {
    enum Reaction: Sendable {
        case answer
        case refuse
        case goAway
        case http(String)
        case reset(HTTP2ErrorCode)
        case breakOff
    }

    let channel: any Channel
    let requests: Counter

    final class Counter: Sendable {
        private let value = Atomic<Int>(0)
        func next() -> Int { value.wrappingAdd(1, ordering: .relaxed).newValue }
        func load(ordering: AtomicLoadOrdering) -> Int { value.load(ordering: .relaxed) }
    }

    private init(_ channel: any Channel, _ requests: Counter) {
        self.channel = channel
        self.requests = requests
    }

    var target: GRPCTarget {
        .http(host: "127.0.0.1", port: channel.localAddress?.port ?? 0)
    }

    static func start(
        _ script: @escaping @Sendable (Int) -> Reaction
    ) async throws -> ManualServer {
        let counter = Counter()
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        HTTP2Handler(
                            role: .server, configuration: HTTP2Configuration(),
                            output: OutputBuffer(), delegate: Connection(counter, script)))
                }
            }.bind(host: "127.0.0.1", port: 0).get()
        return ManualServer(channel, counter)
    }

    private final class Connection: SilentDelegate {
        private let counter: Counter
        private let script: @Sendable (Int) -> Reaction

        init(_ counter: Counter, _ script: @escaping @Sendable (Int) -> Reaction) {
            self.counter = counter
            self.script = script
        }

        override func endReceived(_ stream: HTTP2Stream) {
            switch script(counter.next()) {
            case .answer:
                stream.respond(ManualServer.head)
                stream.enqueue(ByteBuffer(bytes: [0, 0, 0, 0, 0]))
                stream.end(trailers: ManualServer.trailers)
            case .refuse:
                stream.reset(.refusedStream)
            case .goAway:
                // As if this stream had come too late to be seen.
                stream.reset(.refusedStream)
                connection?.session.goAway(.noError)
            case .http(let status):
                var fields = HeaderListBuilder()
                fields.append(":status", status)
                fields.append("content-type", "text/html")
                stream.respondOnly(HeaderList(fields))
            case .reset(let code):
                stream.reset(code)
            case .breakOff:
                stream.respond(ManualServer.head)
                stream.enqueue(ByteBuffer(bytes: [0, 0, 0, 0, 9, 1]))
                let handler = connection
                let channel = handler?.channel
                channel?.eventLoop.assumeIsolated().execute { handler?.abort() }
            }
        }
    }

    private static let head = HeaderList(immortal: [
        ":status": "200", "content-type": "application/grpc",
    ])
    private static let trailers = HeaderList(immortal: ["grpc-status": "0"])
}

/// Asks for a stream with the largest windows there are, and reads nothing from its socket.
enum GreedyPeer {
    static func connect(to target: GRPCTarget) async throws -> any Channel {
        guard case .http(let host, let port) = target else {
            throw ChannelError.unknownLocalAddress
        }
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.autoRead, value: false)
            .connect(host: host, port: port).get()
        try await channel.writeAndFlush(ByteBuffer(bytes: opening))
        return channel
    }

    /// Preface; SETTINGS with INITIAL_WINDOW_SIZE 2^31-1; a WINDOW_UPDATE for the connection;
    /// the request's fields, and its message, which is empty.
    private static let opening: [UInt8] = {
        func field(_ name: String, _ value: String) -> [UInt8] {
            [0, UInt8(name.utf8.count)] + name.utf8 + [UInt8(value.utf8.count)] + value.utf8
        }
        let block =
            field(":method", "POST") + field(":scheme", "http") + field(":path", "/test.Post/Count")
            + field(":authority", "localhost") + field("content-type", "application/grpc")
        return Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
            + [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]
            + [0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0]
            + [0, 0, UInt8(block.count), 1, 4, 0, 0, 0, 1] + block
            + [0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    }()
}
