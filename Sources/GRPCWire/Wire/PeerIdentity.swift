// Who is at the other end of a connection, as far as the transport can tell.

/// The other end of a connection, as the transport knows it.
public struct PeerIdentity: Sendable, Equatable {
    /// Credentials of a process at the other end of a unix socket.
    public struct UnixCredentials: Sendable, Equatable {
        public let processID: Int32
        public let userID: UInt32
        public let groupID: UInt32

        public init(processID: Int32, userID: UInt32, groupID: UInt32) {
            self.processID = processID
            self.userID = userID
            self.groupID = groupID
        }
    }

    /// "127.0.0.1:40312", "[::1]:40312", "unix:/run/x.sock".
    public var address: String
    /// Of every peer of a unix socket, as its host.
    static let unixHost = "unix"
    /// The address without the port: what rate limits are kept by.
    public var host: String
    public var unix: UnixCredentials?
    public var isTLS = false
    /// The verified client certificate's subject.
    public var certificate: CertificateSubject?

    public init(address: String, host: String) {
        self.address = address
        self.host = host
    }
}
