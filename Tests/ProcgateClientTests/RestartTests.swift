// The gateway is killed again and again while clients work: nothing is run twice, nothing lost.

import Foundation
import Synchronization
import Testing

@testable import ProcgateClient

@Suite("Restarts", .serialized, .timeLimit(.minutes(5)))
struct RestartTests {
    /// Kills and restarts the gateway every 300 ms until `body` is done.
    private func whileRestarting(
        _ gateway: TestGateway, _ body: () async throws -> Void
    ) async throws -> Int {
        let killer = Task {
            var restarts = 0
            while !Task.isCancelled {
                try? await Task.sleep(for: .milliseconds(300))
                try gateway.restart()
                restarts += 1
            }
            return restarts
        }
        do {
            try await body()
        } catch {
            killer.cancel()
            _ = try? await killer.value
            throw error
        }
        killer.cancel()
        return try await killer.value
    }

    private func lines(of path: URL) throws -> [String] {
        try String(contentsOf: path, encoding: .utf8).split(separator: "\n").map(String.init)
    }

    @Test("Commands run once each, and every line of theirs arrives once and in order")
    func execs() async throws {
        try await withGateway { gateway, sandbox in
            let file = gateway.directory.appending(path: "ran")
            let numbered = (1...10_000).map { "\($0)\n" }.joined()
            let restarts = try await whileRestarting(gateway) {
                try await withThrowingTaskGroup { group in
                    for number in 0..<20 {
                        group.addTask {
                            let result = try await sandbox.exec(
                                "echo \(number) >> \(file.path()); for i in 1 2 3 4 5; do "
                                    + "seq $((i * 2000 - 1999)) $((i * 2000)); sleep 0.2; done")
                            #expect(result.exitCode == 0)
                            #expect(result.stdout == numbered)
                        }
                    }
                    try await group.waitForAll()
                }
            }
            #expect(restarts > 1)
            #expect(try lines(of: file).sorted() == (0..<20).map(String.init).sorted())
        }
    }

    @Test("Started processes are started once, and waits, streams and stdin go on")
    func others() async throws {
        try await withGateway { gateway, sandbox in
            let file = gateway.directory.appending(path: "ran")
            _ = try await whileRestarting(gateway) {
                try await withThrowingTaskGroup { group in
                    for number in 0..<10 {
                        group.addTask {
                            let process = try await sandbox.processes.start(
                                "echo \(number) >> \(file.path()); for i in $(seq 1 50); do "
                                    + "echo line $i; sleep 0.02; done; cat")
                            async let written = process.writeStdin(
                                Numbers(count: 200), eof: true)
                            var text = ""
                            var exits = 0
                            for try await event in process.stream() {
                                switch event {
                                case .stdout(let chunk): text += chunk.text
                                case .exit: exits += 1
                                case .stderr, .gap: Issue.record("\(event)")
                                }
                            }
                            _ = try await written
                            let expected =
                                (1...50).map { "line \($0)\n" }.joined()
                                + (1...200).map { "\($0)\n" }.joined()
                            #expect(text == expected)
                            #expect(exits == 1)
                            #expect(try await process.wait().stdout == expected)
                        }
                    }
                    try await group.waitForAll()
                }
            }
            #expect(try lines(of: file).sorted() == (0..<10).map(String.init).sorted())
        }
    }

    /// A line every few milliseconds.
    private struct Numbers: AsyncSequence, AsyncIteratorProtocol, Sendable {
        let count: Int
        var last = 0

        init(count: Int) {
            self.count = count
        }

        func makeAsyncIterator() -> Numbers { self }

        mutating func next() async throws -> String? {
            guard last < count else { return nil }
            last += 1
            try await Task.sleep(for: .milliseconds(5))
            return "\(last)\n"
        }
    }

    @Test("Input by a sequence is given once, whatever happens to the connection")
    func execInput() async throws {
        try await withGateway { gateway, sandbox in
            _ = try await whileRestarting(gateway) {
                try await withThrowingTaskGroup { group in
                    for _ in 0..<5 {
                        group.addTask {
                            let result = try await sandbox.exec("cat", stdin: Numbers(count: 300))
                            #expect(result.stdout == (1...300).map { "\($0)\n" }.joined())
                        }
                    }
                    try await group.waitForAll()
                }
            }
        }
    }

