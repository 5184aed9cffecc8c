// One at a time, in the order of asking. Knows nothing of what is done in turn.

import Synchronization

/// Held across an `await`, unlike a mutex.
final class Turn: Sendable {
    private struct State {
        var isTaken = false
        var nextTicket: UInt64 = 0
        /// In the order of asking; as many as there are tasks that ask.
        var waiting: [(ticket: UInt64, continuation: CheckedContinuation<Bool, Never>)] = []
    }

    private let state = Mutex(State())

    /// Runs `body` once all that asked before are done. A task that is
    /// cancelled while it waits gives up its place.
    func take<Result: Sendable>(
        _ body: () async throws(SandboxError) -> Result
    ) async throws(SandboxError) -> Result {
        guard await enter() else {
            throw .taskCancelled()
        }
        defer { leave() }
        return try await body()
    }

    private func enter() async -> Bool {
        let ticket = state.withLock { state in
            state.nextTicket += 1
            return state.nextTicket
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer: Bool? = state.withLock { state in
                    if !state.isTaken {
                        state.isTaken = true
                        return true
                    }
                    // Its cancellation has been told already, and is not told again.
                    if Task.isCancelled { return false }
                    state.waiting.append((ticket, continuation))
                    return nil
                }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            let waiter = state.withLock { state -> CheckedContinuation<Bool, Never>? in
                guard let index = state.waiting.firstIndex(where: { $0.ticket == ticket }) else {
                    return nil
                }
                return state.waiting.remove(at: index).continuation
            }
            waiter?.resume(returning: false)
        }
    }

    private func leave() {
        let next = state.withLock { state -> CheckedContinuation<Bool, Never>? in
            guard !state.waiting.isEmpty else {
                state.isTaken = false
                return nil
            }
            return state.waiting.removeFirst().continuation
        }
        next?.resume(returning: true)
    }
}
