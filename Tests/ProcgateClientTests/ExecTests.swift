// Commands that are run and collected.

import ProcgateClient
import Synchronization
import Testing

@Suite("exec", .serialized, .timeLimit(.minutes(2)))
struct ExecTests {
    @Test("A result has the exit code, both streams, and when it ran")
    func result() async throws {
        try await withGateway { _, sandbox in
            let result = try await sandbox.exec("echo out; echo err >&2; exit 3")
            #expect(result.exitCode == 3)
            #expect(result.status == .exited)
            #expect(result.stdout == "out\n")
            #expect(result.stderrBytes == Array("err\n".utf8))
            #expect(!result.succeeded)
            #expect(result.lastSeq == 2)
            #expect(result.duration != nil)
            let direct = try await sandbox.exec("printf", arguments: ["%s|", "$HOME", "a b"])
            #expect(direct.stdout == "$HOME|a b|")
        }
    }

    @Test("Options reach the command")
    func options() async throws {
        try await withGateway { _, sandbox in
            let result = try await sandbox.exec(
                "pwd; echo $FOO; env | wc -l", cwd: "/tmp", env: ["FOO": "a=b c"],
                labels: ["test": "options"], clearEnv: true)
            #expect(result.stdout.hasPrefix("/tmp\na=b c\n"))
            #expect(result.process.labels == ["test": "options"])
        }
    }

    @Test("A signal and a timeout are results")
    func otherEnds() async throws {
        try await withGateway { _, sandbox in
            let killed = try await sandbox.exec("kill -9 $$")
            #expect(killed.status == .killed)
            #expect(killed.exitCode == nil)
            #expect(killed.signal == .kill)
            #expect(killed.signal?.name == "SIGKILL")
            #expect(Set<Signal>([.term, "SIGTERM", "sigterm", "15"]).count == 2)
            let late = try await sandbox.exec("sleep 100", timeout: .milliseconds(200))
            #expect(late.status == .timedOut)
            let absent = try await sandbox.exec("/no/such/command", arguments: ["x"])
            #expect(absent.status == .failed)
            #expect(absent.process.error?.isEmpty == false)
        }
    }

    @Test("Bytes that are not UTF-8 are exact as bytes, and replaced in the text")
    func bytes() async throws {
        try await withGateway { _, sandbox in
            let result = try await sandbox.exec(
                #"printf 'a\377\342\202'; sleep 0.05; printf '\254'"#)
            #expect(result.stdoutBytes == [0x61, 0xFF, 0xE2, 0x82, 0xAC])
            #expect(result.stdout == "a\u{FFFD}€")
        }
    }

    @Test("Stdin is given whole, as text, as bytes and as a sequence")
    func stdin() async throws {
        try await withGateway { _, sandbox in
            let name = "a value, no literal"
            #expect(try await sandbox.exec("cat", stdin: name).stdout == name)
            #expect(try await sandbox.exec("wc -c").stdout.contains("0"))
            let large = [UInt8](repeating: 0x78, count: 3_000_000)
            #expect(try await sandbox.exec("cat", stdin: large).stdoutBytes == large)
            let pieces = AsyncStream<[UInt8]> { continuation in
                for piece in 0..<500 {
                    continuation.yield([UInt8](repeating: UInt8(piece % 256), count: 20_000))
                }
                continuation.finish()
            }
            let result = try await sandbox.exec("sha256sum | cut -c1-64; cat", stdin: pieces)
            #expect(result.stdout.count == 65)
            // A command that reads nothing is no failure of its input.
            let endless = AsyncStream<String> { "y\n" }
            #expect(try await sandbox.exec("head -n 2", stdin: endless).stdout == "y\ny\n")
        }
    }

    private struct Broken: Error {}

    @Test("Where the input fails, the command is killed and the failure is thrown")
    func brokenInput() async throws {
        try await withGateway { _, sandbox in
            let broken = AsyncThrowingStream<String, any Error> { continuation in
                continuation.yield("one\n")
                continuation.finish(throwing: Broken())
            }
            let error = await #expect(throws: SandboxError.self) {
                try await sandbox.exec("cat; sleep 100", stdin: broken)
            }
            #expect(error?.reason == .callerFailed)
            let id = try #require(error?.processID)
            #expect(try await sandbox.getProcess(id).status == .killed)
        }
    }

