// How much a caller may send ahead of its handler. Connections and streams begin with small
// windows, since a peer may have a thousand streams; a large message is let in only when the
// connection has room for all of it.

/// One call's window, and what its connection has set aside for it.
struct RequestWindow {
    /// The stream's window.
    fileprivate var bytes: Int
    /// What the window has grown by: it counts whether it has come or not.
    fileprivate(set) var grownBytes = 0
    /// The message under way has room for all of it.
    fileprivate(set) var isReserved = false
    fileprivate var waitsForRoom = false
    /// How many bytes must have come before the window may grow.
    fileprivate var growsAt: Int

    init(bytes: Int) {
        self.bytes = bytes
        growsAt = bytes
    }

    /// Whether there is anything to do after a message was taken.
    func isAffected(receivedBytes: Int) -> Bool {
        isCharged || receivedBytes >= growsAt
    }

    var isCharged: Bool { isReserved || waitsForRoom }
}

extension ServerCall {
    /// The handler waits for a message. Room is given back for what has come of it, as it may be
    /// larger than the window; where it is, only with room for it among the connection's.
    func awaitMessage() {
        let pending = reader.pendingBytes
        // Up to half a window may be owed to the peer without its having been told.
        guard pending > window.bytes / 2, !window.isReserved else {
            stream.consume(reader.credit(isWaiting: true))
            return
        }
        guard !window.waitsForRoom else { return }
        // All of it, be some here already: that is released as it is counted anew.
        let isTaken = connection.memory.take(pending, for: self) { [unowned self] in
            reserved(pending)
        }
        if isTaken { reserved(pending) } else { window.waitsForRoom = true }
    }

    /// The connection has room for the message under way.
    private func reserved(_ bytes: Int) {
        window.waitsForRoom = false
        window.isReserved = true
        bufferedCharge += bytes
        reader.makeRoom()
        settleBuffered()
        let target = min(bytes, connection.services.configuration.limits.grownWindowBytes)
        // Nothing follows the message of such a call, so that its window is its own.
        if takesOneMessage, target > window.bytes {
            window.bytes = target
            connection.growWindow()
            stream.growWindow(to: target)
        }
        stream.consume(reader.credit(isWaiting: true))
    }

    /// A message was taken whole.
    func messageTaken(isLast: Bool) {
        // It may have come whole while it waited for room.
        if window.isCharged { giveUpMessage() }
        guard reader.totalBytes >= window.growsAt else { return }
        window.growsAt = .max
        let most = connection.services.configuration.limits.grownWindowBytes
        guard !isLast, !takesOneMessage, most > window.bytes else { return }
        let growth = most - window.bytes
        guard connection.memory.takeNow(growth) else {
            window.growsAt = reader.totalBytes + most
            return
        }
        bufferedCharge += growth
        window.grownBytes = growth
        window.bytes = most
        connection.growWindow()
        stream.growWindow(to: most)
    }

    /// What the message under way has reserved, or waits for, is not needed any more.
    func giveUpMessage() {
        if window.waitsForRoom { connection.memory.leave(self) }
        window.isReserved = false
        window.waitsForRoom = false
        settleBuffered()
    }

    /// All of the message under way counts already.
    var hasReserved: Bool { window.isReserved }

    var takesOneMessage: Bool {
        method?.kind == .unary || method?.kind == .serverStreaming
    }
}
