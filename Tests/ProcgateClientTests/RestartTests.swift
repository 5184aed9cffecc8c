// The gateway is killed again and again while clients work: nothing is run twice, nothing lost.

import Foundation
import ProcgateClient
import Testing

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
