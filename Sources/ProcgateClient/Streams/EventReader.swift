// Reads what a process does, over as many calls as it takes: after a failure that passes, from the
// chunk after the last one seen. Checks that nothing is missing.

internal import GRPCWire
internal import ProcgateV1
import Synchronization

/// Unchecked because its state is confined to the one `next()` that runs: a second one at the same
/// time is refused.
final class EventReader: @unchecked Sendable {
    /// The call that is made, and made again.
    enum Source {
        case exec(ExecRequest)
        /// An Attach that starts; its input and output are one call.
        case attachStart(StartProcessRequest, DisconnectPolicy)
        case attachJoin(StreamOutputRequest, DisconnectPolicy)
        case output(StreamOutputRequest)

        var mayStart: Bool {
            switch self {
            case .exec, .attachStart: true
            case .attachJoin, .output: false
            }
        }
    }

    typealias Event = CommandEvent

    private let calls: GatewayCalls
    private let source: Source
    private let input: AttachInput?
    /// The supervisor that the first call went to.
    private var instance = ""
    private var retry: RetryState
    private var responses: EventResponses?
    private(set) var process: ProcessSummary?
    /// The last chunk that was handed on, or the one before the first that is wanted.
    private var seenSeq: UInt64
    /// Of the chunks that were handed on.
    private var seenBytes: (stdout: UInt64, stderr: UInt64) = (0, 0)
    private var text = (stdout: TextCut(), stderr: TextCut())
    private var callCount = 0
    private let isInUse = Atomic(false)
    private let detached = Alarm()
    /// An attempt may have reached the gateway: what starts a process must not be sent blindly.
    private var isInDoubt = false
    private(set) var hasEnded = false
    private var putBack: Event?

    init(_ source: Source, calls: GatewayCalls, attach input: AttachInput? = nil) {
        self.source = source
        self.calls = calls
        self.input = input
        retry = calls.newRetryState()
        switch source {
        case .exec(let request): seenSeq = request.afterSeq
        case .attachStart: seenSeq = 0
        case .attachJoin(let request, _), .output(let request):
            seenSeq = max(1, request.fromSeq) - 1
        }
    }

    var processID: String? {
        switch source {
        case .exec, .attachStart: process?.id
        case .attachJoin(let request, _), .output(let request): request.processId
        }
    }

    /// The next event; `nil` after the exit, after ``detach()``, or, where the caller does not
    /// follow, at the end of what is retained.
    nonisolated(nonsending) func next() async throws(SandboxError) -> Event? {
        guard !isInUse.exchange(true, ordering: .acquiring) else {
            throw SandboxError(
                .failedPrecondition, "two tasks read the same stream at once", processID: processID)
        }
        defer { isInUse.store(false, ordering: .releasing) }
        if let event = putBack.take() { return event }
        while !hasEnded {
            do {
                if let event = try await attempt() { return event }
            } catch {
                try await goOn(after: error)
            }
        }
        return nil
    }

    /// Reads on to the process that the call is about: to its place in the queue, its start, or,
    /// where it could not be run, its exit. The first ``next()`` then gives that.
    nonisolated(nonsending) func identify() async throws(SandboxError) -> ProcessSummary {
        let event = try await next()
        putBack = event
        switch event {
        case .queued(let summary), .started(let summary): return summary
        case .output(.exit(let result)): return result.process
        case .output, nil:
            putBack = nil
            stop()
            throw .notUnderstood("output of a process that it did not name,")
        }
    }

    /// Makes the call now, not with the first ``next()``.
    nonisolated(nonsending) func connect() async throws(SandboxError) {
        while responses == nil && !hasEnded {
            do {
                try await begin()
            } catch {
                try await goOn(after: error)
            }
        }
    }

    /// Throws where the failure does not pass.
    private nonisolated(nonsending) func goOn(after error: any Error) async throws(SandboxError) {
        responses = nil
        if detached.isRaised {
            stop()
            return
        }
        guard let status = error as? GRPCStatus else {
            stop()
            throw error as? SandboxError
                ?? SandboxError(.unknown, "\(error)", processID: processID)
        }
        isInDoubt = isInDoubt || !status.notProcessed
        do {
            if try await hasLostNothing(by: status) { return }
            try await calls.recover(
                &retry, from: status, processID: processID, unless: detached)
        } catch {
            stop()
            if detached.isRaised { return }
            throw error
        }
    }

