// One process on the gateway, by its handle.

internal import ProcgateV1
import Synchronization

/// A process on the gateway's host.
///
/// The handle is a name and what was last heard: its properties are those of ``summary``, which
/// ``refresh()`` brings up to date. Dropping it does nothing to the process.
@dynamicMemberLookup
public final class SandboxProcess: Sendable, Identifiable, CustomStringConvertible {
    /// The gateway's name for it.
    public let id: String
    private let calls: GatewayCalls
    private let latest: Mutex<ProcessSummary>

    init(_ summary: ProcessSummary, calls: GatewayCalls) {
        id = summary.id
        self.calls = calls
        latest = Mutex(summary)
    }

    /// As it was last heard of. `process.status`, `process.exitCode` and so on read it.
    public var summary: ProcessSummary { latest.withLock { $0 } }

    /// The properties of ``summary``.
    public subscript<Value>(dynamicMember path: KeyPath<ProcessSummary, Value>) -> Value {
        summary[keyPath: path]
    }

    public var description: String { "process \(id) (\(summary.status.rawValue))" }

    // MARK: How it stands

    /// Asks the gateway how the process stands.
    @discardableResult
    public func refresh() async throws -> ProcessSummary {
        do {
            return try note(try await calls.process(id))
        } catch {
            throw forCaller(error)
        }
    }

    /// Waits for the end of the process.
    ///
    /// - Parameters:
    ///   - timeout: The longest wait, after which ``SandboxError/Reason/waitTimedOut`` is thrown
    ///     and the process goes on. `nil` is none.
    ///   - maxOutputBytes: The most output to return, both streams together, the newest kept;
    ///     `nil` and 0 are 3 MiB.
    /// - Returns: How it ended, with its retained output.
    /// - Throws: ``SandboxError/Reason/processLost`` where its supervisor ended before it.
    public func wait(
        timeout: Duration? = nil, maxOutputBytes: Int? = nil
    ) async throws -> ProcessResult {
        var request = WaitRequest()
        request.processId = id
        request.maxOutputBytes = UInt64(clamping: maxOutputBytes ?? 0)
        do {
            let response = try await calls.wait(request, timeout: timeout)
            guard let wire = response.result, let result = ProcessResult(wire) else {
                throw SandboxError.notUnderstood("a result")
            }
            latest.withLock { $0 = result.process }
            try result.checkIsKnown()
            return result
        } catch {
            throw forCaller(error)
        }
    }

    /// ``wait(timeout:maxOutputBytes:)`` by another name.
    public func result() async throws -> ProcessResult {
        try await wait()
    }

    /// The process's output, replayed from a chunk on and then followed to its exit.
    ///
    /// Where only one of the streams is followed, what the other one has pushed out of the
    /// gateway's memory is no loss, as long as it can be told that nothing of the first one went
    /// with it; else it is ``SandboxError/Reason/replayWindowExpired``, or a gap.
    ///
    /// - Parameters:
    ///   - fromSeq: The first chunk wanted; 0 and 1 both mean from the beginning.
    ///   - follow: Where `false`, it ends with what is retained now, without an exit while the
    ///     process runs.
    ///   - allowGaps: Skip what has been dropped, with an ``OutputEvent/gap(_:)`` in its place,
    ///     in place of ``SandboxError/Reason/replayWindowExpired``.
    ///   - streams: Which of the two; none is both.
    public func stream(
        fromSeq: UInt64 = 0, follow: Bool = true, allowGaps: Bool = false,
        streams: [OutputStream] = []
    ) -> OutputEvents {
        var request = StreamOutputRequest()
        request.processId = id
        request.fromSeq = fromSeq
        request.noFollow = !follow
        request.allowGaps = allowGaps
        request.streams = streams.map(\.wire)
        return OutputEvents(calls: calls, request: request)
    }

    // MARK: Stdin

    /// Writes to the process; returns once it has taken every byte. Writes through all handles of
    /// a sandbox take turns; while an ``AttachSession`` of it writes to the process, they are
    /// ``SandboxError/Reason/failedPrecondition``.
    ///
    /// - Parameter eof: Close its stdin afterwards.
    /// - Returns: How much was written to its stdin so far, by anybody.
    @discardableResult
    public func writeStdin(
        _ text: String, eof: Bool = false
    ) async throws -> Int {
        try await writeStdin(text.stdinBytes, eof: eof)
    }

    /// Writes to the process; returns once it has taken every byte.
    @discardableResult
    public func writeStdin(
        _ bytes: [UInt8], eof: Bool = false
    ) async throws -> Int {
        do {
            return try await calls.inStdinTurn(of: id) { () async throws(SandboxError) -> Int in
                let transfer = try await newTransfer()
                return Int(clamping: try await transfer.write(bytes, eof: eof))
            }
        } catch {
            throw forCaller(error)
        }
    }

    /// Writes what the sequence yields, as fast as the process reads it; returns once the
    /// sequence has ended and the process has taken every byte.
    ///
    /// An error of the sequence is thrown as ``SandboxError/Reason/callerFailed``; what came
    /// before it has been written, and stdin stays open. ``Sandbox/close()`` and the cancellation of
    /// the task end the write at once, also while the sequence keeps it waiting.
    @discardableResult
    public func writeStdin<Input: AsyncSequence & Sendable>(
        _ input: Input, eof: Bool = false
    ) async throws -> Int where Input.Element: StdinData {
        do {
            return try await writeStdin(input, eof: eof, finishingAfterFailure: true)
        } catch {
            throw forCaller(error)
        }
    }

