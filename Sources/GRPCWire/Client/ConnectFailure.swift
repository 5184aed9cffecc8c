// Why a connection could not be made: in words, and as a status that tells whether another try
// may do better. Knows errors of sockets and of TLS, no call.

import NIOCore
import NIOPosix
import NIOSSL

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
        let (code, message) = connectFailure(target, error)
        return .transport(code, message, notProcessed: true)
    }

    private static func connectFailure(
        _ target: GRPCTarget, _ error: any Error
    ) -> (GRPCCode, String) {
        if let failure = error as? ClientConnector.Failure {
            switch failure {
            case .noHTTP2, .noTLS:
                return (.permissionDenied, "cannot connect to \(target): \(failure)")
            case .timedOut, .closedAtOnce: break
            }
        }
        if let extra = error as? NIOSSLExtraError {
            let isOtherName =
                extra == .failedToValidateHostname || extra == .serverHostnameImpossibleToMatch
            return (
                .permissionDenied,
                isOtherName
                    ? "the certificate of \(target) is not trusted: it is for another host name"
                    : "cannot use TLS with \(target): \(extra)"
            )
        }
        guard error is NIOSSLError || error is BoringSSLError else {
            return (.unavailable, "cannot connect to \(target): \(words(for: error))")
        }
        return tlsFailure(target, String(describing: error))
    }

    /// BoringSSL's reasons come in text alone.
    private static func tlsFailure(_ target: GRPCTarget, _ text: String) -> (GRPCCode, String) {
        func has(_ reasons: String...) -> Bool { reasons.contains { text.contains($0) } }
        if has("CERTIFICATE_VERIFY_FAILED", "unableToValidateCertificate", "cannotMatchULabel") {
            return (
                .permissionDenied,
                "the certificate of \(target) is not trusted: no root that is trusted here has "
                    + "issued it, or it is out of date"
            )
        }
        if has("noCertificateToValidate", "cannotFindPeerIP") {
            return (.permissionDenied, "the certificate of \(target) is not trusted: there is none")
        }
        if has("CERTIFICATE_REQUIRED", "ALERT_HANDSHAKE_FAILURE", "ALERT_NO_CERTIFICATE") {
            return (
                .unauthenticated,
                "\(target) refuses the connection: it demands a client certificate, or other TLS"
            )
        }
        if has(
            "ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE", "ALERT_UNSUPPORTED_CERTIFICATE",
            "ALERT_CERTIFICATE_REVOKED", "ALERT_CERTIFICATE_EXPIRED", "ALERT_CERTIFICATE_UNKNOWN",
            "ALERT_ACCESS_DENIED", "ALERT_DECRYPT_ERROR")
        {
            return (
                .unauthenticated, "\(target) refuses the client certificate (\(reason(in: text)))"
            )
        }
        if has(
            "PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "INSUFFICIENT_SECURITY",
            "NO_APPLICATION_PROTOCOL", "UNRECOGNIZED_NAME", "WRONG_VERSION_NUMBER", "HTTP_REQUEST")
        {
            return (
                .permissionDenied,
                "\(target) speaks no TLS, or none that is spoken here (\(reason(in: text)))"
            )
        }
        let isCut = has("EOF during")
        let what = isCut ? "it ended while TLS was agreed upon" : "TLS failed (\(reason(in: text)))"
        return (.unavailable, "cannot connect to \(target): \(what)")
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
        return String(describing: error)
    }
}
