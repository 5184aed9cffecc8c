// What the library says went wrong, as the line and the exit status of a command.

import Glibc
import ProcgateClient

extension Failure {
    /// What to do about an error of the library.
    init(_ error: SandboxError, of gateway: GatewayOptions) {
        let address = gateway.fullAddress
        switch error.reason {
        case .gatewayUnavailable: self = Self.unreachable(address, error)
        case .notGateway: self = Self.otherProtocol(address, error)
        case .tlsRequired:
            self.init(
                "the server at \(address) speaks TLS: name it by https://, as in "
                    + "--address https://\(gateway.bareAddress)",
                status: .unreachable)
        case .certificateUntrusted:
            self.init(
                "\(error.message): name the roots of its certificate with --tls-ca",
                status: .unreachable)
        case .tlsFailed where error.code == .invalidArgument:
            self.init("\(error.message): see \(gateway.tlsOptions)")
        case .tlsFailed: self.init(error.message, status: .unreachable)
        case .supervisorUnavailable:
            self.init(
                "the gateway at \(address) has no supervisor (\(error.message)): see its log",
                status: .unreachable)
        case .tokenInvalid:
            self.init(
                "the gateway refuses the token (\(error.message)): set PROCGATE_TOKEN, or name "
                    + "its file with --token-file",
                status: .refused)
        case .permissionDenied, .notPermitted: self.init(error.message, status: .refused)
        case .runAsDenied:
            self.init(
                "\(error.message): leave --run-as out, or have the gateway allow it: procgate serve "
                    + "--allow-user, as root",
                status: .refused)
        case .invalidAddress: self.init(error.message, status: .usage)
        case .unimplemented:
            self.init(
                "what answers at \(address) does not know the call (\(error.message)): it is no "
                    + "gateway, or one of another version; name another with --address",
                status: .unreachable)
        default: self = Self.refusal(error)
        }
    }

    /// What the gateway does not do as things stand, or as the options are.
    private static func refusal(_ error: SandboxError) -> Failure {
        let id = error.processID ?? "ID"
        return switch error.reason {
        case .processNotFound:
            Failure("\(error.message): procgate ps shows those that are known")
        case .processRunning:
            Failure("process \(id) has not ended: stop it first: procgate stop \(id)")
        case .processNotRunning:
            Failure("process \(id) does not run: procgate show \(id) says how it stands")
        case .stdinClosed:
            Failure(
                "the stdin of process \(id) is closed: what is to stay open is written with "
                    + "procgate stdin --no-eof")
        case .tooManyProcesses:
            Failure(
                "the gateway's queue is full (\(error.message)): try again later, or raise "
                    + "--max-queued")
        case .signalInvalid:
            Failure("\(error.message): names look like TERM, SIGTERM or 15")
        case .cwdInvalid:
            Failure("no command can run there (\(error.message)): name a directory by --cwd")
        case .userUnknown:
            Failure("\(error.message) on the gateway's host: name another by --run-as")
        default: Failure(error.message)
        }
    }

    private static func otherProtocol(_ address: String, _ error: SandboxError) -> Failure {
        let hasTLS = address.hasPrefix("https://")
        return Failure(
            "what answers at \(address) is no gateway (\(error.message)): name one with --address, "
                + (hasTLS ? "by http:// where it has no TLS" : "by https:// where it has TLS"),
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
        if isPlain { return "" }
        let cause = message.firstRange(of: ": ").map { message[$0.upperBound...] }
        return
            " (\(message.hasPrefix("cannot connect to ") ? cause ?? message[...] : message[...]))"
    }
}