    /// Fifty callers for ten seconds, each with one command after the other in all ways there are.
    @Test("Whatever fifty callers do, each command runs once, each line comes once, no call fails")
    func everything() async throws {
        try await withGateway { gateway, sandbox in
            let file = gateway.directory.appending(path: "ran")
            let numbered = (1...10_000).map { "\($0)\n" }.joined()
            let end = ContinuousClock.now + .seconds(10)
            let done = Names()
            let restarts = try await whileRestarting(gateway) {
                try await withThrowingTaskGroup { group in
                    for caller in 0..<50 {
                        group.addTask {
                            var round = 0
                            while ContinuousClock.now < end || round == 0 {
                                let name = "\(caller).\(round)"
                                let text = try await Self.printed(
                                    by: "echo \(name) >> \(file.path()); ", numbered,
                                    way: caller + round, in: sandbox)
                                #expect(text == numbered, "\(name)")
                                done.add(name)
                                round += 1
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            }
            #expect(restarts > 3)
            #expect(try lines(of: file).sorted() == done.sorted)
        }
    }

    private final class Names: Sendable {
        private let names = Mutex<[String]>([])

        func add(_ name: String) { names.withLock { $0.append(name) } }
        var sorted: [String] { names.withLock { $0.sorted() } }
    }

    /// What came of a command that prints ten thousand lines, in one of four ways.
    private static func printed(
        by command: String, _ numbered: String, way: Int, in sandbox: Sandbox
    ) async throws -> String {
        switch way % 4 {
        case 0: return try await sandbox.exec(command + "seq 1 10000").stdout
        case 1: return try await sandbox.processes.start(command + "seq 1 10000").wait().stdout
        case 2:
            let process = try await sandbox.processes.start(command + "seq 1 10000")
            var text = ""
            var exits = 0
            for try await event in process.stream() {
                switch event {
                case .stdout(let chunk): text += chunk.text
                case .exit(let result): exits += result.succeeded ? 1 : 100
                case .stderr, .gap: Issue.record("\(event)")
                }
            }
            #expect(exits == 1)
            return text
        default:
            let process = try await sandbox.processes.start(command + "cat")
            try await process.writeStdin(numbered, eof: true)
            return try await process.wait().stdout
        }
    }

    @Test("A command that was killed because its caller was away is an error, no result")
    func killedWhileAway() async throws {
        try await withGateway("--resume-window", "500ms") { gateway, sandbox in
            let (started, continuation) = AsyncStream<String>.makeStream()
            let task = Task {
                try await sandbox.exec("echo $$; exec sleep 1000") { event in
                    if case .stdout(let chunk) = event { continuation.yield(chunk.text) }
                    continuation.finish()
                }
            }
            var printed = ""
            for await text in started { printed += text }
            let pid = try #require(pid_t(printed.split(separator: "\n").first ?? ""))
            gateway.kill()
            // The outage lasts until the command has gone.
            while kill(pid, 0) == 0 { try await Task.sleep(for: .milliseconds(10)) }
            try gateway.start()
            let error = await #expect(throws: SandboxError.self) { try await task.value }
            #expect(error?.reason == .callerGone)
            #expect(error?.mayRetry == false)
            let process = try await sandbox.getProcess(try #require(error?.processID))
            #expect(process.terminationReason == .callerGone)
        }
    }

    @Test("A supervisor that was replaced while nothing was called is not missed later")
    func replacedMeanwhile() async throws {
        try await withGateway { gateway, sandbox in
            let first = await sandbox.calls.currentInstance()
            #expect(await sandbox.calls.currentInstance() == first)
            try gateway.replace()
            // The loss of the connection is on its way.
            while await sandbox.calls.currentInstance() == first { await Task.yield() }
            #expect(try await sandbox.exec("echo here").stdout == "here\n")
        }
    }

    @Test("A session that is left while the gateway is away ends at once, as does a closed sandbox")
    func leftWhileAway() async throws {
        try await withGateway { gateway, sandbox in
            let session = try await sandbox.attach("sleep 1000", keepOnDetach: true)
            let reading = Task { for try await _ in session {} }
            let process = try await sandbox.processes.start("sleep 1000")
            let waiting = Task { try await process.wait() }
            gateway.kill()
            session.detach()
            try await reading.value
            await sandbox.close()
            let error = await #expect(throws: SandboxError.self) { try await waiting.value }
            #expect(error?.reason == .closed)
            try gateway.start()
        }
    }

    @Test("A gateway that stays away is an error after the reconnect timeout")
    func away() async throws {
        try await withGateway { gateway, _ in
            let sandbox = try await Sandbox.connect(
                gateway.address, token: gateway.token, reconnectTimeout: .seconds(1))
            gateway.kill()
            let error = await #expect(throws: SandboxError.self) { try await sandbox.exec("true") }
            #expect(error?.reason == .gatewayUnavailable)
            #expect(error?.mayRetry == true)
            await sandbox.close()
            try gateway.start()
        }
    }
}
