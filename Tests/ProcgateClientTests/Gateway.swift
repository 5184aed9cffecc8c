// A gateway for a test: a process of its own on a free port of loopback, ended with its
// supervisor and everything that they run.

import Foundation
import Glibc
import ProcgateClient
import Synchronization

/// One gateway and its state. `kill` and `restart` leave the supervisor running.
final class TestGateway: Sendable {
    let directory: URL
    let token = "test-\(UInt64.random(in: 1...UInt64.max))"
    private let options: [String]
    private let process = Mutex<pid_t?>(nil)
    /// What it says is not read any more once it listens: errors alone, too few to hold it back.
    private let output = Mutex<Int32>(-1)
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
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw StartFailure(said: "no pipe") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let words =
            [
                Self.binary.path(), "serve", "--listen", "127.0.0.1:\(port.withLock { $0 })",
                "--listen", unixAddress, "--state-directory",
                directory.appending(path: "state").path(), "--token-file",
                directory.appending(path: "token").path(), "--log-level", "error",
            ] + options
        let pid = try spawn(words, output: ends[1])
        close(ends[1])
        process.withLock { $0 = pid }
        var text = ""
        while !text.contains("listening on unix:") || !text.contains("listening on 127.") {
            var bytes = [UInt8](repeating: 0, count: 4096)
            let count = read(ends[0], &bytes, bytes.count)
            guard count > 0 else { throw StartFailure(said: text) }
            text += String(decoding: bytes[..<count], as: UTF8.self)
        }
        let after = text.components(separatedBy: "listening on 127.0.0.1:")[1]
        guard let number = Int(after.prefix { $0.isNumber }) else { throw StartFailure(said: text) }
        port.withLock { $0 = number }
        output.withLock { old in
            if old >= 0 { close(old) }
            old = ends[0]
        }
    }

    /// Its standard output and error go to `output`.
    private func spawn(_ words: [String], output: Int32) throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        posix_spawn_file_actions_adddup2(&actions, output, 2)
        var arguments = words.map { strdup($0) } + [nil]
        defer { arguments.forEach { free($0) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, words[0], &actions, nil, &arguments, environ)
        guard code == 0 else {
            throw StartFailure(said: "\(words[0]): \(String(cString: strerror(code)))")
        }
        return pid
    }

    struct StartFailure: Error {
        let said: String
    }

    /// SIGKILL to the gateway alone.
    func kill() {
        end(SIGKILL)
    }

    /// The process of the supervisor that runs for this gateway.
    var supervisor: pid_t? {
        let state = directory.appending(path: "state").path()
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return names.lazy.compactMap { pid_t($0) }.first { pid in
            let words = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
            let text = String(decoding: words, as: UTF8.self).split(separator: "\0")
            return text.dropFirst().first == "supervise" && text.contains(Substring(state))
        }
    }

    func restart() throws {
        kill()
        try start()
    }

    /// Another gateway with another supervisor, which knows no process of the first one.
    func replace() throws {
        end(SIGTERM)
        try start()
    }

    /// SIGTERM, which ends the processes and the supervisor too.
    func stop() {
        end(SIGTERM)
        try? FileManager.default.removeItem(at: directory)
    }

    private func end(_ signal: Int32) {
        guard let pid = process.withLock({ $0.take() }) else { return }
        Glibc.kill(pid, signal)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
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
