// Sessions whose caller came back: what it sent before and that is still on its way, in a proxy or
// a buffer, must not reach the process behind what it sends now. Knows no input; shared by all
// workers.

import DequeModule
import GRPCWire
import Synchronization

/// A client names each Attach by a random id, `procgate-session`. Where it loses one, its next
/// WriteStdin names that, `procgate-after-session`, and is acted on once the lost one's input has
/// ended.
final class SessionFence: Sendable {
    static let nameField = "procgate-session"
    static let afterField = "procgate-after-session"

    private struct Key: Hashable {
        let owner: String
        let id: String
    }

    private struct State {
        /// With what ends their input.
        var open: [Key: @Sendable () async -> Void] = [:]
        /// Whose input has ended, also of those that have not arrived yet; the newest.
        var ended: Set<Key> = []
        var inOrder: Deque<Key> = []
    }

    /// Of a client's id.
    private static let longestBytes = 64
    private static let mostEnded = 4_096

    private let state = Mutex(State())

    /// The session of this name begins. Throws SESSION_SUPERSEDED where it comes too late.
    ///
    /// - Parameter endInput: Returns once nothing that came by the session can reach the process.
    /// - Returns: What is to be called at its end; `nil` where the call names no session.
    func begin(
        _ call: ServerCall, of caller: Caller, endInput: @escaping @Sendable () async -> Void
    ) throws(GRPCStatus) -> (@Sendable () -> Void)? {
        guard let key = Self.key(of: call, Self.nameField, caller) else { return nil }
        let isLate = state.withLock { state in
            guard !state.ended.contains(key) else { return true }
            state.open[key] = endInput
            return false
        }
        guard !isLate else {
            throw .refusal(
                .sessionSuperseded, "the caller has continued without this session")
        }
        return { [self] in state.withLock { $0.open[key] = nil } }
    }

    /// Before the call is acted on: ends the input of the session that it comes after, if any.
    func pass(_ call: ServerCall, of caller: Caller) async {
        guard let key = Self.key(of: call, Self.afterField, caller) else { return }
        let endInput = state.withLock { state in
            if state.ended.insert(key).inserted {
                state.inOrder.append(key)
                if state.inOrder.count > Self.mostEnded {
                    state.inOrder.popFirst().map { _ = state.ended.remove($0) }
                }
            }
            return state.open[key]
        }
        await endInput?()
    }

    private static func key(of call: ServerCall, _ field: String, _ caller: Caller) -> Key? {
        guard let id = call.metadata.first(field), id.utf8.count <= longestBytes else { return nil }
        return Key(owner: caller.name, id: id)
    }
}
