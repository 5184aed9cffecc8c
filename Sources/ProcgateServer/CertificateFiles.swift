// The TLS files of the command line, read when the gateway starts and at each reload.

import GRPCWire
import Glibc
import NIOCore
import NIOSSL

/// PEM files: the certificate with its chain, its key, and whom clients must be
/// certified by.
public struct CertificateFiles: Sendable {
    public var certificate: String
    public var key: String
    /// `nil`: clients need no certificate.
    public var clientAuthority: String?

    public init(certificate: String, key: String, clientAuthority: String?) {
        self.certificate = certificate
        self.key = key
        self.clientAuthority = clientAuthority
    }

    var paths: [String] { [certificate, key] + [clientAuthority].compactMap { $0 } }

    /// - Throws: An error that names the file and the cause.
    func read() throws(GatewayError) -> ServerTLS.Material {
        let chain = try Self.certificates(in: certificate)
        guard !chain.isEmpty else {
            throw GatewayError("\(certificate): there is no certificate in it")
        }
        let privateKey: NIOSSLPrivateKey
        do {
            privateKey = try NIOSSLPrivateKey(file: key, format: .pem)
        } catch {
            throw GatewayError("\(key): \(Self.cause(error, "a private key"))")
        }
        return ServerTLS.Material(
            certificates: chain, key: privateKey,
            clientRoots: try clientAuthority.map(Self.certificates))
    }

    /// Reads the files and replaces what `tls` uses. Where that fails, it uses what it did.
    func reload(_ tls: ServerTLS) throws(GatewayError) {
        let material = try read()
        do {
            try tls.replace(with: material)
        } catch {
            throw mismatch(error)
        }
    }

    func load() throws(GatewayError) -> ServerTLS {
        let material = try read()
        do {
            return try ServerTLS(material)
        } catch {
            throw mismatch(error)
        }
    }

    private func mismatch(_ error: any Error) -> GatewayError {
        GatewayError(
            "\(certificate), \(key): the certificate and the key cannot be used together: \(error)")
    }

    private static func certificates(
        in path: String
    ) throws(GatewayError) -> [NIOSSLCertificate] {
        do {
            return try NIOSSLCertificate.fromPEMFile(path)
        } catch {
            throw GatewayError("\(path): \(cause(error, "certificates"))")
        }
    }

    private static func cause(_ error: any Error, _ content: String) -> String {
        guard let error = error as? IOError else {
            return "\(content) in PEM format cannot be read from it: \(error)"
        }
        return String(cString: strerror(error.errnoCode))
    }
}
