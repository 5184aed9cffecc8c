// Which calls a process depends on, and what follows when they go. Pure.

/// What a process does when its owning calls have gone.
public enum OwnerPolicy: Sendable {
    /// It does not depend on the call.
    case none
    case kill
    case keep
}

/// How a call was over.
public enum AbandonReason: Sendable {
    /// Cancelled, or past its deadline.
    case cancelled
    /// Its connection or its gateway was lost.
    case lost
    /// It has ended as it should.
    case completed
}

/// Names a call: the link it came by, and its number there.
public struct CallID: Hashable, Sendable {
    public var link: UInt64
    public var call: UInt64

    public init(link: UInt64, call: UInt64) {
        self.link = link
        self.call = call
    }
}

struct Ownership {
    enum Consequence: Equatable {
        case nothing
        case kill
        /// Wait the resume window for somebody to come back, then ask `windowPassed`.
        case awaitReturn
        /// Hold the process back no more.
        case letGo
    }

    private var owners: [CallID: OwnerPolicy] = [:]
    /// The last record that each owner has handed on.
    private var taken: [CallID: UInt64] = [:]
    /// Of the owner that was the last one, while its return is awaited.
    private(set) var orphanedPolicy: OwnerPolicy?

    var isEmpty: Bool { owners.isEmpty }
    var calls: some Collection<CallID> { owners.keys }

    mutating func join(_ call: CallID, policy: OwnerPolicy) {
        guard policy != .none else { return }
        owners[call] = policy
        orphanedPolicy = nil
    }

    /// An owner has handed on every record up to `seq`. Returns the last one that all owners
    /// have; `nil` where the call owns nothing.
    mutating func take(through seq: UInt64, by call: CallID) -> UInt64? {
        guard owners[call] != nil else { return nil }
        taken[call] = max(seq, taken[call] ?? 0)
        return takenByAll
    }

    /// The last record that all owners have handed on; `nil` where there is no owner.
    var takenByAll: UInt64? { owners.keys.map { taken[$0] ?? 0 }.min() }

    /// An owning call is over. `hasKey`: it can be repeated by its request key.
    mutating func leave(_ call: CallID, reason: AbandonReason, hasKey: Bool) -> Consequence {
        taken[call] = nil
        guard let policy = owners.removeValue(forKey: call), owners.isEmpty else {
            return .nothing
        }
        switch (reason, policy) {
        case (.completed, _), (_, .none):
            return .letGo
        case (.lost, .kill) where hasKey, (_, .keep):
            orphanedPolicy = policy
            return .awaitReturn
        case (_, .kill):
            return .kill
        }
    }

    /// The resume window after an `awaitReturn` is over.
    mutating func windowPassed() -> Consequence {
        defer { orphanedPolicy = nil }
        switch orphanedPolicy {
        case .kill: return .kill
        case .keep: return .letGo
        default: return .nothing
        }
    }
}
