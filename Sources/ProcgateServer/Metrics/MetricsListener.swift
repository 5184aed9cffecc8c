// Serves the metrics over HTTP/1.1: `GET /metrics`, and nothing else.

import CoreMetrics
import GRPCWire
import NIOCore
import NIOHTTP1
import NIOPosix

/// A bound address where metrics can be scraped.
final class MetricsListener: Sendable {
    let address: ListenAddress
    private let channel: any Channel

    private init(_ channel: any Channel, _ address: ListenAddress) {
        self.channel = channel
        self.address = address
    }

    static func start(
        _ address: ListenAddress, group: any EventLoopGroup, metrics: GatewayMetrics,
        workers: [Worker]
    ) async throws -> MetricsListener {
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(
                        MetricsHandler(metrics: metrics, worker: workers[0]))
                }
            }
        switch address {
        case .tcp(let host, let port):
            let channel = try await bootstrap.bind(host: host, port: port).get()
            let bound = channel.localAddress?.port ?? port
            return MetricsListener(channel, .tcp(host: host, port: bound))
        case .unix(let path):
            let channel = try await bootstrap.bind(
                unixDomainSocketPath: path, cleanupExistingSocketFile: true
            ).get()
            return MetricsListener(channel, address)
        }
    }

    func close() async {
        // It fails only where it is closed already.
        try? await channel.close()
    }
}

/// Answers one request after the other.
private final class MetricsHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let metrics: GatewayMetrics
    private let worker: Worker
    private var request: HTTPRequestHead?

    init(metrics: GatewayMetrics, worker: Worker) {
        self.metrics = metrics
        self.worker = worker
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
        guard request.uri.prefix(while: { $0 != "?" }) == "/metrics" else {
            return respond(context, request, .notFound, "metrics are at /metrics\n")
        }
        guard request.method == .GET || request.method == .HEAD else {
            return respond(context, request, .methodNotAllowed, "only GET\n")
        }
        let channel = context.channel
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let refreshed = channel.eventLoop.makePromise(of: Void.self)
        worker.refresh(metrics, refreshed)
        refreshed.futureResult.whenComplete { _ in
            let (handler, context) = bound.value
            guard channel.isActive else { return }
            handler.respond(context, request, .ok, handler.metrics.registry.text())
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
