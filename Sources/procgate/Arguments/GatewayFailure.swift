// What the library says went wrong, as the line and the exit status of a command.

import GRPCWire
import Glibc
import ProcgateClient

extension Failure {
    /// What to do about an error of the library.
    init(_ error: SandboxError, address: String) {
        switch error.reason {
        case .gatewayUnavailable, .tlsFailed:
            self = Self.unreachable(address, error)
        case .supervisorUnavailable:
            self.init(
                "the gateway at \(address) has no supervisor (\(error.message)): see its log",
                status: .unreachable)
        case .tokenInvalid:
            self.init(
                "the gateway refuses the token (\(error.message)): set PROCGATE_TOKEN, or name "
                    + "its file with --token-file",
                status: .refused)
        case .runAsDenied, .permissionDenied: self.init(error.message, status: .refused)
        case .invalidAddress: self.init(error.message, status: .usage)
        case .processNotFound:
            self.init("\(error.message): procgate ps shows those that are known")
        default: self.init(error.message)
        }
    }

    private static func unreachable(_ address: String, _ error: SandboxError) -> Failure {
        switch TLSRefusal(error) {
        case .ofGateway(let why):
            Failure(
                "the gateway at \(address) is not trusted (\(why)): name the roots of its "
                    + "certificate with --tls-ca",
                status: .unreachable)
        case .ofCaller:
            Failure(
                "the gateway at \(address) refuses the caller's certificate, or that there is "
                    + "none: name one with --tls-certificate and --tls-key",
                status: .refused)
        case nil:
            Failure(
                "no gateway answers at \(address)\(detail(error.message)): start one with procgate "
                    + "serve, or name another with --address",
                status: .unreachable)
        }
    }

    /// That nobody listens is said already; what else kept from connecting is worth its words,
    /// where it has some.
    private static func detail(_ message: String) -> String {
        for code in [EACCES, EPERM, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, ECONNRESET] {
            let text = String(cString: strerror(code))
            if message.contains(text) { return " (\(text))" }
        }
        if message.contains("UnknownHost") || message.contains("dnsAError") {
            return " (no such host is known)"
        }
        let saysNothing = message.hasPrefix("no connection to ")
        // Written by Swift for whoever wrote the program.
        let isRaw = ["(host: ", "(path: ", "Error(", "NIOSSL"].contains { message.contains($0) }
        let isPlain = ["Connection refused", "No such file or directory"].contains {
            message.contains($0)
        }
        return saysNothing || isRaw || isPlain ? "" : " (\(message))"
    }
}

/// Which side of a TLS handshake did not accept the other. The one place that knows how the library
/// tells: by the error's gRPC code, else by the words of BoringSSL, which stand in its message.
private enum TLSRefusal {
    /// This side does not accept the gateway's certificate.
    case ofGateway(String)
    /// The gateway does not accept the caller's, or demands one.
    case ofCaller

    init?(_ error: SandboxError) {
        let says = { (words: String) in error.message.contains(words) }
        if error.code == .unauthenticated || error.code == .permissionDenied {
            self = .ofCaller
        } else if says("CERTIFICATE_VERIFY_FAILED") {
            self = .ofGateway("its certificate comes from no root that is known here, or is over")
        } else if says("failedToValidateHostname") {
            self = .ofGateway("its certificate is another name's")
        } else if says("_ALERT_")
            && (says("CERTIFICATE") || says("UNKNOWN_CA") || says("ACCESS_DENIED"))
        {
            self = .ofCaller
        } else {
            return nil
        }
    }
}
