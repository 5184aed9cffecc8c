// What an Attach's caller sent to stdin and the process has not taken yet: bounded, and beside
// the call's other input, so that a signal reaches a process that reads nothing. Knows no
// supervisor.

import DequeModule
import GRPCWire
import NIOCore

/// Filled by one task, emptied by another.
///
/// `@unchecked Sendable`, because it is confined to the call's event loop.
final class SessionInput: @unchecked Sendable {
    enum Piece {
        /// With what counts it until it was written.
        case data([UInt8], charge: MemoryCharge?)
        case end
    }

    /// So much waits before the caller is held back; what is behind that waits with it.
    private static let mostBytes = 1 << 20
    /// How long a signal or a size lets the input before it go first: a process that reads has
    /// taken that by then.
    private static let patience = TimeAmount.milliseconds(100)

    private let eventLoop: any EventLoop
    private var pieces: Deque<Piece> = []
    private var byteCount = 0
    /// A piece was handed out, and is being written.
    private var isWriting = false
    /// What is being written was waited for once, in vain.
    private var isStuck = false
    private var hasEnded = false
    private var patienceTimer: Scheduled<Void>?
    private var taker: CheckedContinuation<Void, Never>?
    private var putter: CheckedContinuation<Void, Never>?
    private var settler: CheckedContinuation<Void, Never>?

    init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    // MARK: Filling

    /// Waits while there is too much.
    func put(_ piece: Piece) async {
        while byteCount >= Self.mostBytes, !hasEnded {
            await withCheckedContinuation { putter = $0 }
        }
        guard !hasEnded else { return }
        if case .data(let data, _) = piece { byteCount += data.count }
        pieces.append(piece)
        resume(&taker)
    }

    /// Returns when all of it was taken, or has waited for longer than a process that reads
    /// would need.
    func settle() async {
        guard isWriting || !pieces.isEmpty, !isStuck, !hasEnded else { return }
        await withCheckedContinuation { continuation in
            settler = continuation
            patienceTimer = eventLoop.assumeIsolated().scheduleTask(in: Self.patience) { [self] in
                isStuck = true
                resume(&settler)
            }
        }
        patienceTimer?.cancel()
        patienceTimer = nil
    }

    /// No more will come; `next` gives what there is.
    func finish() {
        hasEnded = true
        resumeAll()
    }

    /// Nobody wants the rest.
    func abandon() {
        pieces.removeAll()
        byteCount = 0
        finish()
    }

    // MARK: Emptying

    /// The next piece, once the one before it was written; `nil` at the end.
    func next() async -> Piece? {
        isWriting = false
        isStuck = false
        if pieces.isEmpty { resume(&settler) }
        while pieces.isEmpty, !hasEnded { await withCheckedContinuation { taker = $0 } }
        guard let piece = pieces.popFirst() else { return nil }
        if case .data(let data, _) = piece { byteCount -= data.count }
        isWriting = true
        resume(&putter)
        return piece
    }

    private func resumeAll() {
        resume(&taker)
        resume(&putter)
        resume(&settler)
    }

    private func resume(_ waiter: inout CheckedContinuation<Void, Never>?) {
        let waiting = waiter
        waiter = nil
        waiting?.resume()
    }
}