    /// Where one stream alone is followed, the other one can push what comes after the last chunk
    /// out of retention, and the gateway cannot tell whose chunks those were. That is no loss
    /// where the process has written to the first no more than was seen of it: what comes after
    /// its newest chunk is then all that is wanted.
    private nonisolated(nonsending) func hasLostNothing(
        by status: GRPCStatus
    ) async throws(SandboxError) -> Bool {
        guard case .output(let request) = source, !request.streams.isEmpty, request.fromSeq <= 1,
            SandboxError(status).reason == .replayWindowExpired
        else { return false }
        let process = try await calls.process(request.processId, unless: detached)
        let isWhole = request.streams.allSatisfy { stream in
            stream == .stdout
                ? process.stdoutBytes == seenBytes.stdout
                : process.stderrBytes == seenBytes.stderr
        }
        guard isWhole, process.lastSeq > seenSeq else { return false }
        seenSeq = process.lastSeq
        return true
    }

    /// One event of the call that is open, or that is opened for it; `nil` for one that is not
    /// for the caller.
    private nonisolated(nonsending) func attempt() async throws -> Event? {
        try await begin()
        guard let event = try await responses?.next() else {
            try streamEnded()
            return nil
        }
        let news = try await read(event)
        // What is told anew after each repeat is no success: calls that fail one another by
        // their number must draw apart. A stream that was idle until then did go on.
        if case .keepAlive = event.event {
            retry.succeeded()
        } else if news != nil {
            retry.succeeded()
        }
        return news
    }

    /// Makes the call, where there is none.
    private nonisolated(nonsending) func begin() async throws {
        guard responses == nil, !hasEnded else { return }
        if callCount == 0, source.mayStart { instance = await calls.currentInstance() }
        try await prepareRepeat()
        try GatewayCalls.checkCancellation()
        responses = try await open()
    }

    /// Has a running or the next ``next()`` end without an event, where it waits to try again at
    /// once. From any task; whoever calls it ends the call.
    func detach() {
        detached.raise()
    }

    /// Ends the call: the gateway takes that as a cancellation.
    func stop() {
        hasEnded = true
        responses = nil
        input?.detach()
    }

    // MARK: Calls

    /// Before a call that may start a process is sent once more: is the one that it started still
    /// known there? Without that, the repeat would run the command again.
    private nonisolated(nonsending) func prepareRepeat() async throws(SandboxError) {
        guard isInDoubt, source.mayStart else { return }
        guard let process else {
            return try await calls.confirmInstance(instance, unless: detached)
        }
        do {
            _ = try await calls.process(process.id, unless: detached)
        } catch {
            guard error.reason == .processNotFound else { throw error }
            throw SandboxError(
                .processLost,
                "the gateway no longer knows the process: its supervisor was replaced, or it was "
                    + "forgotten; what it did after chunk \(seenSeq) is not known",
                processID: process.id)
        }
    }

    private nonisolated(nonsending) func open() async throws(GRPCStatus) -> EventResponses {
        callCount += 1
        switch source {
        case .exec(var request):
            request.afterSeq = seenSeq
            return calls.exec(request).makeAsyncIterator()
        case .output(var request):
            request.fromSeq = nextSeq
            return calls.streamOutput(request)
        case .attachStart(let request, let policy):
            if let process {
                // A session that need not own its process again joins it: a join goes on from a
                // chunk's number.
                if rejoins(policy) { return try await rejoin(process.id) }
                // So does an Exec with the same key, where an Attach begins anew. A session's
                // input then goes by calls of its own.
                let output = calls.exec(resuming(request, policy))
                input?.openedAside(output, hasTerminal: request.process?.terminal != nil)
                return output.makeAsyncIterator()
            }
            var first = AttachRequest()
            first.message = .start(request)
            first.onDisconnect = policy
            return try await attach(first)
        case .attachJoin(var request, let policy):
            if callCount > 1 { request.fromSeq = nextSeq }
            var first = AttachRequest()
            first.message = .join(request)
            first.onDisconnect = policy
            return try await attach(first)
        }
    }

    private func rejoins(_ policy: DisconnectPolicy) -> Bool { policy == .keep && input != nil }

    private func resuming(
        _ first: StartProcessRequest, _ policy: DisconnectPolicy
    ) -> ExecRequest {
        var request = ExecRequest()
        request.process = first.process
        request.requestKey = first.requestKey
        request.afterSeq = seenSeq
        request.onDisconnect = policy
        return request
    }

    private nonisolated(nonsending) func rejoin(
        _ id: String
    ) async throws(GRPCStatus) -> EventResponses {
        var request = StreamOutputRequest()
        request.processId = id
        request.fromSeq = nextSeq
        request.allowGaps = true
        var first = AttachRequest()
        first.message = .join(request)
        first.onDisconnect = .keep
        return try await attach(first)
    }

    private nonisolated(nonsending) func attach(
        _ first: AttachRequest
    ) async throws(GRPCStatus) -> EventResponses {
        let (sender, responses) = try await calls.attach(first)
        input?.opened(sender, isFirst: callCount == 1)
        return responses
    }

