// What one connection makes the server hold: every byte of its requests and responses, from the
// moment that it is there until somebody has done with it. Knows no call and no stream.

import DequeModule
import NIOCore

/// The account of one connection.
///
/// `@unchecked Sendable`: confined to its event loop, but for ``granted(_:)``.
final class ConnectionMemory: @unchecked Sendable {
    private struct Waiter {
        let holder: AnyObject
        let bytes: Int
        let grant: () -> Void
    }

    /// Of all that the connection holds.
    let limitBytes: Int
    /// The connection's own, whatever others hold: so a small call is always served.
    static let reserveBytes = 256 * 1024
    /// What is taken from the shared memory, and given back to it, at once.
    private static let stepBytes = 64 * 1024

    private let shared: BufferMemory
    private let eventLoop: any EventLoop
    @exclusivity(unchecked) private(set) var heldBytes = 0
    @exclusivity(unchecked) private var peakBytes = 0
    /// Of the shared memory.
    @exclusivity(unchecked) private(set) var shareBytes = 0
    /// Something may be asked for that was not to be had.
    @exclusivity(unchecked) private var isAsking = false
    @exclusivity(unchecked) private var waiting: Deque<Waiter> = []
    @exclusivity(unchecked) private var lacksRoom = false
    /// Told when there is room again for what the peer sends.
    @exclusivity(unchecked) var whenRoom: () -> Void = {}

    init(limitBytes: Int, shared: BufferMemory, eventLoop: any EventLoop) {
        self.limitBytes = limitBytes
        self.shared = shared
        self.eventLoop = eventLoop
    }

    /// Whether more can be taken from the peer. What it was allowed to send before still comes.
    var hasRoom: Bool {
        let hasRoom = heldBytes < limitBytes && !isShort
        if !hasRoom { lacksRoom = true }
        return hasRoom
    }

    /// Bytes that fit beside what is held.
    var roomBytes: Int {
        isShort ? 0 : max(0, min(limitBytes, shareBytes + Self.reserveBytes) - heldBytes)
    }

    /// It holds more than it has got.
    private var isShort: Bool { heldBytes - Self.reserveBytes > shareBytes }

    /// A quarter of the limit is left to small messages: those that are admitted one by one do
    /// not take it.
    private var headroomBytes: Int { limitBytes / 4 }

    // MARK: What is there already

    /// So much more is held: what cannot be refused, because it has come, or is small.
    func hold(_ bytes: Int) {
        heldBytes += bytes
        if heldBytes > peakBytes { peakBytes = heldBytes }
        if isShort { cover(0, waits: true) }
    }

    func release(_ bytes: Int) {
        heldBytes -= bytes
        if shareBytes > 0 || !waiting.isEmpty || lacksRoom || isAsking { settle() }
    }

    // MARK: What is to be admitted

    /// Takes `bytes` for `holder`; false: it waits for its turn, and is told by `grant`.
    func take(_ bytes: Int, for holder: AnyObject, grant: @escaping () -> Void) -> Bool {
        if waiting.isEmpty, admit(bytes, waits: true) { return true }
        waiting.append(Waiter(holder: holder, bytes: bytes, grant: grant))
        return false
    }

    /// Takes `bytes` now or not at all.
    /// - Parameter overtakes: by who holds something already, and would wait for itself.
    func takeNow(_ bytes: Int, overtakes: Bool = false) -> Bool {
        (overtakes || waiting.isEmpty) && admit(bytes, waits: false)
    }

    /// `holder` does not wait any more.
    func leave(_ holder: AnyObject) {
        guard !waiting.isEmpty else { return }
        waiting.removeAll { $0.holder === holder }
        settle()
    }

    private func admit(_ bytes: Int, waits: Bool) -> Bool {
        let fits =
            heldBytes <= headroomBytes || heldBytes + bytes <= limitBytes - headroomBytes
        guard fits, cover(bytes, waits: waits) else { return false }
        heldBytes += bytes
        if heldBytes > peakBytes { peakBytes = heldBytes }
        return true
    }

    /// Whether what is held, and `more`, is the connection's own. What is small may use up the
    /// reserve, and the last that is free: it must go on, so that what is large gets done.
    @discardableResult
    private func cover(_ more: Int, waits: Bool) -> Bool {
        let isSmall = more <= Self.stepBytes
        let held = heldBytes + more
        let need = (isSmall ? held - Self.reserveBytes : owedBytes(held)) - shareBytes
        guard need > 0 else { return true }
        // A connection that waits keeps nothing that it cannot use yet.
        let returned = isSmall || !waits ? 0 : surplusBytes
        shareBytes -= returned
        let asked = Self.steps(need + returned + Self.stepBytes - 1)
        guard
            shared.take(
                asked, for: self, share: isSmall ? nil : shareBytes, returning: returned,
                waits: waits)
        else {
            isAsking = isAsking || waits
            return false
        }
        shareBytes += asked
        return true
    }

    private static func steps(_ bytes: Int) -> Int { bytes / stepBytes * stepBytes }

    /// What could be given back.
    private var surplusBytes: Int { max(0, Self.steps(shareBytes - owedBytes(heldBytes))) }

    /// The share that belongs to so many bytes: all of them where they are many, so that the
    /// reserve is left to small ones.
    private func owedBytes(_ held: Int) -> Int {
        held > 4 * Self.reserveBytes ? held : max(0, held - Self.reserveBytes)
    }

    /// What was waited for has been taken. From any thread.
    func granted(_ bytes: Int) {
        eventLoop.execute { [self] in
            shareBytes += bytes
            settle()
        }
    }

    // MARK: After a change

    private func settle() {
        while let first = waiting.first, admit(first.bytes, waits: true) {
            waiting.removeFirst()
            first.grant()
        }
        if isShort {
            cover(0, waits: true)
        } else if isAsking, waiting.isEmpty {
            isAsking = false
            shared.withdraw(self)
        }
        giveBackSurplus()
        guard lacksRoom, hasRoom else { return }
        lacksRoom = false
        whenRoom()
    }

    private func giveBackSurplus() {
        let given = surplusBytes
        // A step is kept while the reserve is used up, so that not every message costs a look at
        // what is shared.
        guard given >= 2 * Self.stepBytes || (given > 0 && heldBytes <= Self.reserveBytes) else {
            return
        }
        shareBytes -= given
        shared.giveBack(given, of: self, share: shareBytes)
    }

    /// The connection is gone. What is still held is released by its holders.
    func close() {
        whenRoom = {}
        waiting.removeAll()
        shared.leave(self, peakBytes: peakBytes)
        settle()
    }
}

/// Bytes that count for a connection until nobody keeps this any more.
///
/// `@unchecked Sendable`: what it releases is released on the connection's event loop.
public final class MemoryCharge: @unchecked Sendable {
    public let byteCount: Int
    private let memory: ConnectionMemory
    private let eventLoop: any EventLoop

    /// Of bytes that are held by now.
    init(_ byteCount: Int, of memory: ConnectionMemory, on eventLoop: any EventLoop) {
        self.byteCount = byteCount
        self.memory = memory
        self.eventLoop = eventLoop
    }

    deinit {
        if eventLoop.inEventLoop {
            memory.release(byteCount)
        } else {
            eventLoop.execute { [memory, byteCount] in memory.release(byteCount) }
        }
    }
}
