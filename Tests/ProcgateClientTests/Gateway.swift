// A gateway for a test: a process of its own on a free port of loopback, ended with its
// supervisor and everything that they run.

import Foundation
import ProcgateClient
import Synchronization

/// One gateway and its state. `kill` and `restart` leave the supervisor running.
final class TestGateway: Sendable {
    let directory: URL
    let token = "test-\(UInt64.random(in: 1...UInt64.max))"
    private let options: [String]
    private let process = Mutex<Process?>(nil)
    private let port = Mutex(0)

    init(_ options: [String] = []) throws {
        self.options = options
        directory = URL(filePath: "/tmp/procgate-test-\(UInt32.random(in: 1...UInt32.max))")
        try FileManager.default.createDirectory(
            at: directory, withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700])
        let file = directory.appending(path: "token")
        try Data((token + "\n").utf8).write(to: file)
        try FileManager.default.setAttributes(
            [.posixPermissions: 0o600], ofItemAtPath: file.path())
    }

    var address: String { "http://127.0.0.1:\(port.withLock { $0 })" }
    var unixAddress: String { "unix:\(directory.path())/socket" }

    /// Beside the tests' own binary, or what `PROCGATE` names.
    static var binary: URL {
        if let named = ProcessInfo.processInfo.environment["PROCGATE"] {
            return URL(filePath: named)
        }
        let tests = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        return URL(filePath: tests ?? "").deletingLastPathComponent().appending(path: "procgate")
    }

    /// Returns once it listens.
    func start() throws {
        let gateway = Process()
        gateway.executableURL = Self.binary
        gateway.arguments =
            [
                "serve", "--listen", "127.0.0.1:\(port.withLock { $0 })", "--listen",
                unixAddress, "--state-directory", directory.appending(path: "state").path(),
                "--token-file", directory.appending(path: "token").path(), "--log-level", "error",
            ] + options
        let said = Pipe()
        gateway.standardError = said
        gateway.standardOutput = said
        gateway.standardInput = FileHandle.nullDevice
        try gateway.run()
        process.withLock { $0 = gateway }
        var text = ""
        while !text.contains("listening on unix:") || !text.contains("listening on 127.") {
            let data = said.fileHandleForReading.availableData
            if data.isEmpty { throw StartFailure(said: text) }
            text += String(decoding: data, as: UTF8.self)
        }
        let after = text.components(separatedBy: "listening on 127.0.0.1:")[1]
        guard let number = Int(after.prefix { $0.isNumber }) else { throw StartFailure(said: text) }
        port.withLock { $0 = number }
        // Nobody reads its log any more, but it must not be held back by that.
        said.fileHandleForReading.readabilityHandler = { _ = $0.availableData }
    }

    struct StartFailure: Error {
        let said: String
    }

    /// SIGKILL to the gateway alone.
    func kill() {
        guard let gateway = process.withLock({ $0.take() }) else { return }
        Glibc.kill(gateway.processIdentifier, SIGKILL)
        gateway.waitUntilExit()
    }

    func restart() throws {
        kill()
        try start()
    }

    /// SIGTERM, which ends the processes and the supervisor too.
    func stop() {
        if let gateway = process.withLock({ $0.take() }) {
            gateway.terminate()
            gateway.waitUntilExit()
        }
        try? FileManager.default.removeItem(at: directory)
    }
}

/// Runs `body` with a gateway and a client of it.
func withGateway(
    _ options: String..., body: (TestGateway, Sandbox) async throws -> Void
) async throws {
    let gateway = try TestGateway(options)
    try gateway.start()
    defer { gateway.stop() }
    let sandbox = try await Sandbox.connect(gateway.address, token: gateway.token)
    do {
        try await body(gateway, sandbox)
    } catch {
        await sandbox.close()
        throw error
    }
    await sandbox.close()
}
