// How a gRPC server listens and what it holds its peers to. Only values.

public import HTTP2
public import NIOCore
public import Protobuf

/// Where a server listens.
public enum ListenAddress: Sendable, Equatable, CustomStringConvertible {
    /// A host name or a literal address of either family, without brackets; port 0 takes a free
    /// one.
    case tcp(host: String, port: Int)
    /// A path of at most 107 bytes. A stale socket there is removed.
    case unix(path: String)

    public var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }
}

/// One address, with or without TLS.
public struct Listener: Sendable {
    public var address: ListenAddress
    public var tls: ServerTLS?

    public init(_ address: ListenAddress, tls: ServerTLS? = nil) {
        self.address = address
        self.tls = tls
    }
}

/// What a server allows one connection and one call.
public struct ServerLimits: Sendable, Equatable {
    /// Largest request message, after decompression: 16 MiB.
    public var messageBytes = 16 * 1024 * 1024
    /// The windows of a stream whose caller sends many messages, or a large one, and of its
    /// connection.
    public var grownWindowBytes = 1024 * 1024
    /// What one connection makes the server hold: bytes of requests until their handlers have
    /// released them, and of responses until they are sent. At least twice ``messageBytes``, so
    /// that the largest message fits. At the limit the peer gets no window, and no further
    /// response is produced.
    public var connectionMemoryBytes = 64 * 1024 * 1024
    /// What all connections together hold beyond 256 KiB each. A quarter of it is for windows
    /// that have grown.
    public var memoryBytes = 256 * 1024 * 1024
    /// Connections at once; more are closed as they come.
    public var connections = 1024
    /// Bytes of one call's answers that wait to be sent, before `send` waits.
    public var queuedBytes = 64 * 1024
    /// From the connection's begin to HTTP/2 being spoken on it.
    public var handshakeTime = TimeAmount.seconds(10)
    /// From a request's first frame to its (first) message being complete; the time that a
    /// handler does not ask for it is not counted against the caller.
    public var requestTime = TimeAmount.seconds(30)
    /// A connection without calls for that long is drained. Nil: never.
    public var idleTime: TimeAmount? = .minutes(30)
    /// How often a connection is asked for a sign of life, where nothing comes from it. Nil: never.
    public var keepAliveInterval: TimeAmount? = .seconds(20)
    /// How long such an answer may take.
    public var keepAliveTimeout = TimeAmount.seconds(10)

    public init() {}
}

/// What a finished call was, for logs and metrics.
public struct CallSummary: Sendable {
    public let path: String
    /// Whether a handler exists for the path: an unknown one must not become a metric's label.
    public let isKnownMethod: Bool
    public let peer: PeerIdentity
    /// Whom the interceptor found the caller to be.
    public let principal: String?
    public let code: GRPCCode
    public let message: String
    public let cancellation: CancellationCause?
    public let duration: TimeAmount
    public let messagesIn: Int
    public let messagesOut: Int
    public let bytesIn: Int
    public let bytesOut: Int
    /// What the handler left for the log: see ``ServerCall/note``.
    public let note: String?
}

/// What happens to connections, for logs and metrics.
public enum ConnectionEvent: Sendable {
    case opened(PeerIdentity)
    case closed(PeerIdentity, reason: String?)
    /// More connections than ``ServerLimits/connections``.
    case refused
    /// The peer went over a limit of ``HTTP2Limits``.
    case flooded(PeerIdentity, HTTP2Flood)
    /// TLS or the protocol could not be agreed upon.
    case handshakeFailed(String)
}

public struct ServerConfiguration: Sendable {
    public typealias Interceptor = @Sendable (ServerCall) throws(GRPCStatus) -> Void

    public var limits = ServerLimits()
    /// Connections and streams begin with small windows: see ``ServerLimits/grownWindowBytes``.
    public var http2: HTTP2Configuration = {
        var http2 = HTTP2Configuration()
        http2.streamWindowBytes = 65_535
        http2.connectionWindowBytes = 65_535
        http2.creditsConnectionOnReceipt = false
        return http2
    }()
    /// Run before each handler, on the call's event loop; what it throws is the call's status.
    public var interceptor: Interceptor?
    /// Called at each call's begin, on its event loop; `observer` is told of its end.
    public var beginObserver: (@Sendable () -> Void)?
    /// Called once at each call's end, on its event loop.
    public var observer: (@Sendable (CallSummary) -> Void)?
    public var connectionObserver: (@Sendable (ConnectionEvent) -> Void)?
    /// Called on an event loop a second after connections have released many bytes: time to
    /// return free memory to the system.
    public var memoryObserver: (@Sendable () -> Void)?
    /// The status of a request that cannot be decoded, where INTERNAL with a text is not wanted.
    public var decodingFailure: (@Sendable (_ message: String, ProtobufError) -> GRPCStatus?)?

    public init() {}
}
