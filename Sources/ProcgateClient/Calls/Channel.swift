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
    if case .unix(let path) = target, path.utf8.count > SocketFile.longestPathBytes {
        throw SandboxError(
            .invalidAddress,
            "\"\(path)\" is no path of a unix socket: those have at most "
                + "\(SocketFile.longestPathBytes) bytes")
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
    /// What cannot be used is told with the code ``GRPCCode/invalidArgument``: it is the caller's.
    fileprivate func wire() throws(SandboxError) -> ClientTLS {
        var wire = ClientTLS()
        wire.serverName = serverName
        if let roots { wire.roots = try Self.certificates(roots, "the trusted roots") }
        if let certificate {
            wire.certificates = try Self.certificates(certificate, "the client certificate")
        }
        if let key { wire.key = try Self.privateKey(key) }
        guard wire.certificates.isEmpty == (wire.key == nil) else {
            throw Self.unusable("a client certificate and its key are given together")
        }
        if let key = wire.key, !Self.belongTogether(wire.certificates, key) {
            throw Self.unusable("the client certificate and the key do not belong together")
        }
        return wire
    }

    private static func certificates(
        _ pem: PEM, _ what: String
    ) throws(SandboxError) -> [NIOSSLCertificate] {
        do {
            return switch pem {
            case .file(let path): try NIOSSLCertificate.fromPEMFile(path)
            case .bytes(let bytes): try NIOSSLCertificate.fromPEMBytes(bytes)
            }
        } catch {
            throw unusable("\(what) cannot be read as PEM")
        }
    }

    private static func privateKey(_ pem: PEM) throws(SandboxError) -> NIOSSLPrivateKey {
        do {
            return switch pem {
            case .file(let path): try NIOSSLPrivateKey(file: path, format: .pem)
            case .bytes(let bytes): try NIOSSLPrivateKey(bytes: bytes, format: .pem)
            }
        } catch {
            throw unusable("the client's key cannot be read as PEM")
        }
    }

    /// A context that is made of both compares them.
    private static func belongTogether(
        _ certificates: [NIOSSLCertificate], _ key: NIOSSLPrivateKey
    ) -> Bool {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.trustRoots = .certificates([])
        configuration.certificateChain = certificates.map { .certificate($0) }
        configuration.privateKey = .privateKey(key)
        return (try? NIOSSLContext(configuration: configuration)) != nil
    }

    private static func unusable(_ why: String) -> SandboxError {
        SandboxError(.tlsFailed, why, code: .invalidArgument)
    }
}
