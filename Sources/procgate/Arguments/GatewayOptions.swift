// How a client command finds its gateway and says who it is. Makes the connection; knows no call.

import ArgumentParser
import Glibc
import ProcgateClient

/// Options of every client command.
struct GatewayOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "http://HOST:PORT, https://HOST:PORT, HOST[:PORT] or unix:PATH. "
                + "(default: $PROCGATE_ADDRESS, else 127.0.0.1:7070)",
            valueName: "address"))
    var address: String?

    @Option(
        help: ArgumentHelp(
            "A file with TOKEN or NAME TOKEN. $PROCGATE_TOKEN, where it is set, comes before it. "
                + "(default: the file that a gateway of the same user made)",
            valueName: "path"))
    var tokenFile: String?

    @Option(
        name: .customLong("tls-ca"),
        help: ArgumentHelp(
            "Trust these roots, PEM, in place of the system's. (default: $PROCGATE_TLS_CA)",
            valueName: "path"))
    var tlsCA: String?

    @Option(
        name: .customLong("tls-certificate"),
        help: ArgumentHelp(
            "The caller's certificate, PEM. (default: $PROCGATE_TLS_CERTIFICATE)",
            valueName: "path"))
    var tlsCertificate: String?

    @Option(
        name: .customLong("tls-key"),
        help: ArgumentHelp(
            "The certificate's key, PEM. (default: $PROCGATE_TLS_KEY)", valueName: "path"))
    var tlsKey: String?

    @Option(
        help: ArgumentHelp(
            "The node of a fleet to ask. Calls about a process find its node by the id.",
            valueName: "name"))
    var node: String?

    @Flag(help: "Print JSON.")
    var json = false

    /// Runs a command against the gateway. What the library throws becomes a `Failure`.
    func withSandbox<Result: Sendable>(
        _ body: (Sandbox) async throws -> Result
    ) async throws -> Result {
        try checkCertificates()
        do {
            let sandbox = try await Sandbox.connect(fullAddress, token: try token(), tls: tls)
            do {
                let result = try await body(node.map { sandbox.on(node: $0) } ?? sandbox)
                await sandbox.close()
                return result
            } catch {
                // The gateway hears of what is given up before this program ends.
                await Farewell.close(sandbox)
                throw error
            }
        } catch let error as SandboxError {
            throw Failure(error, of: self)
        }
    }

    func validate() throws {
        guard isGatewayAddress(givenAddress) else {
            throw ValidationError(
                "'\(givenAddress)' is not an address: write http://HOST:PORT, https://HOST:PORT, "
                    + "HOST:PORT or unix:PATH")
        }
        guard tokenFile != "" else { throw ValidationError("--token-file names no file") }
        guard node != "" else { throw ValidationError("--node names no node") }
        guard (certificatePath == nil) == (keyPath == nil) else {
            throw ValidationError("--tls-certificate and --tls-key go together")
        }
    }

    private var certificatePath: String? { path(tlsCertificate, or: "PROCGATE_TLS_CERTIFICATE") }
    private var keyPath: String? { path(tlsKey, or: "PROCGATE_TLS_KEY") }

    private var tls: SandboxTLS? {
        let roots = path(tlsCA, or: "PROCGATE_TLS_CA")
        guard roots != nil || certificatePath != nil || keyPath != nil else { return nil }
        return SandboxTLS(
            roots: roots.map(SandboxTLS.PEM.file),
            certificate: certificatePath.map(SandboxTLS.PEM.file),
            key: keyPath.map(SandboxTLS.PEM.file))
    }

    /// Those that files were given for, for people.
    var tlsOptions: String {
        var names: [String] = []
        if path(tlsCA, or: "PROCGATE_TLS_CA") != nil { names.append("--tls-ca") }
        if certificatePath != nil { names += ["--tls-certificate", "--tls-key"] }
        let last = names.popLast() ?? "the options for TLS"
        return names.isEmpty ? last : names.joined(separator: ", ") + " and " + last
    }

    private func checkCertificates() throws(Failure) {
        if let path = self.path(tlsCA, or: "PROCGATE_TLS_CA") {
            try PEMFile.check(path, holds: .certificate, for: "--tls-ca")
        }
        if let certificatePath {
            try PEMFile.check(certificatePath, holds: .certificate, for: "--tls-certificate")
        }
        if let keyPath { try PEMFile.check(keyPath, holds: .key, for: "--tls-key") }
    }

    /// The variables are for `https` alone: an address that says otherwise needs none of them.
    private func path(_ option: String?, or variable: String) -> String? {
        let isPlain = givenAddress.hasPrefix("unix:") || givenAddress.hasPrefix("http://")
        return option ?? (isPlain ? nil : environment(variable))
    }

    private var givenAddress: String {
        address ?? environment("PROCGATE_ADDRESS") ?? "127.0.0.1"
    }

    /// An address without a scheme is `https` where there are options for TLS, and has a gateway's
    /// own port where it names none.
    var fullAddress: String {
        var text = givenAddress
        if let path = socketPath(text) { return "unix:" + path }
        guard !text.contains("://") else { return text }
        if let bare = HostPort(Substring(text)), bare.port == nil { text += ":7070" }
        return tls != nil ? "https://" + text : text
    }

    /// Without its scheme.
    var bareAddress: String {
        let address = fullAddress
        let scheme = "http://"
        return address.hasPrefix(scheme) ? String(address.dropFirst(scheme.count)) : address
    }

    private func token() throws(Failure) -> String? {
        let given = try givenToken()
        do throws(SandboxError) {
            return try CallerToken.value(given, file: nil)
        } catch {
            throw Failure(error.message, status: .usage)
        }
    }

    /// A file that is named must be readable; the default file may be missing.
    private func givenToken() throws(Failure) -> String? {
        if let token = environment("PROCGATE_TOKEN").flatMap(CallerToken.trimmed) { return token }
        if let tokenFile { return try readToken(tokenFile) }
        if let path = environment("PROCGATE_TOKEN_FILE") { return try readToken(path) }
        guard let path = try? RuntimeDirectory.path() + "/token", access(path, R_OK) == 0 else {
            return nil
        }
        return try readToken(path)
    }

    private func readToken(_ path: String) throws(Failure) -> String {
        guard let text = readSmallFile(path) else {
            throw Failure(
                "cannot read the token file \(path): \(String(cString: strerror(errno)))")
        }
        guard let token = CallerToken.first(in: text) else {
            throw Failure("there is no token in \(path): a line is TOKEN or NAME TOKEN")
        }
        return token
    }
}

/// `nil` where it is not set, or empty.
func environment(_ name: String) -> String? {
    guard let value = getenv(name), value.pointee != 0 else { return nil }
    return String(cString: value)
}

/// At most 64 KiB: more than anybody's tokens, or what stands before a PEM file's first line.
func readSmallFile(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 64 << 10)
    let count = read(descriptor, &bytes, bytes.count)
    guard count >= 0 else { return nil }
    return String(decoding: bytes[..<count], as: UTF8.self)
}
