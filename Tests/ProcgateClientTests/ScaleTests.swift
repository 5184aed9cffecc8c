// Many calls and much output: what they leave behind.

import Foundation
import ProcgateClient
import Testing

@Suite("Scale", .serialized, .timeLimit(.minutes(5)))
struct ScaleTests {
    private func resident() throws -> Int {
        let text = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
        return (Int(text.split(separator: " ")[1]) ?? 0) * 4096
    }

    private func count(_ directory: String) throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: directory).count
    }

    private func run(_ total: Int, in sandbox: Sandbox) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<total {
                if number >= 64 { try await group.next() }
                group.addTask {
                    let result = try await sandbox.exec("true", arguments: [""])
                    #expect(result.succeeded)
                }
            }
            try await group.waitForAll()
        }
    }

    @Test("Ten thousand commands over one connection leave nothing behind")
    func manyExecs() async throws {
        try await withGateway { _, sandbox in
            try await run(1000, in: sandbox)
            let before = (try count("/proc/self/fd"), try count("/proc/self/task"))
            try await run(10_000, in: sandbox)
            let after = (try count("/proc/self/fd"), try count("/proc/self/task"))
            // Other tests of this process open and close some beside it: a leak is of thousands.
            #expect(after.0 < before.0 + 64)
            #expect(after.1 < before.1 + 16)
        }
    }

    @Test("Half a gibibyte is streamed with flat memory")
    func largeStream() async throws {
        try await withGateway { _, sandbox in
            let stream = try await sandbox.execStream("head -c 536870912 /dev/zero")
            var bytes = 0
            var chunks = 0
            var first = 0
            var largest = 0
            for try await event in stream {
                guard case .stdout(let chunk) = event else { continue }
                bytes += chunk.bytes.count
                chunks += 1
                guard chunks % 64 == 0 else { continue }
                if first == 0 { first = try resident() }
                largest = max(largest, try resident())
            }
            #expect(bytes == 1 << 29)
            #expect(largest < first + (64 << 20))
        }
    }
}
