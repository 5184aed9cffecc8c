// How much a caller may send ahead of its handler. Streams begin with a small window, since a
// peer may have a thousand of them; what they hold beyond it is counted for the connection.

/// One call's share of what its connection holds.
struct RequestWindow {
    /// The stream's window.
    fileprivate var bytes: Int
    /// What the window has grown by at the connection's charge; given back when the stream closes.
    fileprivate(set) var grownBytes = 0
    /// What the message under way has of the connection's budget.
    fileprivate var reservedBytes = 0
    fileprivate var waitsForBudget = false
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

    var isCharged: Bool { reservedBytes > 0 || waitsForBudget }
}

extension ServerCall {
    /// The handler waits for a message. Room is given back for what has come of it, as it may be
    /// larger than the window; where it is, only with room for it among the connection's.
    func awaitMessage() {
        let pending = reader.pendingBytes
        // Up to half a window may be owed to the peer without its having been told.
        guard pending > window.bytes / 2, window.reservedBytes == 0 else {
            stream.consume(reader.credit(isWaiting: true))
            return
        }
        guard !window.waitsForBudget else { return }
        if connection.reserve(pending, for: self) {
            reserved(pending)
        } else {
            window.waitsForBudget = true
        }
    }

    /// The connection has room for the message under way.
    func reserved(_ bytes: Int) {
        window.waitsForBudget = false
        window.reservedBytes = bytes
        let target = min(bytes, connection.services.configuration.limits.grownWindowBytes)
        // Nothing follows the message of such a call, so that its window is its own.
        if takesOneMessage, target > window.bytes {
            window.bytes = target
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
        guard connection.takeGrowth(growth) else {
            window.growsAt = reader.totalBytes + most
            return
        }
        window.grownBytes = growth
        window.bytes = most
        stream.growWindow(to: most)
    }

    /// What the message under way has reserved, or waits for, is not needed any more.
    func giveUpMessage() {
        let bytes = window.reservedBytes
        window.reservedBytes = 0
        window.waitsForBudget = false
        connection.giveBack(bytes, of: self)
    }

    private var takesOneMessage: Bool {
        method?.kind == .unary || method?.kind == .serverStreaming
    }
}
