// Opens a client's connection: name resolution and happy eyeballs by NIO, TLS where the target
// has it, then HTTP/2. Knows no call.

import HTTP2
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

struct ClientConnector {
    let target: GRPCTarget
    let options: GRPCChannelOptions
    let eventLoop: any EventLoop

    private static let largestRead = 256 * 1024

    /// What went wrong before there was an error of the system or of TLS.
    enum Failure: Error, CustomStringConvertible {
        case timedOut
        case noHTTP2
        case closedAtOnce
        /// What was given for TLS cannot be used.
        case noTLS(String)

        var description: String {
            switch self {
            case .timedOut: "it took too long"
            case .noHTTP2: "the server does not speak HTTP/2 over TLS"
            case .closedAtOnce: "the server closed the connection before it said anything"
            case .noTLS(let reason): "what was given for TLS cannot be used: \(reason)"
            }
        }
    }

    /// A connection that calls may be opened on: the server has sent its settings. What it
    /// loses before was never sent a call.
    func connect(core: ChannelCore) -> EventLoopFuture<ClientConnection> {
        let tls: NIOSSLContext?
        do {
            tls = try makeTLS()
        } catch {
            return eventLoop.makeFailedFuture(Failure.noTLS(String(describing: error)))
        }
        let ready = eventLoop.makePromise(of: NIOLoopBound<ClientConnection>.self)
        let timeout = options.connectTimeout.timeAmount
        let timer = eventLoop.scheduleTask(in: timeout) { ready.fail(Failure.timedOut) }
        ready.futureResult.assumeIsolated().whenComplete { _ in timer.cancel() }
        let bootstrap = ClientBootstrap(group: eventLoop)
            .connectTimeout(timeout)
            .channelOption(
                .writeBufferWaterMark,
                value: ChannelOptions.Types.WriteBufferWaterMark(low: 1, high: 1)
            )
            .channelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(
                    minimum: 2048, initial: 16 * 1024, maximum: Self.largestRead)
            )
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let tls {
                        try pipeline.addHandler(
                            NIOSSLClientHandler(context: tls, serverHostname: serverName))
                        try pipeline.addHandler(ClientTLSGate(core: core, ready: ready))
                    }
                }
            }
        let opened: EventLoopFuture<any Channel>
        switch target {
        case .http(let host, let port), .https(let host, let port):
            opened = bootstrap.channelOption(.tcpOption(.tcp_nodelay), value: 1)
                .connect(host: host, port: port)
        case .unix(let path):
            opened = bootstrap.connect(unixDomainSocketPath: path)
        }
        let hasTLS = tls != nil
        opened.whenComplete { result in
            switch result {
            case .failure(let error): ready.fail(error)
            case .success(let channel):
                ready.futureResult.whenFailure { _ in channel.close(promise: nil) }
                channel.closeFuture.whenComplete { _ in ready.fail(Failure.closedAtOnce) }
                if !hasTLS { Self.speakHTTP2(channel, core, ready) }
            }
        }
        return ready.futureResult.assumeIsolated().map { $0.value }.nonisolated()
    }

    static func speakHTTP2(
        _ channel: any Channel, _ core: ChannelCore,
        _ ready: EventLoopPromise<NIOLoopBound<ClientConnection>>
    ) {
        let connection = ClientConnection(core: core, ready: ready)
        do {
            try channel.pipeline.syncOperations.addHandler(
                HTTP2Handler(
                    role: .client, configuration: core.http2, output: core.output,
                    delegate: connection))
        } catch {
            ready.fail(error)
        }
    }

    /// The name for SNI and verification; an address is verified as one, and has no SNI.
    private var serverName: String? {
        if let name = options.tls.serverName { return name }
        guard case .https(let host, _) = target else { return nil }
        let isAddress = (try? SocketAddress(ipAddress: host, port: 0)) != nil
        return isAddress ? nil : host
    }

    private func makeTLS() throws -> NIOSSLContext? {
        guard case .https = target else { return nil }
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.minimumTLSVersion = .tlsv12
        tls.applicationProtocols = ["h2"]
        if let roots = options.tls.roots { tls.trustRoots = .certificates(roots) }
        tls.certificateChain = options.tls.certificates.map { .certificate($0) }
        if let key = options.tls.key { tls.privateKey = .privateKey(key) }
        return try NIOSSLContext(configuration: tls)
    }
}

/// Waits for TLS to be agreed upon, then makes way for HTTP/2.
private final class ClientTLSGate: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer

    private let core: ChannelCore
    private let ready: EventLoopPromise<NIOLoopBound<ClientConnection>>

    init(core: ChannelCore, ready: EventLoopPromise<NIOLoopBound<ClientConnection>>) {
        self.core = core
        self.ready = ready
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case TLSUserEvent.handshakeCompleted(let negotiated)? = event as? TLSUserEvent else {
            context.fireUserInboundEventTriggered(event)
            return
        }
        guard negotiated == "h2" else {
            ready.fail(ClientConnector.Failure.noHTTP2)
            context.close(promise: nil)
            return
        }
        ClientConnector.speakHTTP2(context.channel, core, ready)
        context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        ready.fail(error)
        context.close(promise: nil)
    }
}
