// Users that are known, users that are being looked up, and starts that wait for them. Pure.

import LinuxIO

/// A user as a process becomes it.
struct UserRecord: Hashable {
    var name: String
    var uid: UInt32
    var gid: UInt32
    var home: String
    /// The login shell.
    var shell: String
    /// Supplementary groups, the primary one among them.
    var groups: [UInt32]
}

/// The answer to the question for one user.
enum UserAnswer: Equatable {
    case user(UserRecord)
    case unknown
    /// The host's user service has not answered.
    case unresponsive
}

struct UserLookups {
    /// How long an answer is taken for true.
    static let userLifetime: Duration = .seconds(30)
    static let failureLifetime: Duration = .seconds(2)
    /// Answers that are remembered.
    static let mostRemembered = 1024

    private struct Remembered {
        let answer: UserAnswer
        let until: Instant
    }

    private var answers: [String: Remembered] = [:]
    /// The waiting starts of each name that is being looked up.
    private var waiting: [String: [UInt64]] = [:]

    /// The answer, where it is known at `now`.
    mutating func known(_ name: String, now: Instant) -> UserAnswer? {
        guard let remembered = answers[name] else { return nil }
        if remembered.until > now { return remembered.answer }
        answers[name] = nil
        return nil
    }

    /// A start waits for the user. Returns whether the user is to be looked up.
    mutating func wait(_ start: UInt64, for name: String) -> Bool {
        let isNew = waiting[name] == nil
        waiting[name, default: []].append(start)
        return isNew
    }

    /// The start does not wait any more; the look-up goes on.
    mutating func leave(_ start: UInt64, _ name: String) {
        waiting[name]?.removeAll { $0 == start }
    }

    /// The look-up is over. Returns the starts that waited for it, the oldest first.
    mutating func finish(_ name: String, _ answer: UserAnswer, now: Instant) -> [UInt64] {
        if answers.count >= Self.mostRemembered { forgetSome(now) }
        let lifetime = if case .user = answer { Self.userLifetime } else { Self.failureLifetime }
        answers[name] = Remembered(answer: answer, until: now + lifetime)
        return waiting.removeValue(forKey: name) ?? []
    }

    /// What has expired, or, where nothing has, everything.
    private mutating func forgetSome(_ now: Instant) {
        answers = answers.filter { $0.value.until > now }
        if answers.count >= Self.mostRemembered { answers = [:] }
    }
}
