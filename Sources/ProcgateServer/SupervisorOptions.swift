// The options that concern processes, as a gateway was given them: they take effect when a
// supervisor starts. Compared with those of one that runs.

import SupervisorLink

/// Values of the command line; the defaults are the command line's.
public struct SupervisorOptions: Sendable, Equatable {
    public var shell = "/bin/sh"
    /// Empty: outside of a fleet.
    public var node = ""
    /// Empty: the supervisor's own user.
    public var defaultUser = ""
    public var maxRunning: UInt64 = 1024
    public var maxQueued: UInt64 = 4096
    public var graceMilliseconds: UInt64 = 5_000
    public var resumeMilliseconds: UInt64 = 10_000
    public var retainBytes: UInt64 = 8 << 20
    public var retainMilliseconds: UInt64 = 600_000
    public var maxOutputMemory: UInt64 = 1 << 30
    public var maxInputMemory: UInt64 = 256 << 20

    public init() {}

    /// An option that the running supervisor does not follow.
    struct Difference: Equatable {
        let option: String
        let wanted: String
        let inForce: String
    }

    func differences(from facts: SupervisorFacts) -> [Difference] {
        let numbers: [(String, UInt64, UInt64)] = [
            ("max-running", maxRunning, UInt64(facts.maxRunning)),
            ("max-queued", maxQueued, UInt64(facts.maxQueued)),
            ("grace-period", graceMilliseconds, facts.graceMs),
            ("resume-window", resumeMilliseconds, facts.resumeMs),
            ("retain-bytes", retainBytes, facts.retainBytes),
            ("retain-time", retainMilliseconds, facts.retainMs),
            ("max-output-memory", maxOutputMemory, facts.maxOutputMemory),
            ("max-input-memory", maxInputMemory, facts.maxInputMemory),
        ]
        let texts = [
            ("node", node, facts.node), ("shell", shell, facts.shell),
            ("default-user", defaultUser, facts.defaultUser),
        ]
        let all = texts + numbers.map { ($0.0, String($0.1), String($0.2)) }
        return all.filter { $0.1 != $0.2 }
            .map { Difference(option: $0.0, wanted: $0.1, inForce: $0.2) }
    }
}
