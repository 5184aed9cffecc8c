// How a connection is secured. Reads no file: that is done when the connection is set up.

/// For `https://` addresses: whom to trust, and who the caller is. The default is the system's
/// roots, and no client certificate.
public struct SandboxTLS: Sendable, Hashable {
    /// PEM, in a file or in memory.
    public enum PEM: Sendable, Hashable {
        /// The path of a file.
        case file(String)
        /// The text itself.
        case bytes([UInt8])
    }

    /// The roots to trust in place of the system's.
    public var roots: PEM?
    /// The caller's certificate, with its chain.
    public var certificate: PEM?
    /// The private key that belongs to it.
    public var key: PEM?
    /// The name that the gateway's certificate has to have, where it is not the address's. One
    /// that is for the IP address that is connected to will do, too.
    public var serverName: String?

    /// The default: the system's roots, and no client certificate.
    public init(
        roots: PEM? = nil, certificate: PEM? = nil, key: PEM? = nil, serverName: String? = nil
    ) {
        self.roots = roots
        self.certificate = certificate
        self.key = key
        self.serverName = serverName
    }
}
