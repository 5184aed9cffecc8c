// An interactive session with a process: what the caller holds in hands.

internal import GRPCWire
internal import ProcgateV1
import Synchronization

/// One interactive session: output comes as the session's events, input, sizes and signals go in.
///
/// ```swift
/// let session = try await sandbox.attach("bash", terminal: TerminalSize(columns: 80, rows: 24))
/// try await session.write("ls\n")
/// for try await event in session {
///     if case .stdout(let chunk) = event { print(chunk.text, terminator: "") }
/// }
/// ```
///
/// It survives lost connections: the output goes on with the next chunk, and input that had not
/// been accepted is sent again, up to the last ``inputWindowBytes``. One task reads at a time;
/// any may write. It is the reading that reconnects: until then, writes wait. From its first
/// input on, stdin is the session's: `writeStdin` of the process's handles is refused.
public final class AttachSession: AsyncSequence, Sendable {
    public typealias Element = OutputEvent
    public typealias Failure = any Error

    /// What is kept of the input, to be sent again: 64 KiB.
    public static let inputWindowBytes = 64 << 10

    /// The process that the session is with.
    public let process: SandboxProcess
    private let reader: EventReader
    private let input: AttachInput
    private let calls: GatewayCalls
    /// What started the process, where the session's end would kill it.
    private let start: StartProcessRequest?

    private init(
        process: SandboxProcess, reader: EventReader, input: AttachInput, calls: GatewayCalls,
        start: StartProcessRequest? = nil
    ) {
        self.process = process
        self.reader = reader
        self.input = input
        self.calls = calls
        self.start = start
    }

    deinit {
        input.detach()
    }

    static func start(
        _ request: StartProcessRequest, policy: DisconnectPolicy, calls: GatewayCalls
    ) async throws(SandboxError) -> AttachSession {
        let input = AttachInput(calls: calls, offset: 0)
        let reader = EventReader(.attachStart(request, policy), calls: calls, attach: input)
        let process = SandboxProcess(try await reader.identify(), calls: calls)
        input.joined(process.id)
        return AttachSession(
            process: process, reader: reader, input: input, calls: calls,
            start: policy == .kill ? request : nil)
    }

    static func join(
        _ process: SandboxProcess, fromSeq: UInt64, calls: GatewayCalls
    ) async throws -> AttachSession {
        try await process.refresh()
        let input = AttachInput(calls: calls, offset: UInt64(process.stdinByteCount))
        input.joined(process.id)
        var request = StreamOutputRequest()
        request.processId = process.id
        request.fromSeq = fromSeq
        request.allowGaps = true
        let reader = EventReader(.attachJoin(request, .keep), calls: calls, attach: input)
        try await reader.connect()
        return AttachSession(process: process, reader: reader, input: input, calls: calls)
    }

    // MARK: Input

    /// Gives text to the process, as if it were typed.
    public func write(_ text: String) async throws {
        try await write(text.stdinBytes)
    }

    /// Gives bytes to the process, as if they were typed.
    public func write(_ bytes: [UInt8]) async throws {
        do {
            try await input.write(bytes)
        } catch {
            throw forCaller(error)
        }
    }

    /// Closes the process's stdin. On a terminal, where that ends the session with an error, write
    /// its end-of-file character instead, `"\u{4}"`.
    public func closeStdin() async throws {
        try await send(.eof(true))
    }

    /// Sets the size of the terminal. Where there is none, or it has no such size, the session
    /// ends, and its iteration throws why.
    public func resize(_ size: TerminalSize) async throws {
        try await send(.resize(size.wire))
    }

    /// Sends a signal to the process group. Where the host has none of that name, the session ends,
    /// and its iteration throws why.
    public func signal(_ signal: Signal) async throws {
        try await send(.signal(signal.name))
    }

    private func send(_ message: AttachRequest.Message) async throws {
        do {
            try await input.send(message)
        } catch {
            throw forCaller(error)
        }
    }

    /// Returns once the process has taken what was written, or has ended. Cancelling the task ends
    /// the wait, not the session.
    public func flush() async throws {
        do {
            try await input.flush()
        } catch {
            throw forCaller(error)
        }
    }

    /// Ends the session, and its iteration. The process goes on where it was joined, or was
    /// started with `keepOnDetach`; else it is killed. Input that it has not taken yet is lost:
    /// see ``flush()``.
    public func detach() {
        reader.detach()
        input.detach()
    }

