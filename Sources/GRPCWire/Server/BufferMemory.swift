// The memory that all connections of a server may hold together, and who gets it. Shared by all
// event loops. Decides only; knows no call and no stream.

import DequeModule
import NIOCore
import Synchronization

/// What connections hold beyond their reserves. A connection's share is at most what was free
/// when it took the last of it, so that something is left for the next one, however much the
/// others hold. A connection that does not fit waits, in order; one that is held up by its own
/// share alone is overtaken.
final class BufferMemory: Sendable {
    private struct Ask {
        let connection: ConnectionMemory
        let bytes: Int
        /// Nil for what is small, and goes before all others.
        var share: Int?
    }

    private struct State {
        var takenBytes = 0
        var windowBytes = 0
        var asks: Deque<Ask> = []
        /// Since memory was returned to the system: the most that was taken at once, and what
        /// connections held that have closed.
        var peakBytes = 0
        var closedBytes = 0
        var isReturning = false
    }

    let limitBytes: Int
    /// What connections' windows may have grown by, all together.
    let windowLimitBytes: Int
    private let state = Mutex(State())
    /// Called once there is much to return to the system; see ``shouldReturnNow()``.
    private let whenMuchIsFree: @Sendable (BufferMemory) -> Void

    /// So much is worth the work of returning it.
    private static let returnedBytes = 16 * 1024 * 1024

    init(limitBytes: Int, whenMuchIsFree: @escaping @Sendable (BufferMemory) -> Void = { _ in }) {
        windowLimitBytes = limitBytes / 4
        self.limitBytes = limitBytes - windowLimitBytes
        self.whenMuchIsFree = whenMuchIsFree
    }

    var takenBytes: Int { state.withLock { $0.takenBytes } }

    /// Takes `bytes` for a connection.
    /// - Parameter share: what it has already; nil for what is small: it needs to be free alone.
    /// - Parameter returned: what it gives back before.
    /// - Parameter waits: where they are not to be had now the connection waits for them, instead
    ///   of what it has waited for before, and is told by `granted`.
    func take(
        _ bytes: Int, for connection: ConnectionMemory, share: Int?, returning returned: Int,
        waits: Bool
    ) -> Bool {
        let (isTaken, granted) = state.withLock { state -> (Bool, [Ask]) in
            state.takenBytes -= returned
            if state.asks.isEmpty || share == nil, fits(bytes, share, state) {
                add(bytes, to: &state)
                return (true, [])
            }
            guard waits else { return (false, []) }
            let ask = Ask(connection: connection, bytes: bytes, share: share)
            // It waits for one thing at a time, and keeps its place.
            if let place = state.asks.firstIndex(where: { $0.connection === connection }) {
                state.asks[place] = ask
            } else {
                state.asks.append(ask)
            }
            var granted = serve(&state)
            // It may have been held up by nobody but those who hold themselves up.
            guard let own = granted.firstIndex(where: { $0.connection === connection }) else {
                return (false, granted)
            }
            granted.remove(at: own)
            return (true, granted)
        }
        tell(granted)
        return isTaken
    }

    /// - Parameter share: what the connection has left.
    func giveBack(_ bytes: Int, of connection: ConnectionMemory, share: Int) {
        let (granted, hasMuch) = state.withLock { state -> ([Ask], Bool) in
            state.takenBytes -= bytes
            for index in state.asks.indices
            where state.asks[index].connection === connection && state.asks[index].share != nil {
                state.asks[index].share = share
            }
            return (serve(&state), beginReturning(&state))
        }
        tell(granted)
        if hasMuch { whenMuchIsFree(self) }
    }

    /// The connection does not wait any more.
    func withdraw(_ connection: ConnectionMemory) {
        let granted = state.withLock { state in
            state.asks.removeAll { $0.connection === connection }
            return serve(&state)
        }
        tell(granted)
    }

    /// The connection has closed; it had held as much as `peakBytes`.
    func leave(_ connection: ConnectionMemory, peakBytes: Int) {
        let (granted, hasMuch) = state.withLock { state -> ([Ask], Bool) in
            state.asks.removeAll { $0.connection === connection }
            state.closedBytes += peakBytes
            return (serve(&state), beginReturning(&state))
        }
        tell(granted)
        if hasMuch { whenMuchIsFree(self) }
    }

    // MARK: Windows

    func takeWindow(_ bytes: Int) -> Bool {
        state.withLock { state in
            guard state.windowBytes + bytes <= windowLimitBytes else { return false }
            state.windowBytes += bytes
            return true
        }
    }

    func giveBackWindow(_ bytes: Int) {
        state.withLock { $0.windowBytes -= bytes }
    }

    // MARK: Returning memory to the system

    private func beginReturning(_ state: inout State) -> Bool {
        let isMuch =
            state.peakBytes - state.takenBytes >= Self.returnedBytes
            || state.closedBytes >= Self.returnedBytes
        guard isMuch, !state.isReturning else { return false }
        state.isReturning = true
        return true
    }

    /// Asked some time after there was much: whether it is still not used again.
    func shouldReturnNow() -> Bool {
        state.withLock { state in
            state.isReturning = false
            let isQuiet = state.takenBytes <= state.peakBytes / 2
            guard isQuiet || state.closedBytes >= Self.returnedBytes else { return false }
            state.peakBytes = state.takenBytes
            state.closedBytes = 0
            return true
        }
    }

    // MARK: Deciding

    /// The first fits, be it larger than the limit.
    private func fits(_ bytes: Int, _ share: Int?, _ state: State) -> Bool {
        state.takenBytes == 0 || (share ?? 0) + bytes <= limitBytes - state.takenBytes
    }

    private func add(_ bytes: Int, to state: inout State) {
        state.takenBytes += bytes
        state.peakBytes = max(state.peakBytes, state.takenBytes)
    }

    /// Whose turn it is.
    private func serve(_ state: inout State) -> [Ask] {
        var granted: [Ask] = []
        var index = 0
        var isBlocked = false
        while index < state.asks.count {
            let ask = state.asks[index]
            if !isBlocked || ask.share == nil, fits(ask.bytes, ask.share, state) {
                add(ask.bytes, to: &state)
                state.asks.remove(at: index)
                granted.append(ask)
            } else {
                // For want of memory, not because of its share.
                if ask.share != nil, ask.bytes > limitBytes - state.takenBytes { isBlocked = true }
                index += 1
            }
        }
        return granted
    }

    private func tell(_ granted: [Ask]) {
        for ask in granted { ask.connection.granted(ask.bytes) }
    }
}
