// Why a connection could not be made: in words, and as a status that tells whether another try
// may do better. Knows errors of sockets, of TLS and of HTTP/2, no call.

import HTTP2
import NIOCore
import NIOPosix
import NIOSSL

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

extension GRPCStatus {
    /// One side does not accept the other's TLS: the same another time. UNAUTHENTICATED where it
    /// is the server that wants to know who calls, PERMISSION_DENIED for everything else.
    public var isTLSRefusal: Bool {
        isTransport && (code == .unauthenticated || code == .permissionDenied)
    }
}

extension TransportStatus {
    /// For calls that waited for a connection to `target`.
    static func cannotConnect(to target: GRPCTarget, _ error: any Error) -> GRPCStatus {
        switch error {
        case let failure as ClientConnector.Failure:
            switch failure {
            case .noHTTP2:
                refusal(
                    .permissionDenied, "cannot connect to \(target): \(failure)", .otherProtocol)
            case .noTLS:
                refusal(.permissionDenied, "cannot connect to \(target): \(failure)", .tls)
            case .timedOut, .closedAtOnce: unreachable(target, "\(failure)")
            }
        case let extra as NIOSSLExtraError: certificateFailure(target, extra)
        case is NIOSSLError, is BoringSSLError: tlsFailure(target, String(describing: error))
        // What answered is no HTTP/2. That may be a proxy's word for an outage.
        case is HTTP2Error:
            refusal(.unavailable, "\(target) speaks no HTTP/2", .otherProtocol)
        default: unreachable(target, words(for: error))
        }
    }

    private static func refusal(
        _ code: GRPCCode, _ message: String, _ mismatch: TransportMismatch
    ) -> GRPCStatus {
        .transport(code, message, notProcessed: true, mismatch: mismatch)
    }

    private static func unreachable(_ target: GRPCTarget, _ why: String) -> GRPCStatus {
        .transport(.unavailable, "cannot connect to \(target): \(why)", notProcessed: true)
    }

    private static func certificateFailure(
        _ target: GRPCTarget, _ error: NIOSSLExtraError
    ) -> GRPCStatus {
        let isOtherName =
            error == .failedToValidateHostname || error == .serverHostnameImpossibleToMatch
        return refusal(
            .permissionDenied,
            isOtherName
                ? "the certificate of \(target) is not trusted: it is for another host name"
                : "cannot use TLS with \(target): \(error)",
            .tls)
    }

    /// BoringSSL's reasons come in text alone.
    private static func tlsFailure(_ target: GRPCTarget, _ text: String) -> GRPCStatus {
        func has(_ reasons: String...) -> Bool { reasons.contains { text.contains($0) } }
        if has("CERTIFICATE_VERIFY_FAILED", "unableToValidateCertificate", "cannotMatchULabel") {
            return refusal(
                .permissionDenied,
                "the certificate of \(target) is not trusted: no root that is trusted here has "
                    + "issued it, or it is out of date",
                .untrustedCertificate)
        }
        if has("noCertificateToValidate", "cannotFindPeerIP") {
            return refusal(
                .permissionDenied, "the certificate of \(target) is not trusted: there is none",
                .tls)
        }
        if has("CERTIFICATE_REQUIRED", "ALERT_HANDSHAKE_FAILURE", "ALERT_NO_CERTIFICATE") {
            return refusal(
                .unauthenticated,
                "\(target) refuses the connection: it demands a client certificate, or other TLS",
                .refusedCaller)
        }
        if has(
            "ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE", "ALERT_UNSUPPORTED_CERTIFICATE",
            "ALERT_CERTIFICATE_REVOKED", "ALERT_CERTIFICATE_EXPIRED", "ALERT_CERTIFICATE_UNKNOWN",
            "ALERT_ACCESS_DENIED", "ALERT_DECRYPT_ERROR")
        {
            return refusal(
                .unauthenticated, "\(target) refuses the client certificate (\(reason(in: text)))",
                .refusedCaller)
        }
        if has(
            "PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "INSUFFICIENT_SECURITY",
            "NO_APPLICATION_PROTOCOL", "UNRECOGNIZED_NAME", "WRONG_VERSION_NUMBER", "HTTP_REQUEST")
        {
            return refusal(
                .permissionDenied,
                "\(target) speaks no TLS, or none that is spoken here (\(reason(in: text)))",
                .otherProtocol)
        }
        let isCut = has("EOF during")
        return unreachable(
            target,
            isCut ? "it ended while TLS was agreed upon" : "TLS failed (\(reason(in: text)))")
    }

    /// Of "… error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED at …" its
    /// reason; where it has none, all of it.
    private static func reason(in text: String) -> String {
        let marker = "OPENSSL_internal:"
        guard let start = text.firstRange(of: marker)?.upperBound else { return text }
        return String(text[start...].prefix { !$0.isWhitespace })
    }

    /// What went wrong with sockets and names.
    private static func words(for error: any Error) -> String {
        if let failure = error as? NIOConnectionError {
            let causes = failure.connectionErrors.map { words(for: $0.error) }
            if let first = causes.first {
                return causes.allSatisfy { $0 == first } ? first : causes.joined(separator: ", ")
            }
            let isUnknown = failure.dnsAError != nil || failure.dnsAAAAError != nil
            return isUnknown ? "the name \(failure.host) is not known" : "it has no address"
        }
        if let failure = error as? ChannelError, case .connectTimeout = failure {
            return ClientConnector.Failure.timedOut.description
        }
        if let failure = error as? IOError {
            return String(cString: strerror(failure.errnoCode))
        }
        return String(describing: error)
    }
}
