// What the library says went wrong, as the line and the exit status of a command.

import GRPCWire
import Glibc
import ProcgateClient

extension Failure {
    /// What to do about an error of the library.
    init(_ error: SandboxError, address: String) {
        switch error.reason {
        case .gatewayUnavailable:
            self = Self.unreachable(address, error)
        case .tlsFailed: self = Self.tls(error)
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

    /// Other roots help only where those that are trusted have not issued the certificate, which
    /// the message alone tells.
    private static func tls(_ error: SandboxError) -> Failure {
        if error.code == .invalidArgument {
            let isOfRoots = error.message.contains("roots")
            return Failure(
                "\(error.message): see "
                    + (isOfRoots ? "--tls-ca" : "--tls-certificate and --tls-key"))
        }
        guard error.message.contains("has issued it") else {
            return Failure(error.message, status: .unreachable)
        }
        return Failure(
            "\(error.message): name the roots of its certificate with --tls-ca",
            status: .unreachable)
    }

    private static func unreachable(_ address: String, _ error: SandboxError) -> Failure {
        Failure(
            "no gateway answers at \(address)\(detail(error.message)): start one with procgate "
                + "serve, or name another with --address",
            status: .unreachable)
    }

    /// That nobody listens is said already; what else kept from connecting is worth its words.
    private static func detail(_ message: String) -> String {
        for code in [EACCES, EPERM, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, ECONNRESET] {
            let text = String(cString: strerror(code))
            if message.contains(text) { return " (\(text))" }
        }
        let isPlain = ["Connection refused", "No such file or directory"].contains {
            message.contains($0)
        }
        if isPlain || message.hasPrefix("no connection to ") { return "" }
        let cause = message.firstRange(of: ": ").map { message[$0.upperBound...] }
        return
            " (\(message.hasPrefix("cannot connect to ") ? cause ?? message[...] : message[...]))"
    }
}
