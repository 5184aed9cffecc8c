// The calls that more than one file makes, and all that deals with a call's streams.

internal import GRPCWire
internal import ProcgateV1

/// Dropping it ends the call.
typealias EventResponses = ResponseStream<ProcessEvent>.AsyncIterator

/// Gives the requests of one Attach.
struct AttachSender: Sendable {
    let call: ClientCall<AttachRequest, ProcessEvent>
    /// By which the gateway knows it again: see ``GatewayCalls/Fence``.
    let session: String

    func send(_ request: AttachRequest) async throws(GRPCStatus) {
        try await call.send(request)
    }
}

/// Gives the requests of one StreamStdin. Dropping it ends the call.
struct StdinSender: Sendable {
    let call: ClientCall<StreamStdinRequest, StreamStdinResponse>

    func send(_ request: StreamStdinRequest) async throws(GRPCStatus) {
        try await call.send(request)
    }

    func finish() async throws(GRPCStatus) -> StreamStdinResponse {
        try await call.response()
    }
}

extension GatewayCalls {
    /// What a lost session sent may be on its way still. The gateway lets none of it through once
    /// it is told that its caller has gone on: a write that comes after the session says so.
    enum Fence {
        static let nameField = "procgate-session"
        static let afterField = "procgate-after-session"
    }

    func process(
        _ id: String, unless alarm: Alarm? = nil
    ) async throws(SandboxError) -> ProcgateV1.Process {
        var request = GetProcessRequest()
        request.processId = id
        let answer = try await unary(
            ProcessService.getProcess, request, processID: id, unless: alarm)
        guard let process = answer.process else { throw .notUnderstood("a process") }
        return process
    }

    func exec(_ request: ExecRequest) -> ResponseStream<ProcessEvent> {
        channel.serverStreaming(ProcessService.exec, request, options: options())
    }

    func streamOutput(_ request: StreamOutputRequest) -> EventResponses {
        channel.serverStreaming(
            ProcessService.streamOutput, request, options: options(for: request.processId)
        ).makeAsyncIterator()
    }

    func watch(
        _ request: WatchProcessesRequest
    ) -> ResponseStream<WatchProcessesResponse>.AsyncIterator {
        channel.serverStreaming(ProcessService.watchProcesses, request, options: options())
            .makeAsyncIterator()
    }

    func attach(
        _ first: AttachRequest
    ) async throws(GRPCStatus) -> (AttachSender, EventResponses) {
        let session = makeRequestKey()
        var joined: String?
        if case .join(let join) = first.message { joined = join.processId }
        var options = options(for: joined)
        options.metadata.append(Fence.nameField, session)
        let call = channel.bidirectional(ProcessService.attach, options: options)
        try await call.send(first)
        return (
            AttachSender(call: call, session: session), call.responses.makeAsyncIterator()
        )
    }

    /// A call that owns the process which the request has started, and lets it go on when the call
    /// is dropped. It reads no output.
    func secondOwner(
        of start: StartProcessRequest
    ) async throws(SandboxError) -> EventResponses {
        var request = ExecRequest()
        request.process = start.process
        request.requestKey = start.requestKey
        // Joins, and never starts: see the contract.
        request.afterSeq = .max
        request.onDisconnect = .keep
        var events = exec(request).makeAsyncIterator()
        do throws(GRPCStatus) {
            _ = try await events.next()
        } catch {
            throw self.error(error)
        }
        return events
    }

    func streamStdin(of processID: String) -> StdinSender {
        StdinSender(
            call: channel.clientStreaming(
                ProcessService.streamStdin, options: options(for: processID)))
    }
}

extension GatewayCalls {
    /// How long the response to a wait may take once the time of the wait is over. The caller is
    /// told nothing else when it does not come: the time did run out.
    private static var answerTime: Duration { .seconds(1) }
    /// Longer ones are as good as none, and sums of them would not be durations.
    private static var longestTime: Duration { .seconds(2_000_000_000) }

    /// Asked again after a lost connection, for what is left of the time. When that is over, it is
    /// ``SandboxError/Reason/waitTimedOut``, also while the gateway is out of reach.
    func wait(
        _ request: WaitRequest, timeout: Duration?
    ) async throws(SandboxError) -> WaitResponse {
        guard let timeout else {
            return try await unary(ProcessService.wait, request, processID: request.processId)
        }
        let end = ContinuousClock.now + timeout
        var retry = newRetryState()
        var request = request
        while true {
            let left: Duration = max(.zero, end - ContinuousClock.now)
            request.timeoutMs = left.wireMilliseconds
            do {
                return try await attempt(
                    ProcessService.wait, request,
                    timeout: min(left, Self.longestTime) + Self.answerTime,
                    processID: request.processId)
            } catch {
                let failure = self.error(error, processID: request.processId)
                if failure.reason != .deadlineExceeded {
                    do throws(SandboxError) {
                        try await recover(
                            &retry, from: error, processID: request.processId, until: end)
                        continue
                    } catch {
                        guard error.mayRetry, ContinuousClock.now >= end else { throw error }
                    }
                }
                throw SandboxError(
                    .waitTimedOut, "the gateway did not answer in the time of the wait",
                    processID: request.processId)
            }
        }
    }

    /// After a lost answer, a process that is not found was deleted by the lost call.
    func delete(_ id: String) async throws(SandboxError) {
        var request = DeleteProcessRequest()
        request.processId = id
        var retry = newRetryState()
        var isInDoubt = false
        while true {
            do {
                _ = try await attempt(ProcessService.deleteProcess, request, processID: id)
                return
            } catch {
                let failure = self.error(error, processID: id)
                if isInDoubt && failure.reason == .processNotFound { return }
                isInDoubt = isInDoubt || !error.notProcessed
                try await recover(&retry, from: error, processID: id)
            }
        }
    }
}
