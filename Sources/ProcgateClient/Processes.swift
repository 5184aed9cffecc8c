// `sandbox.processes`: starting processes and finding them again.

internal import GRPCWire
internal import ProcgateV1

/// The processes of a gateway.
public struct Processes: Sendable {
    let calls: GatewayCalls

    /// Starts a process that outlives the call, and returns once it is running or queued.
    ///
    /// - Parameters:
    ///   - command: Run by the shell, or, where there are `arguments`, executed directly.
    ///   - arguments: Of the command, without its name.
    ///   - cwd: Absolute, or relative to the user's home, which is the default.
    ///   - env: Added to the base environment.
    ///   - timeout: From the start of the process; at its end the tree is stopped.
    ///   - runAs: A user's name or numeric id.
    ///   - labels: Yours, to find the process again.
    ///   - limits: How much it may take.
    ///   - shell: Who reads the command's text.
    ///   - clearEnv: Start from `env` alone.
    ///   - grace: Between TERM and KILL.
    ///   - queueTimeout: The longest wait in the queue.
    ///   - retainBytes: Output kept for replay.
    ///   - holdWhenFull: When that is full, hold the process back until a reader has caught up,
    ///     rather than drop the oldest.
    ///   - killDescendants: Kill what is left of the tree once the command has ended.
    ///   - terminal: A pseudo-terminal of this size in place of three pipes.
    ///   - allowNewPrivileges: Let setuid programs such as `sudo` gain privileges.
    ///   - noStdin: `/dev/null` in place of a pipe for `writeStdin`.
    /// - Throws: A reason of the contract, or ``SandboxError/Reason/gatewayUnavailable``.
    public func start(
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
        holdWhenFull: Bool = false,
        killDescendants: Bool = false,
        terminal: TerminalSize? = nil,
        allowNewPrivileges: Bool = false,
        noStdin: Bool = false
    ) async throws -> SandboxProcess {
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
        options.holdWhenFull = holdWhenFull
        options.killDescendants = killDescendants
        options.terminal = terminal
        options.allowNewPrivileges = allowNewPrivileges
        return try await start(command, arguments: arguments, options: options, noStdin: noStdin)
    }

    /// The same, with the options as one value.
    public func start(
        _ command: String, arguments: [String] = [], options: CommandOptions,
        noStdin: Bool = false
    ) async throws -> SandboxProcess {
        var request = StartProcessRequest()
        request.process = options.spec(command, arguments)
        request.requestKey = makeRequestKey()
        request.noStdin = noStdin
        do {
            let response = try await calls.keyed(ProcessService.startProcess, request)
            return try handle(response.process)
        } catch {
            throw forCaller(error)
        }
    }

    /// The process of this id. ``SandboxError/Reason/processNotFound`` where there is none.
    public func get(_ id: String) async throws -> SandboxProcess {
        do {
            return try handle(try await calls.process(id))
        } catch {
            throw forCaller(error)
        }
    }

    /// One page of the processes, newest first.
    ///
    /// - Parameters:
    ///   - status: Those that stand so; `nil` is all.
    ///   - limit: The most to return, 1 to 1000; `nil` is 100.
    ///   - cursor: From the page before.
    ///   - labels: All of these must match.
    ///   - createdAfter: Milliseconds since the Unix epoch, as is `createdBefore`.
    public func list(
        status: ProcessStatus? = nil, limit: Int? = nil, cursor: String? = nil,
        labels: [String: String] = [:], createdAfter: UnixMilliseconds? = nil,
        createdBefore: UnixMilliseconds? = nil
    ) async throws -> ProcessListing {
        try await list(
            status: status.map { [$0] } ?? [], limit: limit, cursor: cursor, labels: labels,
            createdAfter: createdAfter, createdBefore: createdBefore)
    }

    /// One page of the processes that stand in any of these ways; none is all.
    public func list(
        status: [ProcessStatus], limit: Int? = nil, cursor: String? = nil,
        labels: [String: String] = [:], createdAfter: UnixMilliseconds? = nil,
        createdBefore: UnixMilliseconds? = nil
    ) async throws -> ProcessListing {
        var request = ListProcessesRequest()
        request.status = status.map(\.wire)
        if let limit {
            guard limit > 0, let wire = UInt32(exactly: limit) else {
                throw SandboxError(.limitInvalid, "the limit is \(limit): give 1 to 1000")
            }
            request.limit = wire
        }
        request.cursor = cursor ?? ""
        request.labels = labels
        request.createdAfter = createdAfter ?? 0
        request.createdBefore = createdBefore ?? 0
        do {
            let response = try await calls.unary(ProcessService.listProcesses, request)
            return try ProcessListing(response)
        } catch {
            throw forCaller(error)
        }
    }

    /// Every process that matches, newest first, asked for page by page as it is read.
    public func all(
        status: ProcessStatus? = nil, labels: [String: String] = [:],
        createdAfter: UnixMilliseconds? = nil, createdBefore: UnixMilliseconds? = nil
    ) -> ProcessPages {
        all(
            status: status.map { [$0] } ?? [], labels: labels, createdAfter: createdAfter,
            createdBefore: createdBefore)
    }

    /// Every process that stands in any of these ways.
    public func all(
        status: [ProcessStatus], labels: [String: String] = [:],
        createdAfter: UnixMilliseconds? = nil, createdBefore: UnixMilliseconds? = nil
    ) -> ProcessPages {
        ProcessPages { cursor in
            try await list(
                status: status, cursor: cursor, labels: labels, createdAfter: createdAfter,
                createdBefore: createdBefore)
        }
    }

    /// Every process of these nodes of a fleet: one node after the other, newest first on each.
    ///
    /// - Parameter nodes: their names.
    /// - Throws: From the iteration, once every node was asked: the first node's error, whose
    ///   message names it, where one did not answer.
    public func all(
        onEveryNode nodes: [String], status: [ProcessStatus] = [], labels: [String: String] = [:]
    ) -> NodePages {
        NodePages(
            nodes: nodes.map { node in
                let processes = Processes(calls: GatewayCalls(of: calls, on: node))
                return (node, processes.all(status: status, labels: labels))
            })
    }

    /// The processes that match as they stand, then each change of their status, until the
    /// iteration is dropped.
    public func watch(labels: [String: String] = [:]) -> ProcessChanges {
        ProcessChanges(calls: calls, labels: labels)
    }

    private func handle(_ wire: ProcgateV1.Process?) throws(SandboxError) -> SandboxProcess {
        guard let summary = wire.flatMap(ProcessSummary.init) else {
            throw .notUnderstood("a process")
        }
        return SandboxProcess(summary, calls: calls)
    }
}