    /// A stream that ended well without an exit: right only where nothing was to be followed.
    private func streamEnded() throws(GRPCStatus) {
        if case .output(let request) = source, request.noFollow {
            stop()
            return
        }
        throw .transport(
            .unavailable, "the stream ended before the process did")
    }

    // MARK: Events

    private nonisolated(nonsending) func read(
        _ event: ProcessEvent
    ) async throws(SandboxError) -> Event? {
        switch event.event {
        case .queued(let wire): return try accepted(wire).map(Event.queued)
        case .started(let wire): return try accepted(wire).map(Event.started)
        case .output(let wire): return try chunk(wire).map(Event.output)
        case .gap(let wire):
            guard wire.toSeq > seenSeq else { return nil }
            guard allowsGaps else { throw missing(through: wire.toSeq) }
            let gap = OutputGap(fromSeq: max(wire.fromSeq, nextSeq), toSeq: wire.toSeq)
            seenSeq = wire.toSeq
            // What completes a cut character is among what was dropped.
            text = (stdout: TextCut(), stderr: TextCut())
            return .output(.gap(gap))
        case .exited(let wire):
            let result = try exit(wire)
            try result.checkIsKnown()
            try checkCaller(of: result)
            // The trailers come with it; a call dropped before them would be a cancelled one.
            _ = try? await responses?.next()
            stop()
            input?.ended()
            return .output(.exit(result))
        case .keepAlive, nil: return nil
        }
    }

    /// `nil` for what has been told before.
    private func accepted(_ wire: ProcgateV1.Process) throws(SandboxError) -> ProcessSummary? {
        guard let summary = ProcessSummary(wire) else { throw .notUnderstood("a process") }
        if let known = process, known.id != summary.id {
            throw SandboxError(
                .processLost, "the gateway no longer knew the process and started it once more",
                processID: known.id)
        }
        let isNews = process?.status != summary.status
        process = summary
        return isNews ? summary : nil
    }

    private func chunk(_ wire: ProcgateV1.OutputChunk) throws(SandboxError) -> OutputEvent? {
        guard wire.seq > seenSeq else { return nil }
        guard wire.seq == nextSeq || isFiltered else { throw missing(through: wire.seq - 1) }
        seenSeq = wire.seq
        switch wire.stream {
        case .stdout:
            seenBytes.stdout += UInt64(wire.data.count)
            return .stdout(OutputChunk(wire, cut: &text.stdout))
        case .stderr:
            seenBytes.stderr += UInt64(wire.data.count)
            return .stderr(OutputChunk(wire, cut: &text.stderr))
        case .unspecified, .unrecognized: throw .notUnderstood("a chunk of output")
        }
    }

    private func exit(_ wire: ProcgateV1.ProcessResult) throws(SandboxError) -> ProcessResult {
        guard let result = ProcessResult(wire) else { throw .notUnderstood("a result") }
        guard result.lastSeq <= seenSeq || isFiltered else {
            throw missing(through: result.lastSeq)
        }
        return result
    }

    /// This caller is still here: for the gateway it had gone, which is no end that a command
    /// comes to by itself.
    private func checkCaller(of result: ProcessResult) throws(SandboxError) {
        guard source.mayStart, result.process.terminationReason == .callerGone else { return }
        throw SandboxError(
            .callerGone,
            "the gateway killed the command, since it had lost its caller: it was out of reach for "
                + "longer than its resume window, or a proxy between cancelled the call",
            processID: processID)
    }

    /// The numbers of what is filtered out are missing by right.
    private var isFiltered: Bool {
        switch source {
        case .exec, .attachStart: false
        case .attachJoin(let request, _), .output(let request): !request.streams.isEmpty
        }
    }

    /// Whether the call that is open asked for gaps rather than an error.
    private var allowsGaps: Bool {
        switch source {
        case .exec: false
        // Joined anew: see `rejoin`.
        case .attachStart(_, let policy): rejoins(policy) && callCount > 1
        case .attachJoin(let request, _), .output(let request): request.allowGaps
        }
    }

    /// The chunk after the last one seen; the gateway, not this side, says how far numbers go.
    private var nextSeq: UInt64 { seenSeq == .max ? .max : seenSeq + 1 }

    private func missing(through seq: UInt64) -> SandboxError {
        SandboxError(
            .outputGap, "chunks \(nextSeq) to \(seq) of the output are missing",
            processID: processID)
    }
}

extension SandboxError {
    static func notUnderstood(_ what: String) -> SandboxError {
        SandboxError(
            .protocolViolation, "the gateway sent \(what) that this client does not understand")
    }
}
