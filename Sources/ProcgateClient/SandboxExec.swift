// `exec` in its forms: run a command, and collect or follow what it does.

internal import ProcgateV1
internal import Protobuf

extension Sandbox {
    /// Runs a command and returns how it ended, with all of its output.
    ///
    /// Cancelling the task kills the command's whole tree. The command is run once, whatever
    /// happens to the connection.
    ///
    /// - Parameters:
    ///   - command: Run by the shell, or, where there are `arguments`, executed directly.
    ///   - arguments: Of the command, without its name.
    ///   - cwd: Absolute, or relative to the user's home, which is the default.
    ///   - env: Added to the base environment: PATH, HOME, USER, LOGNAME, SHELL, LANG.
    ///   - timeout: From the start of the process; at its end the tree gets TERM, then KILL, and
    ///     the result's status is ``ProcessStatus/timedOut``.
    ///   - runAs: A user's name or numeric id.
    ///   - labels: Yours, to find the process again.
    ///   - limits: How much it may take.
    ///   - shell: Who reads the command's text.
    ///   - clearEnv: Start from `env` alone.
    ///   - grace: Between TERM and KILL.
    ///   - queueTimeout: The longest wait in the queue; then the status is
    ///     ``ProcessStatus/failed``.
    ///   - retainBytes: Output that the gateway keeps for replay.
    ///   - killDescendants: Kill what is left of the tree once the command has ended.
    ///   - allowNewPrivileges: Let setuid programs such as `sudo` gain privileges.
    ///   - stdin: All of the command's stdin: text or bytes. `nil` is none.
    ///   - maxOutputBytes: The most to collect, both streams together; beyond it the command is
    ///     killed and ``SandboxError/Reason/outputLimitExceeded`` is thrown.
    ///   - onOutput: Sees each chunk before it is collected; while it works the command is held
    ///     back.
    public func exec(
        _ command: String,
        arguments: [String] = [],
        cwd: String? = nil,
        env: [String: String] = [:],
        timeout: Duration? = nil,
        runAs: String? = nil,
        labels: [String: String] = [:],
        limits: ResourceLimits? = nil,
        shell: Shell = .automatic,
        clearEnv: Bool = false,
        grace: Duration? = nil,
        queueTimeout: Duration? = nil,
        retainBytes: Int? = nil,
        killDescendants: Bool = false,
        allowNewPrivileges: Bool = false,
        stdin: (any StdinData)? = nil,
        maxOutputBytes: Int = Sandbox.defaultMaxOutputBytes,
        onOutput: (@Sendable (OutputEvent) async -> Void)? = nil
    ) async throws -> ProcessResult {
        var options = CommandOptions()
        options.cwd = cwd
        options.env = env
        options.timeout = timeout
        options.runAs = runAs
        options.labels = labels
        options.limits = limits
        options.shell = shell
        options.clearEnv = clearEnv
        options.grace = grace
        options.queueTimeout = queueTimeout
        options.retainBytes = retainBytes
        options.killDescendants = killDescendants
        options.allowNewPrivileges = allowNewPrivileges
        return try await exec(
            command, arguments: arguments, options: options, stdin: stdin,
            maxOutputBytes: maxOutputBytes, onOutput: onOutput)
    }

    /// The same, with the options as one value.
    public func exec(
        _ command: String, arguments: [String] = [], options: CommandOptions,
        stdin: (any StdinData)? = nil,
        maxOutputBytes: Int = Sandbox.defaultMaxOutputBytes,
        onOutput: (@Sendable (OutputEvent) async -> Void)? = nil
    ) async throws -> ProcessResult {
        let stream = try await execStream(
            command, arguments: arguments, options: options, stdin: stdin)
        return try await stream.collect(maxOutputBytes: maxOutputBytes, onOutput: onOutput)
    }

    /// Runs a command whose stdin is what a sequence yields, as fast as the command reads it.
    ///
    /// Everything else is as in the form that takes text or bytes. Where the sequence throws, the
    /// command is killed and ``SandboxError/Reason/callerFailed`` is thrown.
    public func exec<Input: AsyncSequence & Sendable>(
        _ command: String,
        arguments: [String] = [],
        cwd: String? = nil,
        env: [String: String] = [:],
        timeout: Duration? = nil,
        runAs: String? = nil,
        labels: [String: String] = [:],
        limits: ResourceLimits? = nil,
        shell: Shell = .automatic,
        clearEnv: Bool = false,
        grace: Duration? = nil,
        queueTimeout: Duration? = nil,
        retainBytes: Int? = nil,
        killDescendants: Bool = false,
        allowNewPrivileges: Bool = false,
        stdin: Input,
        maxOutputBytes: Int = Sandbox.defaultMaxOutputBytes,
        onOutput: (@Sendable (OutputEvent) async -> Void)? = nil
    ) async throws -> ProcessResult where Input.Element: StdinData {
        var options = CommandOptions()
        options.cwd = cwd
        options.env = env
        options.timeout = timeout
        options.runAs = runAs
        options.labels = labels
        options.limits = limits
        options.shell = shell
        options.clearEnv = clearEnv
        options.grace = grace
        options.queueTimeout = queueTimeout
        options.retainBytes = retainBytes
        options.killDescendants = killDescendants
        options.allowNewPrivileges = allowNewPrivileges
        return try await exec(
            command, arguments: arguments, options: options, stdin: stdin,
            maxOutputBytes: maxOutputBytes, onOutput: onOutput)
    }