    /// - Parameter finishingAfterFailure: Where the input throws, see to it first that what came
    ///   before is written; else what of it is under way is given up.
    func writeStdin<Input: AsyncSequence & Sendable>(
        _ input: Input, eof: Bool, finishingAfterFailure: Bool
    ) async throws(SandboxError) -> Int where Input.Element: StdinData {
        try await calls.inStdinTurn(of: id) { () async throws(SandboxError) -> Int in
            let transfer = try await newTransfer()
            return try await StdinPour(transfer, processID: id, calls: calls).run(
                input, eof: eof, finishingAfterFailure: finishingAfterFailure)
        }
    }

    /// Closes the process's stdin: it reads end-of-file.
    public func closeStdin() async throws {
        try await writeStdin([UInt8](), eof: true)
    }

    /// Others may have written since: where stdin stands is asked each time.
    private func newTransfer() async throws(SandboxError) -> StdinTransfer {
        guard !calls.isStdinClaimed(of: id) else {
            throw SandboxError(
                .failedPrecondition,
                "an AttachSession of this sandbox writes to the process: write to the session",
                processID: id)
        }
        let process = try await calls.process(id)
        return StdinTransfer(calls: calls, processID: id, offset: process.stdinBytes)
    }

    // MARK: Control

    /// Sends a signal. To a queued process TERM, INT and KILL mean that it never starts.
    ///
    /// It is sent at most once: where its answer is lost, that is an error.
    /// - Returns: Whether there was anything to send it to: `false` where the process had ended,
    ///   or is queued still and the signal is another one.
    @discardableResult
    public func signal(
        _ signal: Signal, scope: SignalScope = .group
    ) async throws -> Bool {
        var request = SignalRequest()
        request.processId = id
        request.signal = signal.name
        request.scope = scope.wire
        do {
            let answer = try await calls.unary(
                ProcessService.signal, request, repeat: .onlyWhereUnseen, processID: id)
            try note(answer.process)
            return true
        } catch {
            guard error.reason == .processNotRunning else { throw forCaller(error) }
            return false
        }
    }

    /// Sends a signal by its name: `"TERM"`, `"SIGTERM"` or `"15"`.
    @discardableResult
    public func signal(
        _ name: String, scope: SignalScope = .group
    ) async throws -> Bool {
        try await signal(Signal(name), scope: scope)
    }

    /// TERM, then KILL after the grace time; returns once the whole tree is gone.
    ///
    /// - Parameter grace: Instead of the process's own; zero kills at once.
    @discardableResult
    public func stop(grace: Duration? = nil) async throws -> ProcessSummary {
        var request = StopProcessRequest()
        request.processId = id
        request.grace = grace.map { .graceMs($0.wholeMilliseconds) }
        do {
            let response = try await calls.unary(
                ProcessService.stopProcess, request, processID: id)
            return try note(response.process)
        } catch {
            throw forCaller(error)
        }
    }

    /// KILL to the whole tree at once; returns once it is gone.
    @discardableResult
    public func kill() async throws -> ProcessSummary {
        try await stop(grace: .zero)
    }

    /// Sets the size of the process's terminal, in characters.
    public func resize(columns: Int, rows: Int) async throws {
        var request = ResizeTerminalRequest()
        request.processId = id
        request.size = TerminalSize(columns: columns, rows: rows).wire
        do {
            _ = try await calls.unary(ProcessService.resizeTerminal, request, processID: id)
        } catch {
            throw forCaller(error)
        }
    }

    /// Sets the size of the process's terminal.
    public func resize(_ size: TerminalSize) async throws {
        try await resize(columns: size.columns, rows: size.rows)
    }

    /// Forgets the process, which must have ended, and frees its output.
    public func delete() async throws {
        do {
            try await calls.delete(id)
        } catch {
            throw forCaller(error)
        }
    }

    /// Joins the process: its output comes, and input goes to it. Ending the session leaves the
    /// process alone.
    ///
    /// - Parameter fromSeq: The first chunk of output wanted; 0 and 1 mean from the beginning.
    ///   What has been dropped is skipped, with a ``OutputEvent/gap(_:)``.
    public func attach(fromSeq: UInt64 = 0) async throws -> AttachSession {
        do {
            return try await AttachSession.join(self, fromSeq: fromSeq, calls: calls)
        } catch {
            throw forCaller(error)
        }
    }

    @discardableResult
    private func note(_ wire: ProcgateV1.Process?) throws(SandboxError) -> ProcessSummary {
        guard let summary = wire.flatMap(ProcessSummary.init) else {
            throw .notUnderstood("a process")
        }
        latest.withLock { $0 = summary }
        return summary
    }

    func note(_ summary: ProcessSummary) {
        latest.withLock { $0 = summary }
    }

    /// What an event of its command tells of it.
    func note(_ event: CommandEvent) {
        switch event {
        case .queued(let summary), .started(let summary): note(summary)
        case .output(.exit(let result)): note(result.process)
        case .output: break
        }
    }
}
