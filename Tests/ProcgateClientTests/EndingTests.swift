// How calls end that nobody waits for any more, and what is told of ends that nobody knows.

import Foundation
import Glibc
import Testing

@testable import ProcgateClient

@Suite("Endings", .serialized, .timeLimit(.minutes(3)))
struct EndingTests {
    /// Never yields, and does not heed a cancellation.
    private struct Silence: AsyncSequence, Sendable {
        let asked: AsyncStream<Void>.Continuation

        func makeAsyncIterator() -> AsyncIterator { AsyncIterator(asked: asked) }

        struct AsyncIterator: AsyncIteratorProtocol {
            let asked: AsyncStream<Void>.Continuation

            mutating func next() async -> String? {
                asked.finish()
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
                return nil
            }
        }
    }

    @Test("A cancelled task gets a CancellationError, whatever it waits for")
    func cancellation() async throws {
        try await withGateway { _, sandbox in
            let process = try await sandbox.processes.start("echo up; sleep 1000")
            let waits: [@Sendable () async throws -> Void] = [
                { _ = try await process.wait() },
                { for try await _ in process.stream() {} },
                { for try await _ in sandbox.processes.watch() {} },
                { for try await _ in try await process.attach() {} },
                { _ = try await sandbox.exec("sleep 1000") },
                { _ = try await sandbox.exec("cat", stdin: AsyncStream<String> { _ in }) },
                { _ = try await sandbox.attach("sleep 1000") },
                { _ = try await sandbox.processes.start("sleep 1000") },
                { _ = try await process.refresh() },
                { _ = try await process.signal(.cont) },
                { _ = try await process.writeStdin("text") },
                { _ = try await sandbox.processes.list() },
                { _ = try await sandbox.getProcess(process.id) },
                { _ = try await sandbox.info() },
                { try await process.resize(columns: 1, rows: 1) },
                { try await process.delete() },
                { _ = try await process.stop() },
            ]
            for (index, wait) in waits.enumerated() {
                let task = Task {
                    while index > 5 && !Task.isCancelled { await Task.yield() }
                    try await wait()
                    // A sequence that has ended throws nothing by itself.
                    try Task.checkCancellation()
                }
                if index <= 5 { try await Task.sleep(for: .milliseconds(50)) }
                task.cancel()
                await #expect(throws: CancellationError.self, "wait \(index)") {
                    try await task.value
                }
            }
            #expect(try await process.refresh().status == .running)
            try await process.kill()
        }
    }

    @Test("Closing the sandbox and cancelling the task end a write that waits for its sequence")
    func silentInput() async throws {
        try await withGateway { gateway, other in
            let sandbox = try await Sandbox.connect(gateway.address, token: gateway.token)
            let process = try await sandbox.processes.start("cat")
            func write() async -> Task<Int, any Error> {
                let (asked, continuation) = AsyncStream<Void>.makeStream()
                let task = Task { try await process.writeStdin(Silence(asked: continuation)) }
                for await _ in asked {}
                return task
            }
            let cancelled = await write()
            cancelled.cancel()
            await #expect(throws: CancellationError.self) { try await cancelled.value }
            // Its turn is over: others may write.
            try await process.writeStdin("hello")
            let closed = await write()
            await sandbox.close()
            let error = await #expect(throws: SandboxError.self) { try await closed.value }
            #expect(error?.reason == .closed)
            try await other.getProcess(process.id).kill()
        }
    }

    @Test("A wait that runs out of time while the gateway is away has timed out")
    func waitInAnOutage() async throws {
        let gateway = try TestGateway()
        try gateway.start()
        defer { gateway.stop() }
        let sandbox = try await Sandbox.connect(gateway.address, token: gateway.token)
        let process = try await sandbox.processes.start("sleep 1000")
        gateway.kill()
        let error = await #expect(throws: SandboxError.self) {
            try await process.wait(timeout: .milliseconds(300))
        }
        #expect(error?.reason == .waitTimedOut)
        try gateway.start()
        try await process.kill()
        await sandbox.close()
    }

    @Test("How a command ended whose supervisor is gone is not known, and that is an error")
    func lostSupervisor() async throws {
        try await withGateway { gateway, sandbox in
            let (started, continuation) = AsyncStream<Void>.makeStream()
            let exec = Task {
                try await sandbox.exec("echo up; sleep 1000") { _ in continuation.finish() }
            }
            for await _ in started {}
            Glibc.kill(try #require(gateway.supervisor), SIGKILL)
            let error = await #expect(throws: SandboxError.self) { try await exec.value }
            #expect(error?.reason == .processLost)
            #expect(error?.message.contains("not known") == true)
        }
    }

    @Test("A session is left, and its process goes on")
    func leaveRunning() async throws {
        try await withGateway("--resume-window", "100ms") { _, sandbox in
            let left = try await sandbox.attach("cat", terminal: nil)
            let dropped = try await sandbox.attach("cat", terminal: nil)
            try await left.write("typed")
            try await left.flush()
            try await left.leaveRunning()
            dropped.detach()
            // The one that is killed shows that the other one had the time for it.
            let result = try await sandbox.getProcess(dropped.process.id).wait()
            #expect(result.terminationReason == .callerGone)
            let process = try await sandbox.getProcess(left.process.id)
            #expect(process.status == .running)
            try await process.closeStdin()
            #expect(try await process.wait().stdout == "typed")
        }
    }

    @Test("A command that is kept goes on when its call is cancelled")
    func kept() async throws {
        try await withGateway("--resume-window", "100ms") { _, sandbox in
            var ids: [String] = []
            for keeps in [true, false] {
                let stream = try await sandbox.execStream(
                    "echo up; sleep 1000", keepOnDisconnect: keeps)
                ids.append(stream.process.id)
                let task = Task { for try await _ in stream {} }
                task.cancel()
                _ = try? await task.value
            }
            #expect(try await sandbox.getProcess(ids[1]).wait().status == .killed)
            let kept = try await sandbox.getProcess(ids[0])
            #expect(kept.status == .running)
            try await kept.kill()
        }
    }

    @Test("A token is read from its file, and has no white space around it")
    func tokens() async throws {
        try await withGateway { gateway, _ in
            let address = gateway.address
            let file = gateway.directory.appending(path: "callers").path()
            try Data("# those who call\n\nme  \(gateway.token) \r\n".utf8)
                .write(to: URL(filePath: file))
            for sandbox in [
                try await Sandbox.connect(address, tokenFile: file),
                try await Sandbox.connect(address, token: " \n", tokenFile: file),
                try await Sandbox.connect(address, token: "\t\(gateway.token)\r\n"),
                try await Sandbox.connect(address, token: gateway.token, tokenFile: "/no/such"),
            ] {
                #expect(try await sandbox.exec("echo in").stdout == "in\n")
                await sandbox.close()
            }
            let (empty, missing) = (file + "-empty", file + "-missing")
            try Data("# nobody\n".utf8).write(to: URL(filePath: empty))
            for (path, told) in [(empty, empty), (missing, "No such file or directory")] {
                let error = await #expect(throws: SandboxError.self) {
                    try await Sandbox.connect(address, tokenFile: path)
                }
                #expect(error?.reason == .tokenInvalid)
                #expect(error?.message.contains(told) == true)
            }
        }
    }

    @Test("The options of a command reach the contract")
    func newPrivileges() {
        var options = CommandOptions()
        #expect(!options.spec("true", []).allowNewPrivileges)
        options.allowNewPrivileges = true
        #expect(options.spec("true", []).allowNewPrivileges)
    }
}
