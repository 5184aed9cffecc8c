// Peers that begin what they do not end.

import GRPCWire
import NIOCore
import NIOPosix
import Testing

@Suite(.timeLimit(.minutes(1))) struct SlowPeerTests {
    private static let preface =
        Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0]

    /// Sends `opening`, then a byte now and again, until the server closes the connection.
    private func drip(_ opening: [UInt8], goesOn: Bool = true) async throws {
        var configuration = ServerConfiguration()
        configuration.limits.requestTime = .seconds(1)
        configuration.limits.handshakeTime = .seconds(1)
        try await withServer([CallTests.echo], configuration: configuration) { loopback in
            guard case .http(let host, let port) = loopback.target else { return }
            let channel = try await ClientBootstrap(group: loopback.group)
                .connect(host: host, port: port).get()
            try await channel.writeAndFlush(ByteBuffer(bytes: opening))
            let dripping = channel.eventLoop.scheduleRepeatedTask(
                initialDelay: .milliseconds(10), delay: .milliseconds(10)
            ) { _ in
                guard goesOn else { return }
                channel.writeAndFlush(ByteBuffer(bytes: [0x88]), promise: nil)
            }
            try await channel.closeFuture.get()
            dripping.cancel()
        }
    }

    @Test func aHeaderThatDoesNotEndEndsTheConnection() async throws {
        // 16,000 bytes of HEADERS, which are not the last.
        try await drip(Self.preface + [0, 0x3e, 0x80, 1, 0, 0, 0, 0, 1])
    }

    @Test func aFrameThatDoesNotEndEndsTheConnection() async throws {
        // 16,000 bytes of a type that is passed over.
        try await drip(Self.preface + [0, 0x3e, 0x80, 0x42, 0, 0, 0, 0, 0])
    }

    @Test func aPrefaceThatDoesNotEndEndsTheConnection() async throws {
        try await drip(Array(Self.preface.prefix(12)), goesOn: false)
    }
}
