// When a process has ended: its command reaped and its pipes closed, or quiet for a
// while where a descendant keeps them. Pure.

import LinuxIO

struct Drain {
    /// What the pipes may be silent after the command's end.
    static let quietTime: Duration = .milliseconds(250)

    /// How long a descendant that goes on printing is listened to, at most.
    static let longestTime: Duration = .seconds(2)

    enum Decision: Equatable {
        case wait
        case waitUntil(Instant)
        case end
    }

    /// When the command was reaped.
    var commandEndedAt: Instant?
    var hasOpenOutput = false
    /// Not read from, because nobody takes what was read before.
    var isHeldBack = false
    var lastOutputAt: Instant?
    /// What the command itself left in its pipes has been read.
    var commandOutputIsRead = true
    /// The tree is being killed, and has to be gone first.
    var mustBeGone = false
    var treeIsGone = false

    func decide(now: Instant) -> Decision {
        guard let commandEndedAt else { return .wait }
        if mustBeGone, !treeIsGone { return .wait }
        guard hasOpenOutput else { return .end }
        if isHeldBack { return .wait }
        let since = max(commandEndedAt, lastOutputAt ?? commandEndedAt)
        let quiet = since + Self.quietTime
        let deadline =
            commandOutputIsRead ? min(quiet, commandEndedAt + Self.longestTime) : quiet
        return deadline <= now ? .end : .waitUntil(deadline)
    }
}