    /// Ends the session, and its iteration, as ``detach()`` does, and lets the process go on, also
    /// where that would kill it.
    /// - Throws: Where the gateway does not answer. The session then goes on.
    public func leaveRunning() async throws {
        do {
            guard let start else { return detach() }
            // A second owner, which lets the process live when it goes: it comes before the session
            // goes, and goes after it.
            let owner = try await calls.secondOwner(of: start)
            detach()
            // The gateway has dealt with the end of the session once it answers.
            _ = try? await calls.process(process.id)
            withExtendedLifetime(owner) {}
        } catch {
            throw forCaller(error)
        }
    }

    // MARK: Output

    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(events: events.makeAsyncIterator())
    }

    /// Keeps the session open.
    public struct AsyncIterator: AsyncIteratorProtocol {
        var events: Events.AsyncIterator

        /// The next event; `nil` after the exit, or after ``AttachSession/detach()``.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws -> OutputEvent? {
            while let event = try await events.next(isolation: actor) {
                if case .output(let output) = event { return output }
            }
            return nil
        }

        public mutating func next() async throws -> OutputEvent? {
            try await next(isolation: nil)
        }
    }

    /// The session's events, with what comes before the output where it started the process: that
    /// it is queued, that it has started. A session that joined has the output alone.
    public var events: Events { Events(session: self) }

    /// What ``AttachSession/events`` is.
    public struct Events: AsyncSequence, Sendable {
        public typealias Element = CommandEvent
        public typealias Failure = any Error

        let session: AttachSession

        public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(session: session) }

        /// Keeps the session open.
        public struct AsyncIterator: AsyncIteratorProtocol {
            let session: AttachSession

            /// The next event; `nil` after the exit, or after ``AttachSession/detach()``.
            public mutating func next(
                isolation actor: isolated (any Actor)? = #isolation
            ) async throws -> CommandEvent? {
                do {
                    let event = try await session.reader.next()
                    if let event { session.process.note(event) }
                    return event
                } catch {
                    throw forCaller(error)
                }
            }

            public mutating func next() async throws -> CommandEvent? {
                try await next(isolation: nil)
            }
        }
    }
}

extension Sandbox {
    /// Starts a command in an interactive session.
    ///
    /// - Parameters:
    ///   - command: Run by the shell, or, where there are `arguments`, executed directly.
    ///   - arguments: Of the command, without its name.
    ///   - terminal: The size of its terminal; `nil` gives it three pipes instead.
    ///   - cwd: Absolute, or relative to the user's home, which is the default.
    ///   - env: Added to the base environment.
    ///   - timeout: From the start of the process; at its end the tree is stopped.
    ///   - runAs: A user's name or numeric id.
    ///   - labels: Yours, to find the process again.
    ///   - allowNewPrivileges: Let setuid programs such as `sudo` gain privileges.
    ///   - keepOnDetach: Let the process go on when the session ends before it, or loses its
    ///     connection. Else it is killed.
    public func attach(
        _ command: String,
        arguments: [String] = [],
        terminal: TerminalSize? = TerminalSize(columns: 80, rows: 24),
        cwd: String? = nil,
        env: [String: String] = [:],
        timeout: Duration? = nil,
        runAs: String? = nil,
        labels: [String: String] = [:],
        allowNewPrivileges: Bool = false,
        keepOnDetach: Bool = false
    ) async throws -> AttachSession {
        var options = CommandOptions()
        options.allowNewPrivileges = allowNewPrivileges
        options.terminal = terminal
        options.cwd = cwd
        options.env = env
        options.timeout = timeout
        options.runAs = runAs
        options.labels = labels
        return try await attach(
            command, arguments: arguments, options: options, keepOnDetach: keepOnDetach)
    }

    /// The same, with the options as one value.
    public func attach(
        _ command: String, arguments: [String] = [], options: CommandOptions,
        keepOnDetach: Bool = false
    ) async throws -> AttachSession {
        var options = options
        options.holdWhenFull = true
        var request = StartProcessRequest()
        request.process = options.spec(command, arguments)
        request.requestKey = makeRequestKey()
        do {
            return try await AttachSession.start(
                request, policy: keepOnDetach ? .keep : .kill, calls: calls)
        } catch {
            throw forCaller(error)
        }
    }

    /// Joins a process in an interactive session. Ending it leaves the process alone.
    ///
    /// - Parameter fromSeq: The first chunk of output wanted; 0 and 1 mean from the beginning.
    public func attach(
        to processID: String, fromSeq: UInt64 = 0
    ) async throws -> AttachSession {
        try await getProcess(processID).attach(fromSeq: fromSeq)
    }
}
