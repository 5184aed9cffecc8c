// The supervisor's socket, spoken to as a gateway would, and as it would not.

import CLinux
import Glibc
import LinuxIO
import ProcgateInternal
import ProcgateV1
import Protobuf
import Testing

@testable import Supervision
@testable import SupervisorLink

extension WithProcesses {
    @Suite struct Link {
        @Test func aGatewayIsWelcomedWithTheArena() throws {
            let server = try TestServer()
            let gateway = try server.connect()
            #expect(gateway.welcome.protocol == 2)
            #expect(gateway.welcome.uid == getuid())
            #expect(gateway.welcome.pid == UInt32(getpid()))
            var status = stat()
            fstat(gateway.arena, &status)
            #expect(UInt64(status.st_size) == gateway.welcome.arenaBytes)
            // It can be neither shrunk nor grown.
            #expect(ftruncate(gateway.arena, 0) != 0)
            try server.end()
        }

        @Test func aCommandIsStartedFollowedAndEnds() throws {
            let server = try TestServer()
            let gateway = try server.connect()
            let start = Start.with {
                $0.spec = ProcessSpec.with { $0.command = "echo hello; exit 2" }
                $0.stdin = .null
                $0.follow = true
            }
            let reply = try gateway.reply(to: .start(start))
            guard case .started(let started) = reply else { throw Harness.TimedOut() }
            #expect(started.process?.status == .running)
            #expect(started.log != nil)
            let appended = try gateway.event { event -> Appended? in
                if case .appended(let appended) = event { return appended }
                return nil
            }
            #expect(appended.serial == started.serial)
            #expect(appended.lastSeq == 1)
            #expect(appended.firstSeq == 1)
            #expect(appended.end > 6)
            let ended = try gateway.event { event -> Ended? in
                if case .ended(let ended) = event { return ended }
                return nil
            }
            #expect(ended.process?.outcome == .exitCode(2))
            #expect(ended.process?.stdoutBytes == 6)
            try server.end()
        }

        @Test func garbageDropsItsLinkAndNoOther() throws {
            let server = try TestServer()
            let gateway = try server.connect()
            let hello = LinkFrame.encoded(Command.with { $0.kind = .hello(Hello()) })
            let get = LinkFrame.encoded(Command.with { $0.kind = .get(Get()) })
            for bytes: [UInt8] in [
                [0xFF, 0xFF, 0xFF, 0xFF], get, hello + hello, [0, 0, 0, 0],
                [3, 0, 0, 0, 0xFF, 0xFF, 0xFF], Array("GET / HTTP/1.1\r\n\r\n".utf8),
            ] {
                let raw = try server.connectRaw()
                #expect(clinux_send(raw, bytes, bytes.count, -1) == bytes.count)
                #expect(try server.readsEnd(raw), "\(bytes)")
                close(raw)
            }
            // Half a message and then nothing, byte by byte, or an end: no harm.
            let half = try server.connectRaw()
            clinux_send(half, [200, 0, 0], 3, -1)
            try server.turn(times: 3)
            close(half)
            let slow = try server.connectRaw()
            for byte in hello {
                clinux_send(slow, [byte], 1, -1)
                try server.turn(times: 1)
            }
            close(slow)
            guard case .failure(let failure) = try gateway.reply(to: .get(Get())) else {
                throw Harness.TimedOut()
            }
            #expect(failure.reason == "PROCESS_NOT_FOUND")
            // What a newer gateway may ask.
            guard case .failure = try gateway.reply(to: nil) else { throw Harness.TimedOut() }
            try server.end()
        }

        @Test(arguments: [0, 1, 4000, 4096, 5000, 300_000, 1 << 20])
        func stdinIsAttachedToItsCommand(count: Int) throws {
            let server = try TestServer()
            let gateway = try server.connect()
            let start = Start.with { $0.spec = ProcessSpec.with { $0.command = "cat >/dev/null" } }
            guard case .started(let started) = try gateway.reply(to: .start(start)) else {
                throw Harness.TimedOut()
            }
            let write = WriteStdin.with {
                $0.processId = started.process?.id ?? ""
                $0.attachedBytes = UInt32(count)
            }
            let bytes = [UInt8](repeating: 0xFF, count: count)
            for round in 1...3 as ClosedRange<UInt64> {
                let reply = try gateway.reply(to: .writeStdin(write), attaching: bytes)
                guard case .stdin(let stdin) = reply else { throw Harness.TimedOut() }
                #expect(stdin.stdinBytes == round * UInt64(count))
            }
            try server.end()
        }

        @Test func anAttachmentThatIsTooLongDropsItsLink() throws {
            let server = try TestServer()
            let gateway = try server.connect()
            let deaf = try server.connect()
            deaf.send(
                .writeStdin(WriteStdin.with { $0.attachedBytes = (1 << 20) + 1 }))
            try server.turn(times: 5)
            #expect(server.server.linkCount == 1)
            guard case .failure = try gateway.reply(to: .get(Get())) else {
                throw Harness.TimedOut()
            }
            try server.end()
        }

        @Test func aLinkThatDoesNotReadKeepsNobodyWaitingAndLosesNothing() throws {
            let server = try TestServer()
            let gateway = try server.connect()
            let deaf = try server.connect()
            let start = Start.with { start in
                start.spec = ProcessSpec.with {
                    $0.command = "true"
                    $0.args = .init(repeating: String(repeating: "x", count: 100_000), count: 12)
                }
                start.stdin = .null
            }
            guard case .started(let started) = try gateway.reply(to: .start(start)) else {
                throw Harness.TimedOut()
            }
            let id = started.process?.id ?? ""
            let get = Command.Kind.get(Get.with { $0.processId = id })
            var calls: Set<UInt64> = []
            for _ in 0..<80 {
                calls.insert(deaf.send(get))
                try server.turn(times: 1)
            }
            guard case .process = try gateway.reply(to: get) else { throw Harness.TimedOut() }
            #expect(server.server.linkCount == 2)
            while !calls.isEmpty {
                let call = try deaf.event { event -> UInt64? in
                    if case .reply(let reply) = event { return reply.call }
                    return nil
                }
                #expect(calls.remove(call) != nil)
            }
            try server.end()
        }

