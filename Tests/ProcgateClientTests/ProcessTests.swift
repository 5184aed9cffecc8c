// Processes that are started, found, followed and controlled.

import ProcgateClient
import Testing

@Suite("Processes", .serialized, .timeLimit(.minutes(2)))
struct ProcessTests {
    @Test("A started process is found again, written to, waited for and deleted")
    func life() async throws {
        try await withGateway { _, sandbox in
            let process = try await sandbox.processes.start("cat; exit 4", labels: ["a": "b"])
            #expect(process.status == .running)
            #expect(try await process.writeStdin("one ") == 4)
            let other = try await sandbox.getProcess(process.id)
            // Another handle goes on where the first one stopped.
            try await other.writeStdin([0x74, 0x77, 0x6F])
            try await process.writeStdin(
                AsyncStream<String> { c in
                    c.yield(" thr")
                    c.yield("ee")
                    c.finish()
                })
            try await process.closeStdin()
            let result = try await other.wait()
            #expect(result.stdout == "one two three")
            #expect(result.exitCode == 4)
            #expect(process.status == .running)
            #expect(try await process.refresh().status == .exited)
            try await process.delete()
            let error = await #expect(throws: SandboxError.self) {
                try await process.refresh()
            }
            #expect(error?.reason == .processNotFound)
            #expect(error?.processID == process.id)
        }
    }

    @Test("Signals, stop and kill end a process")
    func control() async throws {
        try await withGateway { _, sandbox in
            let first = try await sandbox.processes.start("sleep 1000")
            #expect(try await first.signal("TERM"))
            #expect(try await first.wait().signal == "SIGTERM")
            #expect(try await !first.signal(.term))
            let second = try await sandbox.processes.start("trap '' TERM; sleep 1000; sleep 1000")
            #expect(try await second.stop(grace: .milliseconds(100)).status == .killed)
            let third = try await sandbox.processes.start("sleep 1000")
            #expect(try await third.kill().signal == "SIGKILL")
            #expect(third.status == .killed)
            let error = await #expect(throws: SandboxError.self) {
                try await third.signal("NOSUCH")
            }
            #expect(error?.reason == .signalInvalid)
        }
    }

    @Test("A wait that runs out of time leaves the process alone")
    func waitTimeout() async throws {
        try await withGateway { _, sandbox in
            let process = try await sandbox.processes.start("sleep 1000")
            let error = await #expect(throws: SandboxError.self) {
                try await process.wait(timeout: .milliseconds(100))
            }
            #expect(error?.reason == .waitTimedOut)
            #expect(try await process.refresh().status == .running)
        }
    }

    @Test("A stream replays from a chunk on, ends with what is there, or follows to the exit")
    func streams() async throws {
        try await withGateway { _, sandbox in
            let process = try await sandbox.processes.start(
                "for i in 1 2 3; do echo $i; sleep 0.05; done; echo e >&2; read x; echo last")
            var seqs: [UInt64] = []
            for try await event in process.stream() {
                guard case .stdout(let chunk) = event else { break }
                seqs.append(chunk.seq)
            }
            #expect(seqs == [1, 2, 3])
            var texts: [String] = []
            for try await event in process.stream(fromSeq: 2, follow: false) {
                if case .stdout(let chunk) = event { texts.append(chunk.text) }
            }
            #expect(texts == ["2\n", "3\n"])
            try await process.writeStdin("\n")
            var ends: [Int?] = []
            texts = []
            for try await event in process.stream(streams: [.stderr]) {
                switch event {
                case .exit(let result): ends.append(result.exitCode)
                case .stderr(let chunk): texts.append(chunk.text)
                case .stdout, .gap: Issue.record("not asked for: \(event)")
                }
            }
            #expect(texts == ["e\n"])
            #expect(ends == [0])
        }
    }

    @Test("Handles of one process take turns at its stdin")
    func twoHandles() async throws {
        try await withGateway { _, sandbox in
            let first = try await sandbox.processes.start("cat")
            let second = try await sandbox.getProcess(first.id)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for handle in [first, second] {
                    group.addTask {
                        for _ in 0..<20 { try await handle.writeStdin("0123456789") }
                    }
                }
                try await group.waitForAll()
            }
            try await first.closeStdin()
            let result = try await second.wait()
            #expect(result.stdoutBytes.count == 400)
        }
    }

    @Test("What retention dropped is an error, or a gap where that is allowed")
    func gaps() async throws {
        try await withGateway { _, sandbox in
            let process = try await sandbox.processes.start("seq 1 2000000", retainBytes: 65536)
            _ = try await process.wait()
            let error = await #expect(throws: SandboxError.self) {
                for try await _ in process.stream() {}
            }
            #expect(error?.reason == .replayWindowExpired)
            #expect(error?.firstRetainedSeq ?? 0 > 1)
            var events: [OutputEvent] = []
            for try await event in process.stream(allowGaps: true) { events.append(event) }
            guard case .gap(let gap)? = events.first else {
                Issue.record("no gap")
                return
            }
            #expect(gap.fromSeq == 1)
            #expect(gap.toSeq + 1 == error?.firstRetainedSeq)
        }
    }

    @Test("Followers of one stream do not mind what the other one pushed out of memory")
    func oneStreamOfTwo() async throws {
        try await withGateway { _, sandbox in
            let process = try await sandbox.processes.start(
                "seq 1 200000; echo e >&2; exit 5", retainBytes: 65536)
            _ = try await process.wait()
            var ends: [Int?] = []
            let quiet = try await sandbox.processes.start("seq 1 200000", retainBytes: 65536)
            _ = try await quiet.wait()
            for try await event in quiet.stream(streams: [.stderr]) {
                guard case .exit(let result) = event else {
                    Issue.record("\(event)")
                    continue
                }
                ends.append(result.exitCode)
            }
            #expect(ends == [0])
            // Here something of the stream may have gone too.
            let error = await #expect(throws: SandboxError.self) {
                for try await _ in process.stream(streams: [.stderr]) {}
            }
            #expect(error?.reason == .replayWindowExpired)
        }
    }

    @Test("Listings come in pages, by status and by label, and all of them in one sequence")
    func listings() async throws {
        try await withGateway { _, sandbox in
            for number in 0..<7 {
                _ = try await sandbox.exec("true", labels: ["n": "\(number % 2)"])
            }
            let running = try await sandbox.processes.start("sleep 1000")
            let first = try await sandbox.processes.list(limit: 3)
            #expect(first.data.count == 3)
            #expect(first.data[0].id == running.id)
            let cursor = try #require(first.nextCursor)
            let second = try await sandbox.processes.list(limit: 3, cursor: cursor)
            #expect(Set(first.data.map(\.id)).isDisjoint(with: second.data.map(\.id)))
            #expect(
                try await sandbox.processes.list(status: .running).data.map(\.id) == [running.id])
            #expect(try await sandbox.processes.list(labels: ["n": "1"]).data.count == 3)
            var count = 0
            for try await _ in sandbox.processes.all() { count += 1 }
            #expect(count == 8)
            let bad = await #expect(throws: SandboxError.self) {
                try await sandbox.processes.list(limit: 5000)
            }
            #expect(bad?.reason == .limitInvalid)
        }
    }

    @Test("A watch tells how processes stand, and each change")
    func watch() async throws {
        try await withGateway { _, sandbox in
            let process = try await sandbox.processes.start("read x", labels: ["w": "1"])
            var told: [ProcessStatus] = []
            for try await change in sandbox.processes.watch(labels: ["w": "1"]) {
                guard case .process(let summary) = change else { break }
                #expect(summary.id == process.id)
                told.append(summary.status)
                if summary.status == .running { try await process.writeStdin("\n") }
                if summary.status == .exited { try await process.delete() }
            }
            #expect(told == [.running, .exited])
        }
    }

    @Test("A session has a terminal, takes input and sizes, and is left without harm")
    func attach() async throws {
        try await withGateway { _, sandbox in
            let session = try await sandbox.attach(
                "sh", terminal: TerminalSize(columns: 100, rows: 30), env: ["PS1": ""],
                keepOnDetach: true)
            try await session.write("stty -echo; stty size; echo rea''dy\n")
            var text = ""
            var hasResized = false
            for try await event in session {
                guard case .stdout(let chunk) = event else { continue }
                text += chunk.text
                if text.contains("ready"), !hasResized {
                    hasResized = true
                    try await session.resize(TerminalSize(columns: 50, rows: 20))
                    try await session.write("stty size\n")
                }
                if text.contains("20 50") { session.detach() }
            }
            #expect(text.contains("30 100"))
            #expect(try await session.process.refresh().status == .running)
            let again = try await sandbox.attach(to: session.process.id)
            try await again.write("exit 7\n")
            var code: Int?
            for try await event in again {
                if case .exit(let result) = event { code = result.exitCode }
            }
            #expect(code == 7)
        }
    }

    @Test("What was written before a session is left arrives where it was flushed")
    func flush() async throws {
        try await withGateway { _, sandbox in
            let process = try await sandbox.processes.start("cat")
            for number in 1...10 {
                let session = try await process.attach()
                try await session.write("\(number) ")
                try await session.flush()
                session.detach()
            }
            try await process.closeStdin()
            let text = (1...10).map { "\($0) " }.joined()
            #expect(try await process.wait().stdout == text)
            // Whoever wrote nothing, or to whom nobody listens any more, waits for nothing.
            let ended = try await sandbox.processes.start("exit 0")
            let session = try await ended.attach()
            try await session.flush()
            for _ in 1...3 { try await session.write("nobody reads this") }
            try await session.flush()
            for try await event in session {
                if case .exit(let result) = event { #expect(result.exitCode == 0) }
            }
        }
    }

    @Test("While a session writes to a process, its handles do not")
    func sessionAndHandle() async throws {
        try await withGateway { _, sandbox in
            let process = try await sandbox.processes.start("cat")
            let session = try await process.attach()
            try await process.writeStdin("handle ")
            try await session.write("session ")
            let error = await #expect(throws: SandboxError.self) {
                try await process.writeStdin("both ")
            }
            #expect(error?.reason == .failedPrecondition)
            var text = ""
            for try await event in session {
                if case .stdout(let chunk) = event { text += chunk.text }
                if text == "handle session " { session.detach() }
            }
            try await process.writeStdin("again", eof: true)
            #expect(try await process.wait().stdout == "handle session again")
        }
    }

    @Test("Calls that last do not keep others waiting, however few a connection takes")
    func fewStreams() async throws {
        try await withGateway("--max-streams", "3") { _, sandbox in
            let process = try await sandbox.processes.start("read x")
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        let result = try await process.wait()
                        #expect(result.exitCode == 0)
                    }
                }
                // As many as the first connection takes are waiting, or soon will be.
                for _ in 0..<20 { #expect(try await sandbox.exec("true").succeeded) }
                try await process.writeStdin("\n")
                try await group.waitForAll()
            }
        }
    }

    @Test("A closed sandbox ends what is open, with a clear error")
    func close() async throws {
        try await withGateway { _, sandbox in
            let process = try await sandbox.processes.start("sleep 1000")
            let waiting = Task { try await process.wait() }
            try await process.refresh()
            await sandbox.close()
            let error = await #expect(throws: SandboxError.self) { try await waiting.value }
            #expect(error?.reason == .closed)
            let later = await #expect(throws: SandboxError.self) { try await sandbox.exec("true") }
            #expect(later?.reason == .closed)
        }
    }

    @Test("A unix socket needs no token; a wrong one is refused; nobody there is told soon")
    func connecting() async throws {
        try await withGateway { gateway, _ in
            let local = try await Sandbox.connect(gateway.unixAddress)
            #expect(try await local.exec("echo here").stdout == "here\n")
            #expect(try await local.info().maxRunning > 0)
            await local.close()
            let refused = await #expect(throws: SandboxError.self) {
                _ = try await Sandbox.connect(gateway.address, token: "wrong")
            }
            #expect(refused?.reason == .tokenInvalid)
            let unspeakable = await #expect(throws: SandboxError.self) {
                _ = try await Sandbox.connect(gateway.address, token: "t\u{f6}ken")
            }
            #expect(unspeakable?.reason == .tokenInvalid)
            #expect(unspeakable?.mayRetry == false)
            let withoutToken = await #expect(throws: SandboxError.self) {
                _ = try await Sandbox.connect(gateway.address, token: "")
            }
            #expect(withoutToken?.reason == .tokenInvalid)
            let nobody = await #expect(throws: SandboxError.self) {
                _ = try await Sandbox.connect("http://127.0.0.1:1")
            }
            #expect(nobody?.reason == .gatewayUnavailable)
            let long = "unix:/" + String(repeating: "x", count: 107)
            for address in ["", "ftp://x:1", "http://", "http://a:0", "http://a:b", "unix:", long] {
                let invalid = await #expect(throws: SandboxError.self) {
                    _ = try await Sandbox.connect(address)
                }
                #expect(invalid?.reason == .invalidAddress)
            }
        }
    }
}
