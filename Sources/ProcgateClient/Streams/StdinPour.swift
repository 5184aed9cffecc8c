// A sequence that is written to a process's stdin: who ends it, and when. Knows no offsets.

/// Writes a sequence in a task of its own. A sequence may keep its reader waiting for ever, and need
/// not heed a cancellation: the close of the sandbox and the cancellation of the caller's task end
/// the write nevertheless.
struct StdinPour {
    private typealias Outcome = OneShot<Result<Int, SandboxError>>

    private let transfer: StdinTransfer
    private let processID: String
    private let calls: GatewayCalls

    init(_ transfer: StdinTransfer, processID: String, calls: GatewayCalls) {
        self.transfer = transfer
        self.processID = processID
        self.calls = calls
    }

    /// - Parameter finishingAfterFailure: Where the input throws, see to it first that what came
    ///   before is written; else what of it is under way is given up.
    /// - Returns: How much was written to the process's stdin so far, by anybody.
    func run<Input: AsyncSequence & Sendable>(
        _ input: Input, eof: Bool, finishingAfterFailure: Bool
    ) async throws(SandboxError) -> Int where Input.Element: StdinData {
        let (transfer, id) = (transfer, processID)
        let outcome = Outcome()
        let pouring = Task {
            do throws(SandboxError) {
                outcome.set(
                    .success(
                        try await Self.pour(
                            input, into: transfer, of: id, eof: eof,
                            finishingAfterFailure: finishingAfterFailure)))
            } catch {
                outcome.set(.failure(error))
            }
        }
        let alarm = calls.closing.add {
            outcome.set(
                .failure(SandboxError(.closed, "the sandbox was closed", processID: id)))
            pouring.cancel()
        }
        let result = await withTaskCancellationHandler {
            await outcome.value
        } onCancel: {
            outcome.set(.failure(.taskCancelled(id)))
            pouring.cancel()
        }
        calls.closing.remove(alarm)
        // By a task of its own: where this one was cancelled, it could not wait for its turn.
        await Task { await transfer.close() }.value
        return try result.get()
    }

    private static func pour<Input: AsyncSequence & Sendable>(
        _ input: Input, into transfer: StdinTransfer, of id: String, eof: Bool,
        finishingAfterFailure: Bool
    ) async throws(SandboxError) -> Int where Input.Element: StdinData {
        var iterator = input.makeAsyncIterator()
        while true {
            let next: Input.Element?
            do {
                next = try await iterator.next()
            } catch {
                if Task.isCancelled { throw .taskCancelled(id) }
                if finishingAfterFailure { _ = try? await transfer.finish(eof: false) }
                throw SandboxError(
                    .callerFailed, "the input for stdin failed: \(error)", processID: id)
            }
            // Some sequences end when their reader is cancelled: that is not the end of the input.
            if Task.isCancelled { throw .taskCancelled(id) }
            guard let piece = next else { break }
            try await transfer.send(piece.stdinBytes)
        }
        return Int(clamping: try await transfer.finish(eof: eof))
    }
}
