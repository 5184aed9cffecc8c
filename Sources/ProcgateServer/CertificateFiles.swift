// The TLS files of the command line, read when the gateway starts and at each reload.

import GRPCWire

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

    func read() throws(GatewayError) -> ServerTLS.Material {
        do {
            return try ServerTLS.Material(
                certificateFile: certificate, keyFile: key, clientRootsFile: clientAuthority)
        } catch {
            throw GatewayError(
                "\(certificate), \(key): not a PEM certificate and its key: \(error)")
        }
    }

    func load() throws(GatewayError) -> ServerTLS {
        let material = try read()
        do {
            return try ServerTLS(material)
        } catch {
            throw GatewayError("\(certificate), \(key): do not belong together: \(error)")
        }
    }
}
