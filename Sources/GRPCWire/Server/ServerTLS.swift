// A server's certificate and how clients are verified, replaceable while connections live.

public import NIOSSL
import Synchronization

/// TLS of a listener: at least 1.2, ALPN `h2` and nothing else.
public final class ServerTLS: Sendable {
    /// What is read from files, or made in tests.
    public struct Material: Sendable {
        /// The server's certificate first, then its chain.
        public var certificates: [NIOSSLCertificate]
        public var key: NIOSSLPrivateKey
        /// Roots that client certificates must come from; nil: none is asked for.
        public var clientRoots: [NIOSSLCertificate]?

        public init(
            certificates: [NIOSSLCertificate], key: NIOSSLPrivateKey,
            clientRoots: [NIOSSLCertificate]? = nil
        ) {
            self.certificates = certificates
            self.key = key
            self.clientRoots = clientRoots
        }

        /// Reads PEM files. Fails with NIOSSL's errors where one is missing or damaged.
        public init(
            certificateFile: String, keyFile: String, clientRootsFile: String? = nil
        ) throws {
            certificates = try NIOSSLCertificate.fromPEMFile(certificateFile)
            key = try NIOSSLPrivateKey(file: keyFile, format: .pem)
            clientRoots = try clientRootsFile.map(NIOSSLCertificate.fromPEMFile)
        }
    }

    private let current: Mutex<NIOSSLContext>

    /// - Throws: NIOSSL's errors, where key and certificate do not belong together.
    public init(_ material: Material) throws {
        current = Mutex(try Self.makeContext(material))
    }

    /// Connections accepted from now on use `material`; those that are open go on.
    public func replace(with material: Material) throws {
        let context = try Self.makeContext(material)
        current.withLock { $0 = context }
    }

    var context: NIOSSLContext { current.withLock { $0 } }

    private static func makeContext(_ material: Material) throws -> NIOSSLContext {
        var tls = TLSConfiguration.makeServerConfiguration(
            certificateChain: material.certificates.map { .certificate($0) },
            privateKey: .privateKey(material.key))
        tls.minimumTLSVersion = .tlsv12
        tls.applicationProtocols = ["h2"]
        // A peer that does not answer the end of TLS must not hold up the server's.
        tls.shutdownTimeout = .seconds(1)
        if let roots = material.clientRoots {
            tls.trustRoots = .certificates(roots)
            tls.certificateVerification = .noHostnameVerification
        }
        return try NIOSSLContext(configuration: tls)
    }
}
