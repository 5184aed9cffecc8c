// Connections that are cut at any byte, and such that fall silent.

import Foundation
import ProcgateClient
import Testing

@Suite("Bad connections", .serialized, .timeLimit(.minutes(3)))
struct ProxyTests {
    private func withProxy(
        _ fault: FaultyProxy.Fault, after bytes: ClosedRange<Int>,
        _ body: (TestGateway, FaultyProxy, Sandbox) async throws -> Void
    ) async throws {
        try await withGateway { gateway, _ in
            let port = try #require(Int(gateway.address.split(separator: ":")[2]))
            let proxy = try await FaultyProxy(to: port, fault: fault, after: bytes)
            let sandbox = try await Sandbox.connect(proxy.address, token: gateway.token)
            try await body(gateway, proxy, sandbox)
            await sandbox.close()
            try await proxy.stop()
        }
    }

    @Test("Connections cut at random bytes repeat nothing and lose nothing")
    func cuts() async throws {
        try await withProxy(.cut, after: 1000...150_000) { gateway, proxy, sandbox in
            let file = gateway.directory.appending(path: "ran")
            let numbered = (1...10_000).map { "\($0)\n" }.joined()
            let input = (1...3000).map { "line \($0)\n" }.joined()
            try await withThrowingTaskGroup { group in
                for number in 0..<20 {
                    group.addTask {
                        let result = try await sandbox.exec(
                            "echo exec \(number) >> \(file.path()); seq 1 10000")
                        #expect(result.stdout == numbered)
                    }
                    group.addTask {
                        let process = try await sandbox.processes.start(
                            "echo start \(number) >> \(file.path()); cat")
                        try await process.writeStdin(input, eof: true)
                        var text = ""
                        for try await event in process.stream() {
                            if case .stdout(let chunk) = event { text += chunk.text }
                        }
                        #expect(text == input)
                        #expect(try await process.wait().stdout == input)
                    }
                }
                try await group.waitForAll()
            }
            #expect(proxy.faultCount > 5)
            let ran = try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
            let expected = (0..<20).flatMap { ["exec \($0)", "start \($0)"] }
            #expect(ran.map(String.init).sorted() == expected.sorted())
        }
    }

    @Test("A command whose input is streamed goes on behind more output than is kept for replay")
    func resumedWithInput() async throws {
        try await withProxy(.cut, after: 60_000_000...60_000_000) { _, proxy, sandbox in
            let (input, continuation) = AsyncStream<String>.makeStream()
            let stream = try await sandbox.execStream(
                "head -c 100000000 /dev/zero; cat", stdin: input)
            var count = 0
            for try await event in stream {
                guard case .stdout(let chunk) = event else { continue }
                count += chunk.bytes.count
                if count == 100_000_000 {
                    continuation.yield("end")
                    continuation.finish()
                }
            }
            #expect(count == 100_000_003)
            #expect(proxy.faultCount > 0)
        }
    }

    @Test("A session goes on behind more output than is kept for replay, and takes input again")
    func resumedSession() async throws {
        try await withProxy(.cut, after: 60_000_000...60_000_000) { _, proxy, sandbox in
            let session = try await sandbox.attach(
                "head -c 100000000 /dev/zero; cat", terminal: nil)
            var count = 0
            var exits = 0
            for try await event in session {
                switch event {
                case .stdout(let chunk): count += chunk.bytes.count
                case .exit: exits += 1
                case .stderr, .gap: Issue.record("\(event)")
                }
                if count == 100_000_000, exits == 0 {
                    try await session.write("end")
                    try await session.closeStdin()
                }
            }
            #expect(count == 100_000_003)
            #expect(exits == 1)
            #expect(proxy.faultCount > 0)
        }
    }

    @Test("What a lost session sent and comes late is not taken behind what was sent after it")
    func lateInput() async throws {
        try await withProxy(.late, after: 4_000...12_000) { _, proxy, sandbox in
            let process = try await sandbox.processes.start("cat")
            let session = try await process.attach()
            let typing = Task {
                for number in 1...400 {
                    try await session.write("\(number)\n")
                    // At a hand's pace, so that a cut finds some of it on its way and more to come.
                    try await Task.sleep(for: .milliseconds(3))
                }
                try await session.closeStdin()
            }
            var text = ""
            for try await event in session {
                if case .stdout(let chunk) = event { text += chunk.text }
            }
            try await typing.value
            #expect(text == (1...400).map { "\($0)\n" }.joined())
            #expect(proxy.faultCount > 0)
        }
    }

    @Test("A session that was resumed is left as any other: its command is killed")
    func resumedSessionIsLeft() async throws {
        try await withProxy(.cut, after: 3_000_000...3_000_000) { gateway, proxy, sandbox in
            let session = try await sandbox.attach("yes", terminal: nil)
            for try await event in session {
                if case .stdout(let chunk) = event, chunk.seq > 0, proxy.faultCount > 0 { break }
            }
            session.detach()
            let direct = try await Sandbox.connect(gateway.address, token: gateway.token)
            let process = try await direct.getProcess(session.process.id)
            #expect(try await process.wait(maxOutputBytes: 1).status == .killed)
            await direct.close()
        }
    }

    @Test("Input that a silent connection swallowed is sent again before there is more")
    func swallowedInput() async throws {
        // The first connection falls silent within the input; any other one passes all of it.
        try await withProxy(.silence, after: 50_000...50_000) { gateway, proxy, sandbox in
            _ = try await sandbox.exec("head -c 25000 /dev/zero")
            let (input, continuation) = AsyncStream<[UInt8]>.makeStream()
            for _ in 0..<40 { continuation.yield([UInt8](repeating: 0x78, count: 1000)) }
            let process = try await sandbox.processes.start("head -c 40000 | wc -c; cat")
            let writing = Task { try await process.writeStdin(input, eof: true) }
            let direct = try await Sandbox.connect(gateway.address, token: gateway.token)
            var text = ""
            for try await event in try await direct.getProcess(process.id).stream() {
                guard case .stdout(let chunk) = event else { continue }
                text += chunk.text
                continuation.finish()
            }
            #expect(text.trimmingCharacters(in: .whitespacesAndNewlines) == "40000")
            #expect(try await writing.value == 40_000)
            #expect(proxy.faultCount > 0)
            await direct.close()
        }
    }

    @Test("A connection that falls silent is found by its keep-alive")
    func silence() async throws {
        // A chunk is at most 256 KiB, and one connection passes a whole one.
        try await withProxy(.silence, after: 300_000...500_000) { _, proxy, sandbox in
            let numbered = (1...100_000).map { "\($0)\n" }.joined()
            let result = try await sandbox.exec("seq 1 100000")
            #expect(result.stdout == numbered)
            #expect(proxy.faultCount > 0)
        }
    }
}
