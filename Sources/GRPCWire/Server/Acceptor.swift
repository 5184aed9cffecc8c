// Binds a listener and builds the pipeline of each connection that comes: TLS where it has
// it, then HTTP/2.

import HTTP2
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

struct Acceptor: Sendable {
    let services: [ObjectIdentifier: LoopServices]
    let configuration: ServerConfiguration
    let population: Population

    /// Pending connections; what the kernel caps it at is usually less.
    private static let backlog: Int32 = 1024
    private static let smallestRead = 2048
    private static let firstRead = 4096
    private static let largestRead = 64 * 1024

    func bind(_ listener: Listener, group: any EventLoopGroup) async throws -> any Channel {
        let tls = listener.tls
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: Self.backlog)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.maxMessagesPerRead, value: 4)
            // A piece of output must have left for the kernel before the next is made.
            .childChannelOption(
                .writeBufferWaterMark,
                value: ChannelOptions.Types.WriteBufferWaterMark(low: 1, high: 1)
            )
            .childChannelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(
                    minimum: Self.smallestRead, initial: Self.firstRead, maximum: Self.largestRead)
            )
            .serverChannelInitializer { channel in
                // Without a free descriptor it waits a second, rather than to spin.
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AcceptBackoffHandler())
                }
            }
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try accept(channel, tls) }
            }
        switch listener.address {
        case .tcp(let host, let port):
            return try await bootstrap.childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .bind(host: host, port: port).get()
        case .unix(let path):
            try await refuseTaken(path)
            return try await bootstrap.serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(AcceptBackoffHandler())
                    try SocketFile.restrictToOwner(pipeline)
                }
            }.bind(unixDomainSocketPath: path, cleanupExistingSocketFile: true).get()
        }
    }

    /// A socket that somebody answers at is not taken from them.
    private func refuseTaken(_ path: String) async throws {
        let probe = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        guard
            let channel = try? await probe.connect(unixDomainSocketPath: path).get()
        else { return }
        try? await channel.close()
        throw IOError(errnoCode: EADDRINUSE, reason: "bind")
    }

    /// Thrown to have the channel closed by its bootstrap.
    private struct Refused: Error {}

    private func accept(_ channel: any Channel, _ tls: ServerTLS?) throws {
        guard let services = services[ObjectIdentifier(channel.eventLoop)],
            !services.isDraining
        else { throw Refused() }
        guard population.enter() else {
            configuration.connectionObserver?(.refused)
            throw Refused()
        }
        // Whatever becomes of the connection, it is counted down once.
        channel.closeFuture.whenComplete { [population] _ in population.leave() }
        let peer = Self.identify(channel)
        guard let tls else {
            try Self.speakHTTP2(channel, services, peer, isCleartext: true)
            return
        }
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandler(NIOSSLServerHandler(context: tls.context))
        try pipeline.addHandler(TLSGate(services: services, peer: peer))
    }

    static func speakHTTP2(
        _ channel: any Channel, _ services: LoopServices, _ peer: PeerIdentity,
        isCleartext: Bool = false
    ) throws {
        let connection = ServerConnection(services: services, peer: peer)
        var http2 = services.configuration.http2
        // Over a unix socket clients may name its path: grpc-java does so by itself.
        http2.acceptsPathAsAuthority = peer.host == PeerIdentity.unixHost
        try channel.pipeline.syncOperations.addHandler(
            HTTP2Handler(
                role: .server, configuration: http2,
                output: services.output, writesDirectly: isCleartext, delegate: connection))
    }

    private static func identify(_ channel: any Channel) -> PeerIdentity {
        guard let remote = channel.remoteAddress, let host = remote.ipAddress,
            let port = remote.port
        else {
            let path = channel.localAddress?.pathname ?? ""
            var peer = PeerIdentity(address: "unix:\(path)", host: PeerIdentity.unixHost)
            peer.unix = credentials(channel)
            return peer
        }
        let shown = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        return PeerIdentity(address: shown, host: host)
    }

    #if os(Linux)
        private static func credentials(_ channel: any Channel) -> PeerIdentity.UnixCredentials? {
            guard let provider = channel as? any SocketOptionProvider else { return nil }
            let found = NIOLoopBoundBox<SocketCredentials?>(nil, eventLoop: channel.eventLoop)
            let future: EventLoopFuture<SocketCredentials> = provider.unsafeGetSocketOption(
                level: SocketOptionLevel(SOL_SOCKET), name: SocketOptionName(SO_PEERCRED))
            // On the channel's own loop the answer is there at once.
            future.whenSuccess { found.value = $0 }
            return found.value.map {
                PeerIdentity.UnixCredentials(processID: $0.pid, userID: $0.uid, groupID: $0.gid)
            }
        }
    #else
        /// Where the server does not run, and the client is built.
        private static func credentials(_ channel: any Channel) -> PeerIdentity.UnixCredentials? {
            nil
        }
    #endif
}

/// The kernel's `struct ucred`, which Glibc's module does not show.
private struct SocketCredentials: BitwiseCopyable {
    var pid: Int32 = 0
    var uid: UInt32 = 0
    var gid: UInt32 = 0
}

/// Waits for TLS to be agreed upon, then makes way for HTTP/2; closes what speaks anything else.
private final class TLSGate: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer

    private let services: LoopServices
    private var peer: PeerIdentity
    private var timeout: Scheduled<Void>?

    init(services: LoopServices, peer: PeerIdentity) {
        self.services = services
        self.peer = peer
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        services.add(handshaking: channel)
        timeout = context.eventLoop.scheduleTask(
            in: services.configuration.limits.handshakeTime
        ) { channel.close(promise: nil) }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        services.remove(handshaking: context.channel)
        timeout?.cancel()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case TLSUserEvent.handshakeCompleted(let negotiated)? = event as? TLSUserEvent else {
            context.fireUserInboundEventTriggered(event)
            return
        }
        guard negotiated == "h2" else {
            fail(context, "TLS without ALPN h2")
            return
        }
        peer.isTLS = true
        let pipeline = context.channel.pipeline.syncOperations
        if let certificate = try? pipeline.nioSSL_peerCertificate(),
            let der = try? certificate.toDERBytes()
        {
            peer.certificate = CertificateSubject(der: der)
        }
        do {
            try Acceptor.speakHTTP2(context.channel, services, peer)
        } catch {
            fail(context, String(describing: error))
            return
        }
        pipeline.removeHandler(context: context, promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(context, String(describing: error))
    }

    private func fail(_ context: ChannelHandlerContext, _ reason: String) {
        services.configuration.connectionObserver?(.handshakeFailed(reason))
        context.close(promise: nil)
    }
}
