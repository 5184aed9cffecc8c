// The channel to a gateway, made of an address. The one file that knows the channel's options.

internal import GRPCWire
internal import NIOCore
internal import NIOPosix
internal import NIOSSL

func makeChannel(
    _ address: String, tls: SandboxTLS?, connectTimeout: Duration,
    group: (any EventLoopGroup)?
) throws(SandboxError) -> GRPCChannel {
    guard let target = GRPCTarget(address) else {
        throw SandboxError(
            .invalidAddress,
            "\"\(address)\" is not an address: write http://HOST:PORT, https://HOST:PORT or "
                + "unix:PATH")
    }
    var options = GRPCChannelOptions()
    options.connectTimeout = connectTimeout
    // Calls wait for the channel: it tries again soon after a restart, and a gateway that stays
    // away gets some four attempts a second.
    options.firstBackoff = .milliseconds(20)
    options.longestBackoff = .milliseconds(500)
    // A silent peer is found before the gateway gives up an `exec` whose caller it has lost: in
    // 10 s, unless it is told otherwise.
    options.keepAliveInterval = .seconds(3)
    options.keepAliveTimeout = .seconds(4)
    if let tls { options.tls = try tls.wire() }
    return GRPCChannel(
        target, options: options, group: group ?? MultiThreadedEventLoopGroup.singleton)
}

extension SandboxTLS {
    fileprivate func wire() throws(SandboxError) -> ClientTLS {
        var wire = ClientTLS()
        wire.serverName = serverName
        do {
            wire.roots = try roots.map { try certificates($0) }
            wire.certificates = try certificate.map { try certificates($0) } ?? []
            wire.key = try key.map { pem in
                switch pem {
                case .file(let path): try NIOSSLPrivateKey(file: path, format: .pem)
                case .bytes(let bytes): try NIOSSLPrivateKey(bytes: bytes, format: .pem)
                }
            }
        } catch {
            throw SandboxError(.tlsFailed, "cannot use a certificate or key: \(error)")
        }
        guard wire.certificates.isEmpty == (wire.key == nil) else {
            throw SandboxError(.tlsFailed, "a certificate and its key are given together")
        }
        return wire
    }

    private func certificates(_ pem: PEM) throws -> [NIOSSLCertificate] {
        switch pem {
        case .file(let path): try NIOSSLCertificate.fromPEMFile(path)
        case .bytes(let bytes): try NIOSSLCertificate.fromPEMBytes(bytes)
        }
    }
}
