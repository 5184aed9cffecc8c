// Whether the supervisor answers: signs of life by time. Pure.

import NIOCore

struct Heartbeat {
    enum Action: Equatable {
        case nothing
        /// Ask for a sign of life.
        case ask
        /// There was none for too long.
        case silence
    }

    private(set) var isResponding = true
    private var lastHeard = NIODeadline.now()
    /// When it was asked for a sign of life that has not come.
    private var askedAt: NIODeadline?

    /// Time has passed.
    mutating func beat(now: NIODeadline) -> Action {
        guard let askedAt else {
            guard now - lastHeard >= SupervisorLink.heartbeatInterval else { return .nothing }
            self.askedAt = now
            return .ask
        }
        guard isResponding, now - askedAt >= SupervisorLink.longestSilence else {
            return .nothing
        }
        isResponding = false
        return .silence
    }

    /// The supervisor has said something. Returns whether it had been silent for too long.
    mutating func heard(now: NIODeadline) -> Bool {
        lastHeard = now
        askedAt = nil
        defer { isResponding = true }
        return !isResponding
    }
}