        @Test func oneSupervisorRunsInOneDirectoryThatIsItsOwn() throws {
            let server = try TestServer()
            #expect(throws: SupervisorStartError.alreadyRunning(server.path)) {
                _ = try StateDirectory(server.path)
            }
            try server.end()
            let open = "/tmp/procgate-open-\(getpid())"
            mkdir(open, 0o755)
            chmod(open, 0o755)
            defer { rmdir(open) }
            #expect(throws: SupervisorStartError.self) { _ = try StateDirectory(open) }
            let foreign = "/tmp/procgate-foreign-\(getpid())"
            mkdir(foreign, 0o700)
            chown(foreign, 65534, 65534)
            defer { rmdir(foreign) }
            #expect(throws: SupervisorStartError.self) { _ = try StateDirectory(foreign) }
        }
    }
}

/// A link server on the test's own thread.
final class TestServer {
    let server: LinkServer
    let path: String
    private var directory: StateDirectory?

    init() throws {
        path = "/tmp/procgate-tests-\(getpid())-\(UInt32.random(in: 0..<UInt32.max))"
        let directory = try StateDirectory(path)
        server = try LinkServer(
            SupervisorConfiguration(stateDirectory: path), socketPath: directory.socketPath)
        self.directory = consume directory
    }

    func turn(times: Int) throws {
        for _ in 0..<times { try server.turn(timeout: .milliseconds(5)) }
    }

    func connectRaw() throws -> Int32 {
        let raw = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let socketPath = path + "/supervisor.sock"
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: socketPath.utf8) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(raw, $0, size) }
        }
        try #require(raw >= 0 && status == 0)
        _ = fcntl(raw, F_SETFL, O_NONBLOCK)
        return raw
    }

    /// Whether the peer closes, however much it says before.
    func readsEnd(_ raw: Int32) throws -> Bool {
        var bytes = [UInt8](repeating: 0, count: 4096)
        for _ in 0..<200 {
            try turn(times: 1)
            let count = read(raw, &bytes, bytes.count)
            if count == 0 || (count < 0 && errno == ECONNRESET) { return true }
        }
        return false
    }

    func connect() throws -> TestGateway { try TestGateway(self) }

    func end() throws {
        server.supervisor.beginShutdown(grace: .zero, for: nil)
        for _ in 0..<1000 where !server.supervisor.isFinished { try turn(times: 1) }
        #expect(server.supervisor.isFinished)
        directory = nil
        for name in ["supervisor.sock", "supervisor.lock"] { unlink(path + "/" + name) }
        rmdir(path)
    }
}

final class TestGateway {
    private let server: TestServer
    private let raw: Int32
    private(set) var welcome = Welcome()
    private(set) var arena: Int32 = -1
    private var input: [UInt8] = []
    private var events: [Event.Kind] = []
    private var nextCall: UInt64 = 1

    init(_ server: TestServer) throws {
        self.server = server
        raw = try server.connectRaw()
        send(.hello(Hello.with { $0.protocol = 1 }))
        welcome = try event { event in
            if case .welcome(let welcome) = event { return welcome }
            return nil
        }
    }

    deinit {
        close(raw)
        if arena >= 0 { close(arena) }
    }

    @discardableResult
    func send(_ kind: Command.Kind?, attaching attachment: [UInt8] = []) -> UInt64 {
        let command = Command.with {
            $0.call = nextCall
            $0.kind = kind
        }
        nextCall += 1
        var frame = (LinkFrame.encoded(command) + attachment)[...]
        while !frame.isEmpty {
            let sent = frame.withUnsafeBytes { clinux_send(raw, $0.baseAddress, $0.count, -1) }
            if sent < 0, errno != EAGAIN { break }
            if sent > 0 { frame = frame.dropFirst(sent) } else { try? server.turn(times: 1) }
        }
        return command.call
    }

    func reply(
        to kind: Command.Kind?, attaching attachment: [UInt8] = []
    ) throws -> Reply.Kind {
        let call = send(kind, attaching: attachment)
        return try event { event in
            if case .reply(let reply) = event, reply.call == call { return reply.kind }
            return nil
        }
    }

    func event<Found>(_ take: (Event.Kind) -> Found?) throws -> Found {
        for _ in 0..<2000 {
            for (index, event) in events.enumerated() {
                guard let found = take(event) else { continue }
                events.remove(at: index)
                return found
            }
            try server.turn(times: 1)
            try receive()
        }
        Issue.record("no such event among \(events)")
        throw Harness.TimedOut()
    }

    private func receive() throws {
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            var passed: Int32 = -1
            let count = bytes.withUnsafeMutableBytes {
                clinux_receive_descriptor(raw, $0.baseAddress, $0.count, &passed)
            }
            if passed >= 0 { arena = passed }
            guard count > 0 else { break }
            input += bytes[..<count]
        }
        while input.count >= 4, let length = LinkFrame.length(input), input.count >= 4 + length {
            let event = try Event(decoding: Array(input[4..<4 + length]))
            if let kind = event.kind { events.append(kind) }
            input.removeFirst(4 + length)
        }
    }
}
