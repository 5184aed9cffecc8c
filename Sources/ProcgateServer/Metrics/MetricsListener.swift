// Serves the metrics over HTTP/1.1: `GET /metrics`, and nothing else. It asks nobody who they
// are, so that it listens where only this host reaches it.

import CoreMetrics
import GRPCWire
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// A bound address where metrics can be scraped.
final class MetricsListener: Sendable {
    let address: ListenAddress
    private let channel: any Channel
    private let socket: SocketFile?

    /// Of one request's head.
    private static let headerBytes = 16 * 1024
    private static let headerFields = 64
    private static let mostConnections = 32

    private init(_ channel: any Channel, _ address: ListenAddress, _ socket: SocketFile? = nil) {
        self.channel = channel
        self.address = address
        self.socket = socket
    }

    static func start(
        _ address: ListenAddress, group: any EventLoopGroup, metrics: GatewayMetrics,
        worker: Worker
    ) async throws -> MetricsListener {
        let visitors = Visitors(limit: Self.mostConnections)
        let census = CensusSource(worker)
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard visitors.enter() else { throw ChannelError.eof }
                    channel.closeFuture.whenComplete { _ in visitors.leave() }
                    var limits = NIOHTTPDecoderLimitConfiguration()
                    limits.maxHeaderFieldSize = Self.headerBytes
                    limits.maxHeaderListSize = Self.headerBytes
                    limits.maxHeaderFieldCount = Self.headerFields
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.configureHTTPServerPipeline(
                        withEncoderConfiguration: .init(),
                        withDecoderLimitConfiguration: limits)
                    try pipeline.addHandler(MetricsHandler(metrics: metrics, census: census))
                }
            }
        switch address {
        case .tcp(let host, let port):
            let channel = try await bootstrap.bind(host: host, port: port).get()
            let bound = channel.localAddress?.port ?? port
            return MetricsListener(channel, .tcp(host: host, port: bound))
        case .unix(let path):
            let channel = try await bootstrap.serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try SocketFile.restrictToOwner(channel.pipeline.syncOperations)
                }
            }.bind(unixDomainSocketPath: path, cleanupExistingSocketFile: true).get()
            SocketMode.restrict(path)
            return MetricsListener(channel, address, SocketFile(at: path))
        }
    }

    func close() async {
        if channel.isActive { socket?.remove() }
        // It fails only where it is closed already.
        try? await channel.close()
    }
}

/// How many connections there are.
private final class Visitors: Sendable {
    private let limit: Int
    private let count = Atomic<Int>(0)

    init(limit: Int) {
        self.limit = limit
    }

    /// False where there are too many already.
    func enter() -> Bool {
        guard count.wrappingAdd(1, ordering: .relaxed).newValue > limit else { return true }
        leave()
        return false
    }

    func leave() { count.wrappingSubtract(1, ordering: .relaxed) }
}

/// Answers one request after the other.
private final class MetricsHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    /// From the connection's begin to its first request, complete.
    private static let firstRequestTime = TimeAmount.seconds(10)
    /// From one answer to the next request, complete: scrapes are seldom a minute apart.
    private static let nextRequestTime = TimeAmount.seconds(120)

    private let metrics: GatewayMetrics
    private let census: CensusSource
    private var request: HTTPRequestHead?
    private var timeout: Scheduled<Void>?

    init(metrics: GatewayMetrics, census: CensusSource) {
        self.metrics = metrics
        self.census = census
    }

    func handlerAdded(context: ChannelHandlerContext) {
        expectRequest(context, within: Self.firstRequestTime)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        timeout?.cancel()
    }

    /// Nothing that comes meanwhile gives more time, but a whole request.
    private func expectRequest(_ context: ChannelHandlerContext, within time: TimeAmount) {
        let channel = context.channel
        timeout?.cancel()
        timeout = context.eventLoop.scheduleTask(in: time) { channel.close(promise: nil) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): request = head
        case .body: break
        case .end: answer(context)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private func answer(_ context: ChannelHandlerContext) {
        guard let request else { return }
        self.request = nil
        expectRequest(context, within: Self.nextRequestTime)
        guard request.uri.prefix(while: { $0 != "?" }) == "/metrics" else {
            return respond(context, request, .notFound, "metrics are at /metrics\n")
        }
        guard request.method == .GET || request.method == .HEAD else {
            return respond(context, request, .methodNotAllowed, "only GET\n")
        }
        let channel = context.channel
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        census.census().hop(to: context.eventLoop).whenSuccess { census in
            let (handler, context) = bound.value
            guard channel.isActive else { return }
            let text = handler.metrics.text(census, restarts: handler.census.restarts)
            handler.respond(context, request, .ok, text)
        }
    }

    private func respond(
        _ context: ChannelHandlerContext, _ request: HTTPRequestHead,
        _ status: HTTPResponseStatus, _ text: String
    ) {
        let body = ByteBuffer(string: text)
        var head = HTTPResponseHead(version: request.version, status: status)
        head.headers.add(name: "content-type", value: "text/plain; version=0.0.4; charset=utf-8")
        head.headers.add(name: "content-length", value: String(body.readableBytes))
        if status == .methodNotAllowed { head.headers.add(name: "allow", value: "GET, HEAD") }
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        if request.method != .HEAD {
            context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        }
        let keeps = request.isKeepAlive
        let written = context.eventLoop.makePromise(of: Void.self)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: written)
        let channel = context.channel
        if !keeps { written.futureResult.whenComplete { _ in channel.close(promise: nil) } }
    }
}