    /// The same, with the options as one value.
    public func exec<Input: AsyncSequence & Sendable>(
        _ command: String, arguments: [String] = [], options: CommandOptions,
        stdin: Input,
        maxOutputBytes: Int = Sandbox.defaultMaxOutputBytes,
        onOutput: (@Sendable (OutputEvent) async -> Void)? = nil
    ) async throws -> ProcessResult where Input.Element: StdinData {
        let stream = try await execStream(
            command, arguments: arguments, options: options, stdin: stdin)
        return try await stream.collect(maxOutputBytes: maxOutputBytes, onOutput: onOutput)
    }

    /// Runs a command and returns once it is running or queued; its output is read from the
    /// stream, without a limit, and the command is held back to that.
    ///
    /// - Parameter keepOnDisconnect: Let the command go on when its call is cancelled or loses its
    ///   connection. Else its whole tree is killed.
    public func execStream(
        _ command: String, arguments: [String] = [], options: CommandOptions = CommandOptions(),
        stdin: (any StdinData)? = nil, keepOnDisconnect: Bool = false
    ) async throws -> ExecStream {
        let input = stdin?.stdinBytes ?? []
        var request = ExecRequest()
        request.process = options.spec(command, arguments)
        request.stdinData = input
        request.requestKey = makeRequestKey()
        if keepOnDisconnect { request.onDisconnect = .keep }
        guard input.isEmpty || isTaken(request) else {
            return try await execStream(
                command, arguments: arguments, options: options, stdin: OnePiece(bytes: input),
                keepOnDisconnect: keepOnDisconnect)
        }
        do {
            return try await ExecStream.open(.exec(request), calls: calls)
        } catch {
            throw forCaller(error)
        }
    }

    /// Whether one message holds the input and the command. That is measured only where it may
    /// be: no host takes much more than 2 MiB of arguments and environment.
    private func isTaken(_ request: ExecRequest) -> Bool {
        guard request.stdinData.count <= StdinTransfer.messageBytes else { return false }
        let rest = calls.requestBytes - request.stdinData.count
        return rest > 2 << 20 || request.encoded().count <= calls.requestBytes
    }

    /// Runs a command whose stdin is what a sequence yields.
    ///
    /// - Parameter keepOnDisconnect: Let the command go on when its call is cancelled or loses its
    ///   connection. Else its whole tree is killed.
    public func execStream<Input: AsyncSequence & Sendable>(
        _ command: String, arguments: [String] = [], options: CommandOptions = CommandOptions(),
        stdin: Input, keepOnDisconnect: Bool = false
    ) async throws -> ExecStream where Input.Element: StdinData {
        var options = options
        options.holdWhenFull = true
        var request = StartProcessRequest()
        request.process = options.spec(command, arguments)
        request.requestKey = makeRequestKey()
        let stream: ExecStream
        do {
            stream = try await ExecStream.open(
                .attachStart(request, keepOnDisconnect ? .keep : .kill), calls: calls)
        } catch {
            throw forCaller(error)
        }
        let feed = StdinFeed(stdin, to: stream.process)
        return ExecStream(process: stream.process, reader: stream.reader, feed: feed)
    }
}

/// Input that is too large for the request of an Exec.
private struct OnePiece: AsyncSequence, Sendable {
    let bytes: [UInt8]

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(rest: bytes) }

    struct AsyncIterator: AsyncIteratorProtocol {
        var rest: [UInt8]?

        mutating func next() async -> [UInt8]? { rest.take() }
    }
}

extension ExecStream {
    /// Reads to the end, and keeps what comes.
    func collect(
        maxOutputBytes: Int, onOutput: (@Sendable (OutputEvent) async -> Void)?
    ) async throws -> ProcessResult {
        var stdout: [UInt8] = []
        var stderr: [UInt8] = []
        var iterator = makeAsyncIterator()
        while let event = try await iterator.next() {
            switch event {
            case .stdout(let chunk): stdout += chunk.bytes
            case .stderr(let chunk): stderr += chunk.bytes
            case .gap: break
            case .exit(var result):
                result.stdoutBytes = stdout
                result.stderrBytes = stderr
                // What was collected is whole: the reader misses no chunk. It is only what the
                // gateway retains that may be less.
                result.outputTruncated = false
                return result
            }
            await onOutput?(event)
            guard stdout.count + stderr.count <= maxOutputBytes else {
                reader.stop()
                throw SandboxError(
                    .outputLimitExceeded,
                    "the command wrote more than \(maxOutputBytes) bytes and was killed; raise "
                        + "maxOutputBytes, or read it with execStream",
                    processID: process.id)
            }
        }
        throw SandboxError.notUnderstood("the end of a process's output, without its exit")
    }
}
