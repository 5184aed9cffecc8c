// A server and a client of it on the loopback, in this process.

import GRPCProtos
import GRPCWire
import NIOCore
import NIOPosix
import Protobuf
import Synchronization

/// What the tests' calls carry.
typealias Letter = AnyMessage

extension AnyMessage {
    init(_ text: String, bytes: [UInt8] = []) {
        self.init()
        typeUrl = text
        value = bytes
    }
}

enum Post {
    static func method(
        _ name: String, _ kind: StreamingKind
    ) -> MethodDescriptor<Letter, Letter> {
        MethodDescriptor(
            service: "test.Post", name: name, path: "/test.Post/\(name)", kind: kind)
    }

    static let echo = method("Echo", .unary)
    static let count = method("Count", .serverStreaming)
    static let join = method("Join", .clientStreaming)
    static let chat = method("Chat", .bidirectional)
}

/// Something that tests wait for, set from anywhere.
final class Signal<Value: Sendable>: Sendable {
    private let stream: AsyncStream<Value>
    private let continuation: AsyncStream<Value>.Continuation

    init() {
        (stream, continuation) = AsyncStream.makeStream()
    }

    func send(_ value: Value) {
        continuation.yield(value)
    }

    /// The next value; waits for it as long as the test may take.
    func next() async -> Value? {
        var iterator = stream.makeAsyncIterator()
        return await iterator.next()
    }
}

struct Loopback: Sendable {
    let server: GRPCServer
    let target: GRPCTarget
    let group: any EventLoopGroup

    func makeChannel(_ options: GRPCChannelOptions = GRPCChannelOptions()) -> GRPCChannel {
        GRPCChannel(target, options: options, group: group)
    }
}

func withServer<R: Sendable>(
    _ methods: [ServerMethod], configuration: ServerConfiguration = ServerConfiguration(),
    _ body: (Loopback) async throws -> R
) async throws -> R {
    let group = MultiThreadedEventLoopGroup.singleton
    let server = try await GRPCServer.start(
        [Listener(.tcp(host: "127.0.0.1", port: 0))], configuration: configuration, group: group
    ) { _ in ServiceRouter(methods) }
    guard case .tcp(let host, let port) = server.addresses[0] else { fatalError() }
    let result: Result<R, any Error>
    do {
        result = .success(
            try await body(
                Loopback(server: server, target: .http(host: host, port: port), group: group)))
    } catch {
        result = .failure(error)
    }
    await server.stopNow()
    return try result.get()
}

/// A server with these methods, and a channel to it.
func withChannel<R: Sendable>(
    _ methods: [ServerMethod], configuration: ServerConfiguration = ServerConfiguration(),
    options: GRPCChannelOptions = GRPCChannelOptions(),
    _ body: (GRPCChannel) async throws -> R
) async throws -> R {
    try await withServer(methods, configuration: configuration) { loopback in
        let channel = loopback.makeChannel(options)
        let result: Result<R, any Error>
        do { result = .success(try await body(channel)) } catch { result = .failure(error) }
        await channel.close()
        return try result.get()
    }
}

/// The status that `body` throws; OK where it throws none.
func status(of body: () async throws(GRPCStatus) -> Void) async -> GRPCStatus {
    do throws(GRPCStatus) {
        try await body()
        return .ok
    } catch {
        return error
    }
}
