// What is typed, on its way into a session.

import ProcgateClient
import Synchronization

/// Writes in order, and lets the keyboard be read on while a write waits: the keys that leave a
/// session work while the gateway does not answer.
final class TypedInput: Sendable {
    /// So much may wait before the writer has to.
    private static let mostBytes = 64 << 10

    private struct State {
        var waitingBytes = 0
        /// Ends when all that was written before it has been sent.
        var last: Task<Void, any Error>?
    }

    private let session: AttachSession
    private let state = Mutex(State())

    init(_ session: AttachSession) {
        self.session = session
    }

    /// For one task.
    /// - Throws: Where an earlier write failed and had to be waited for.
    func write(_ bytes: [UInt8]) async throws {
        guard !bytes.isEmpty else { return }
        if state.withLock({ $0.waitingBytes >= Self.mostBytes }) { try await drain() }
        let session = session
        state.withLock { state in
            state.waitingBytes += bytes.count
            let before = state.last
            state.last = Task { [self] in
                defer { self.state.withLock { $0.waitingBytes -= bytes.count } }
                try await before?.value
                try await session.write(bytes)
            }
        }
    }

    /// Returns once everything has been sent.
    func drain() async throws {
        try await state.withLock { $0.last }?.value
    }
}