    @Test("An error of the input is the caller's, even where it looks like the library's own")
    func brokenInputOfTheLibrarysKind() async throws {
        try await withGateway { _, sandbox in
            let broken = AsyncThrowingStream<String, any Error> { continuation in
                continuation.finish(throwing: SandboxError(.stdinClosed, "from elsewhere"))
            }
            let error = await #expect(throws: SandboxError.self) {
                try await sandbox.exec("sleep 100", stdin: broken)
            }
            #expect(error?.reason == .callerFailed)
        }
    }

    @Test("Closing the sandbox kills what exec runs, at once")
    func closing() async throws {
        try await withGateway { gateway, sandbox in
            let other = try await Sandbox.connect(gateway.address, token: gateway.token)
            let (started, continuation) = AsyncStream<Void>.makeStream()
            let task = Task {
                try await other.exec("echo started; sleep 1000", labels: ["k": "z"]) { _ in
                    continuation.finish()
                }
            }
            for await _ in started {}
            await other.close()
            let error = await #expect(throws: SandboxError.self) { try await task.value }
            #expect(error?.reason == .closed)
            for try await process in sandbox.processes.all(labels: ["k": "z"]) {
                let handle = try await sandbox.getProcess(process.id)
                let result = try await handle.wait(timeout: .seconds(5))
                #expect(result.status == .killed)
            }
        }
    }

    @Test("Output is seen while it is collected")
    func onOutput() async throws {
        try await withGateway { _, sandbox in
            let seen = Mutex("")
            let result = try await sandbox.exec("seq 1 1000") { event in
                if case .stdout(let chunk) = event { seen.withLock { $0 += chunk.text } }
            }
            #expect(seen.withLock { $0 } == result.stdout)
            #expect(result.stdout.split(separator: "\n").count == 1000)
        }
    }

    @Test("Too much output kills the command, and the error names its process")
    func outputLimit() async throws {
        try await withGateway { _, sandbox in
            let error = await #expect(throws: SandboxError.self) {
                try await sandbox.exec("yes", maxOutputBytes: 100_000)
            }
            #expect(error?.reason == .outputLimitExceeded)
            let process = try await sandbox.getProcess(try #require(error?.processID))
            #expect(try await process.wait().status == .killed)
        }
    }

    @Test("Cancelling the task kills the command")
    func cancellation() async throws {
        try await withGateway { _, sandbox in
            let (started, continuation) = AsyncStream<Void>.makeStream()
            let task = Task {
                try await sandbox.exec("echo started; sleep 1000", labels: ["k": "c"]) { _ in
                    continuation.finish()
                }
            }
            for await _ in started {}
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
            for try await process in sandbox.processes.all(labels: ["k": "c"]) {
                let result = try await sandbox.getProcess(process.id).wait()
                #expect(result.status == .killed)
                #expect(result.process.terminationReason == .callerGone)
            }
        }
    }

    @Test("A task that is cancelled already runs nothing")
    func cancelledBefore() async throws {
        try await withGateway { gateway, sandbox in
            let file = gateway.directory.appending(path: "ran")
            for _ in 0..<200 {
                let task = Task {
                    while !Task.isCancelled { await Task.yield() }
                    _ = try await sandbox.exec("touch \(file.path())")
                }
                task.cancel()
                await #expect(throws: CancellationError.self) { try await task.value }
            }
            let known = try await sandbox.processes.list().data
            #expect(known.isEmpty)
        }
    }

    @Test("What cannot be run is an error with the contract's reason")
    func refusals() async throws {
        try await withGateway { _, sandbox in
            let cases: [(SandboxError.Reason, () async throws -> Void)] = [
                (.commandRequired, { _ = try await sandbox.exec("") }),
                (.cwdInvalid, { _ = try await sandbox.exec("true", cwd: "/no/such") }),
                (.envInvalid, { _ = try await sandbox.exec("true", env: ["A=B": "c"]) }),
                (.userUnknown, { _ = try await sandbox.exec("true", runAs: "no-such-user") }),
            ]
            for (reason, attempt) in cases {
                let error = await #expect(throws: SandboxError.self) { try await attempt() }
                #expect(error?.reason == reason)
            }
        }
    }

    @Test("A stream holds the command back to its reader, and ends it when it is dropped")
    func heldBack() async throws {
        try await withGateway { _, sandbox in
            var stream: ExecStream? = try await sandbox.execStream("yes")
            let process = try #require(stream).process
            var iterator = stream?.makeAsyncIterator()
            _ = try await iterator?.next()
            var before = -1
            // It stands still once every buffer on the way is full.
            while before != process.stdoutByteCount {
                before = process.stdoutByteCount
                try await Task.sleep(for: .milliseconds(300))
                try await process.refresh()
            }
            #expect(process.status == .running)
            // The window, the client's buffers, and 10 MiB of the kernel's.
            #expect(before < 128 << 20)
            stream = nil
            iterator = nil
            #expect(try await process.wait(maxOutputBytes: 1).status == .killed)
        }
    }

    @Test("A command that has to wait says so first, and then that it has started")
    func queued() async throws {
        try await withGateway("--max-running", "1") { _, sandbox in
            let first = try await sandbox.processes.start("sleep", arguments: ["1000"])
            let stream = try await sandbox.execStream("echo", arguments: ["out"])
            #expect(stream.process.status == .queued)
            try await first.kill()
            var seen: [String] = []
            for try await event in stream.events {
                switch event {
                case .queued(let summary): seen.append("queued \(summary.status.rawValue)")
                case .started(let summary): seen.append("started \(summary.status.rawValue)")
                case .output(.stdout(let chunk)): seen.append(chunk.text)
                case .output: break
                }
            }
            #expect(seen == ["queued queued", "started running", "out\n"])
            #expect(stream.process.status == .exited, "\(stream.process.summary)")
        }
    }

    @Test("Input is cut to what the gateway takes in one message, with all that stands beside it")
    func smallMessages() async throws {
        try await withGateway("--max-message-bytes", "64KiB") { _, sandbox in
            let input = [UInt8]((0..<400_000).map { UInt8(truncatingIfNeeded: $0) })
            for count in [1, 65_000, 65_300, 65_500, 65_536, 400_000] {
                let result = try await sandbox.exec("cat", stdin: Array(input.prefix(count)))
                #expect(result.stdoutBytes == Array(input.prefix(count)))
            }
            let process = try await sandbox.processes.start("cat")
            #expect(try await process.writeStdin(input, eof: true) == input.count)
            #expect(try await process.wait().stdoutBytes == input)
        }
    }
}
