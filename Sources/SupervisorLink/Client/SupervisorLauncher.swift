// Starts a supervisor where none answers, detached from the gateway: it is to outlive
// it. Blocks; called before the gateway listens and, when a supervisor died, on a thread
// of its own.

import CLinux
import Glibc
import LinuxIO

/// Finds the supervisor of a state directory, or starts one.
public struct SupervisorLauncher: Sendable {
    /// Of the supervisor's socket.
    public let socketPath: String
    public let stateDirectory: String
    private let executable: String
    private let arguments: [String]
    private let version: String
    /// Names this gateway to its supervisor: 128 bits at random.
    private let gatewayID: String

    private static let attempts = 5

    /// - Parameters:
    ///   - executable: this program.
    ///   - arguments: what makes it a supervisor; it prints one line, a `SupervisorReport`.
    public init(stateDirectory: String, executable: String, arguments: [String], version: String) {
        self.stateDirectory = stateDirectory
        socketPath = stateDirectory + "/supervisor.sock"
        self.executable = executable
        self.arguments = arguments
        self.version = version
        var random = SystemRandomNumberGenerator()
        gatewayID = (0..<2).map { _ in String(random.next() as UInt64, radix: 16) }.joined()
    }

    /// A connection to the supervisor, which is started where none answers. Two gateways
    /// may start one at once: the state directory's lock lets one of them live.
    ///
    /// - Parameter lane: which of the gateway's links it is for.
    /// - Throws: At once where a supervisor is started and cannot be one: it could not the next
    ///   time either.
    public func connect(lane: UInt32) throws(SupervisorError) -> SupervisorSocket {
        var failure = SupervisorError.lost("")
        var isOurs = false
        for _ in 0..<Self.attempts {
            do throws(SupervisorError) {
                return try SupervisorSocket(
                    path: socketPath, version: version, gatewayID: gatewayID, lane: lane,
                    isFirst: isOurs)
            } catch {
                if case .protocolViolation = error { throw error }
                failure = error
            }
            isOurs = try launch()
        }
        throw failure
    }

    /// Starts a supervisor and waits until it listens or has ended. False where another one runs
    /// already.
    private func launch() throws(SupervisorError) -> Bool {
        let report: SupervisorReport
        do throws(SystemError) {
            report = try launchAndWait()
        } catch {
            throw .lost("starting a supervisor: \(error)")
        }
        switch report {
        case .listening: return true
        case .alreadyRunning: return false
        case .failed(let reason): throw .lost(reason)
        }
    }

    private func launchAndWait() throws(SystemError) -> SupervisorReport {
        let ends = try Pipe(nonblockingReader: false, nonblockingWriter: false).ends()
        let reader = LinuxIO.FileDescriptor(owning: ends.reader)
        let pid: pid_t
        do {
            let writer = LinuxIO.FileDescriptor(owning: ends.writer)
            pid = try spawn(output: writer.raw)
        }
        let report = SupervisorReport(line: firstLine(of: reader))
        if case .listening? = report {
            SupervisorReaper.reap(pid)
            return .listening
        }
        var status: Int32 = 0
        // One that hangs before it has said anything owns no process yet.
        if report == nil { kill(pid, SIGKILL) }
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        return report ?? .failed(Self.end(status))
    }

    /// Up to the newline, or to the end of the output; at most `longestLineBytes`.
    private func firstLine(of reader: borrowing LinuxIO.FileDescriptor) -> String {
        var line: [UInt8] = []
        var byte: UInt8 = 0
        let deadline = Instant.now() + Self.longestStart
        while true {
            clinux_await_readable(reader.raw, max(0, (deadline - .now()).nanoseconds))
            guard Instant.now() < deadline,
                case .bytes = withUnsafeMutableBytes(of: &byte, { reader.read(into: $0) })
            else { break }
            if byte == UInt8(ascii: "\n") { break }
            if line.count < Self.longestLineBytes { line.append(byte) }
        }
        return String(decoding: line, as: UTF8.self)
    }

    /// A supervisor that has not said a word by then is given up.
    private static let longestStart: Duration = .seconds(20)
    /// Two paths, the longest there are.
    private static let longestLineBytes = 8 << 10

    /// What `waitpid` says of a supervisor that said nothing itself.
    private static func end(_ status: Int32) -> String {
        let signal = status & 0x7F
        let how = signal == 0 ? "exit status \(status >> 8 & 0xFF)" : "signal \(signal)"
        return "the supervisor ended before it listened, with \(how)"
    }

    /// The supervisor gets /dev/null, `output` and this process's standard error, and no other
    /// descriptor: the gateway's sockets are its own.
    private func spawn(output: Int32) throws(SystemError) -> pid_t {
        var argv: [UnsafeMutablePointer<CChar>?] = ([executable] + arguments).map { strdup($0) }
        argv.append(nil)
        defer { argv.forEach { free($0) } }
        var pid: pid_t = 0
        let status = clinux_spawn_detached(executable, argv, output, &pid)
        guard status == 0 else { throw SystemError("posix_spawn \(executable)", code: status) }
        return pid
    }
}

/// The one line that a supervisor prints to whoever starts it.
public enum SupervisorReport: Equatable, Sendable {
    /// From now on it can be connected to.
    case listening
    /// Another one has the state directory.
    case alreadyRunning
    /// It cannot begin, for this reason.
    case failed(String)

    private static let listeningWord = "supervising"
    private static let alreadyLine = "already supervised"
    private static let failedWord = "cannot supervise: "

    /// `nil` for what is none.
    init?(line: String) {
        if line.hasPrefix(Self.listeningWord) {
            self = .listening
        } else if line == Self.alreadyLine {
            self = .alreadyRunning
        } else if line.hasPrefix(Self.failedWord) {
            self = .failed(String(line.dropFirst(Self.failedWord.count)))
        } else {
            return nil
        }
    }

    /// Without its end.
    public func line(stateDirectory: String) -> String {
        switch self {
        case .listening: "\(Self.listeningWord) in \(stateDirectory)"
        case .alreadyRunning: Self.alreadyLine
        case .failed(let reason): Self.failedWord + reason
        }
    }
}

/// Takes the status of a supervisor that ends while its gateway lives, so that it leaves
/// no zombie: a thread that waits costs less than a handler for SIGCHLD.
private enum SupervisorReaper {
    static func reap(_ pid: pid_t) {
        var thread = pthread_t()
        let argument = UnsafeMutablePointer<pid_t>.allocate(capacity: 1)
        argument.initialize(to: pid)
        let status = pthread_create(
            &thread, nil,
            { argument in
                let pid = argument?.assumingMemoryBound(to: pid_t.self)
                var status: Int32 = 0
                if let pid {
                    while waitpid(pid.pointee, &status, 0) < 0, errno == EINTR {}
                    pid.deallocate()
                }
                return nil
            }, argument)
        if status == 0 { pthread_detach(thread) } else { argument.deallocate() }
    }
}
