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
        case .permissionDenied: self.init(error.message, status: .refused)
        case .runAsDenied:
            self.init(
                "\(error.message): leave --run-as out, or have the gateway allow it: procgate serve "
                    + "--allow-user, as root",
                status: .refused)
        case .invalidAddress: self.init(error.message, status: .usage)
        case .unimplemented, .internalError, .unknown: self = Self.unknownAnswer(address, error)
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

    /// Where it is not even gRPC's, or another service's, it is no gateway that answers.
    private static func unknownAnswer(_ address: String, _ error: SandboxError) -> Failure {
        if error.message.contains("instead of a gRPC answer") {
            return speaksNoGRPC(address, error.message)
        }
        guard error.reason == .unimplemented else { return Failure(error.message) }
        return Failure(
            "what answers at \(address) does not know the call (\(error.message)): it is no "
                + "gateway, or one of another version; name another with --address",
            status: .unreachable)
    }

    private static func speaksNoGRPC(_ address: String, _ cause: String) -> Failure {
        Failure(
            "what answers at \(address) speaks no gRPC (\(cause)): name a gateway with --address, "
                + "by https:// where it has TLS",
            status: .unreachable)
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
        if error.message.contains("speaks no TLS") {
            return Failure(
                "\(error.message): write http:// where it has none", status: .unreachable)
        }
        guard error.message.contains("has issued it") else {
            return Failure(error.message, status: .unreachable)
        }
        return Failure(
            "\(error.message): name the roots of its certificate with --tls-ca",
            status: .unreachable)
    }

    private static func unreachable(_ address: String, _ error: SandboxError) -> Failure {
        // HTTP/2 of this side did not understand what it was answered.
        if ["codec(", "badPreface"].contains(where: { error.message.contains($0) }) {
            return speaksNoGRPC(address, "nor HTTP/2")
        }
        return Failure(
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
