// A proxy that fails: it passes bytes on for a while, then cuts the connection or falls silent.

import NIOCore
import NIOPosix
import Synchronization

/// Between a client and a gateway, on a free port of loopback.
final class FaultyProxy: Sendable {
    enum Fault: Sendable {
        /// Closes both sides at any byte.
        case cut
        /// Passes nothing on any more, and keeps both sides open.
        case silence
        /// Closes the client's side. What that has sent is slow, and reaches the gateway later,
        /// whose side is closed after that.
        case late
    }

    let port: Int
    private let server: any Channel
    private let faults: Counter

    final class Counter: Sendable {
        let count = Mutex(0)
    }

    /// How often it has failed so far.
    var faultCount: Int { faults.count.withLock { $0 } }

    /// - Parameter bytes: Passed on by a connection, both ways together, until it fails.
    init(to target: Int, fault: Fault, after bytes: ClosedRange<Int>) async throws {
        let faults = Counter()
        self.faults = faults
        server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { inbound in
                let limit = Int.random(in: bytes)
                return ClientBootstrap(group: inbound.eventLoop)
                    .channelOption(.autoRead, value: false)
                    .connect(host: "127.0.0.1", port: target)
                    .flatMapThrowing { outbound in
                        let allowance = Allowance(
                            left: limit, fault: fault, faults: faults, ends: [inbound, outbound])
                        try inbound.pipeline.syncOperations.addHandler(
                            Passage(to: outbound, allowance, isRequest: true))
                        try outbound.pipeline.syncOperations.addHandler(
                            Passage(to: inbound, allowance, isRequest: false))
                    }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        port = server.localAddress?.port ?? 0
    }

    var address: String { "http://127.0.0.1:\(port)" }

    func stop() async throws {
        try await server.close()
    }
}

/// What a connection may still pass on. Confined to the event loop of its two ends.
private final class Allowance: @unchecked Sendable {
    private var left: Int
    private let fault: FaultyProxy.Fault
    private let faults: FaultyProxy.Counter
    private let ends: [any Channel]
    private(set) var isSilent = false

    init(left: Int, fault: FaultyProxy.Fault, faults: FaultyProxy.Counter, ends: [any Channel]) {
        self.left = left
        self.fault = fault
        self.faults = faults
        self.ends = ends
    }

    /// What of `count` bytes still goes through.
    func take(_ count: Int) -> Int {
        let taken = min(left, count)
        left -= taken
        if left == 0, !isSilent {
            isSilent = true
            faults.count.withLock { $0 += 1 }
        }
        return isSilent && fault == .silence && taken < count ? 0 : taken
    }

    func failNow() {
        guard isSilent else { return }
        switch fault {
        case .cut: for end in ends { end.close(promise: nil) }
        case .silence: break
        case .late:
            ends[0].close(promise: nil)
            let end = ends[1]
            end.eventLoop.scheduleTask(in: .milliseconds(600)) { end.close(promise: nil) }
        }
    }

    /// Until something goes on, of the client's where `isRequest`; asked again when it is over.
    func delay(isRequest: Bool, hasWaited: Bool) -> TimeAmount? {
        guard fault == .late, isRequest else { return nil }
        guard hasWaited else { return .milliseconds(20) }
        return isSilent ? .milliseconds(300) : nil
    }
}

private final class Passage: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let other: any Channel
    private let allowance: Allowance
    private let isRequest: Bool

    init(to other: any Channel, _ allowance: Allowance, isRequest: Bool) {
        self.other = other
        self.allowance = allowance
        self.isRequest = isRequest
    }

    func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { context.read() }
    }

    func channelActive(context: ChannelHandlerContext) {
        context.read()
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        let count = allowance.take(bytes.readableBytes)
        guard count > 0, let part = bytes.readSlice(length: count) else {
            allowance.failNow()
            return
        }
        if let delay = allowance.delay(isRequest: isRequest, hasWaited: false) {
            if allowance.isSilent { allowance.failNow() } else { context.read() }
            return pass(part, in: delay, on: context.eventLoop)
        }
        let allowance = allowance
        let loop = context.eventLoop
        let channel = context.channel
        other.writeAndFlush(part).hop(to: loop).whenComplete { _ in
            allowance.failNow()
            if !allowance.isSilent { channel.read() }
        }
    }

    private func pass(_ bytes: ByteBuffer, in delay: TimeAmount, on loop: any EventLoop) {
        let (other, allowance) = (other, allowance)
        loop.scheduleTask(in: delay) {
            guard let more = allowance.delay(isRequest: true, hasWaited: true) else {
                return other.writeAndFlush(bytes, promise: nil)
            }
            loop.scheduleTask(in: more) { other.writeAndFlush(bytes, promise: nil) }
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        if !allowance.isSilent { other.close(promise: nil) }
    }
}
