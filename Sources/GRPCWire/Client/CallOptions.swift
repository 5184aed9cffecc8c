// What a caller says of one call, and of a channel. Only values.

import NIOCore
public import NIOSSL

/// What is said of one call.
public struct CallOptions: Sendable {
    public var metadata: Metadata
    /// From now to the status; sent to the server as `grpc-timeout`. Nil: no deadline.
    public var timeout: Duration?
    /// How this call's own messages are compressed.
    public var compression: CompressionAlgorithm
    /// Wait for a connection instead of failing when one cannot be made.
    public var waitForReady: Bool
    /// Largest message accepted; nil: the channel's.
    public var maxMessageBytes: Int?

    public init(
        metadata: Metadata = Metadata(), timeout: Duration? = nil,
        compression: CompressionAlgorithm = .identity, waitForReady: Bool = false,
        maxMessageBytes: Int? = nil
    ) {
        self.metadata = metadata
        self.timeout = timeout
        self.compression = compression
        self.waitForReady = waitForReady
        self.maxMessageBytes = maxMessageBytes
    }
}

/// Where a server is.
public enum GRPCTarget: Sendable, Equatable {
    case http(host: String, port: Int)
    case https(host: String, port: Int)
    case unix(path: String)

    /// `http://host:port`, `https://host:port`, `unix:/path`, or `host:port`, which is http.
    /// IPv6 literals stand in brackets. Nil for anything else.
    public init?(_ text: String) {
        for prefix in ["unix://", "unix:"] where text.hasPrefix(prefix) {
            let path = String(text.dropFirst(prefix.count))
            guard path.hasPrefix("/") else { return nil }
            self = .unix(path: path)
            return
        }
        var rest = Substring(text)
        var isTLS = false
        if rest.hasPrefix("http://") {
            rest = rest.dropFirst(7)
        } else if rest.hasPrefix("https://") {
            rest = rest.dropFirst(8)
            isTLS = true
        } else if rest.contains("://") {
            return nil
        }
        if rest.hasSuffix("/") { rest = rest.dropLast() }
        guard let (host, port) = Self.split(rest, defaultPort: isTLS ? 443 : 80) else {
            return nil
        }
        self = isTLS ? .https(host: host, port: port) : .http(host: host, port: port)
    }

    private static func split(_ text: Substring, defaultPort: Int) -> (String, Int)? {
        guard !text.contains("/") else { return nil }
        var host = text
        var port: Substring?
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else { return nil }
            host = text[text.index(after: text.startIndex)..<end]
            let after = text[text.index(after: end)...]
            if after.hasPrefix(":") {
                port = after.dropFirst()
            } else if !after.isEmpty {
                return nil
            }
        } else if let colon = text.lastIndex(of: ":") {
            host = text[..<colon]
            port = text[text.index(after: colon)...]
            guard !host.contains(":") else { return nil }
        }
        guard !host.isEmpty else { return nil }
        guard let port else { return (String(host), defaultPort) }
        guard let number = Int(port), (1...65535).contains(number) else { return nil }
        return (String(host), number)
    }

    /// What stands in `:authority`.
    var authority: String {
        switch self {
        case .http(let host, let port), .https(let host, let port):
            host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix: "localhost"
        }
    }

    var scheme: String {
        if case .https = self { "https" } else { "http" }
    }
}

extension GRPCTarget: CustomStringConvertible {
    /// As it is written: `https://host:port`, `unix:/path`.
    public var description: String {
        if case .unix(let path) = self { return "unix:\(path)" }
        return "\(scheme)://\(authority)"
    }
}

/// How a client verifies a server, and shows who it is.
public struct ClientTLS: Sendable {
    /// Roots that the server's certificate must come from; nil: the system's.
    public var roots: [NIOSSLCertificate]?
    /// The client's own certificate and its chain; empty: none.
    public var certificates: [NIOSSLCertificate] = []
    public var key: NIOSSLPrivateKey?
    /// The name to ask for and to verify; nil: the target's host.
    public var serverName: String?

    public init() {}
}

/// How a channel keeps its connection.
public struct GRPCChannelOptions: Sendable {
    public var tls = ClientTLS()
    /// For name resolution, TCP and TLS together.
    public var connectTimeout = Duration.seconds(10)
    /// Upper bounds of the random wait before connecting again; doubled from the first to the
    /// second with each failure.
    public var firstBackoff = Duration.milliseconds(50)
    public var longestBackoff = Duration.seconds(3)
    /// With calls open and nothing received for that long, the peer is asked for a sign of life.
    /// Nil: never.
    public var keepAliveInterval: Duration? = .seconds(20)
    /// How long the answer may take before the connection is given up.
    public var keepAliveTimeout = Duration.seconds(10)
    /// A connection without calls is closed after that. Nil: never.
    public var idleTimeout: Duration? = .seconds(300)
    /// Calls beyond what the server takes on one connection go to another, up to so many: calls
    /// that last would else keep short ones waiting for ever.
    public var mostConnections = 32
    /// A connection beyond the first is closed once it had no call for that long.
    public var extraIdleTimeout = Duration.seconds(10)
    /// Largest message accepted, after decompression.
    public var maxMessageBytes = 64 * 1024 * 1024
    /// Messages of one call that wait for their reader, in bytes; beyond, the server is held back.
    public var bufferedBytes = 512 * 1024
    /// Messages of one call that wait to be sent, in bytes; beyond, `send` waits.
    public var queuedBytes = 256 * 1024
    /// `user-agent`.
    public var userAgent = "procgate-swift"

    public init() {}
}

extension Duration {
    /// As NIO counts time; saturated.
    var timeAmount: TimeAmount {
        let (seconds, attoseconds) = components
        guard seconds < 3_000_000_000 else { return .nanoseconds(3_000_000_000_000_000_000) }
        return .nanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }
}
