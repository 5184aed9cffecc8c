// What the gateway allows and assumes: plain values that every loop has a copy of.

import Glibc
public import NIOCore

/// Who may be named by `run_as`.
public enum RunAsPolicy: Sendable, Equatable {
    case anybody
    /// These names, and the same users' numbers.
    case only(Set<String>)

    /// Whether `user`, as a request names it, may be run as.
    func allows(_ user: String) -> Bool {
        switch self {
        case .anybody: true
        case .only(let users): users.contains(user)
        }
    }
}

/// The options that methods look at.
public struct GatewayPolicy: Sendable {
    public var version: String
    /// The name of this node in a fleet; may be empty.
    public var nodeName = ""
    var node: NodeIdentity { NodeIdentity(name: nodeName) }
    /// The user for commands whose request sets no `run_as`; empty is the supervisor's own user.
    public var defaultUser: String
    public var runAs: RunAsPolicy
    public var maxMessageBytes: Int
    /// On idle streams; 0 is never.
    public var keepAlive: TimeAmount

    public init(
        version: String, defaultUser: String, runAs: RunAsPolicy, maxMessageBytes: Int,
        keepAlive: TimeAmount
    ) {
        self.version = version
        self.defaultUser = defaultUser
        self.runAs = runAs
        self.maxMessageBytes = maxMessageBytes
        self.keepAlive = keepAlive
    }
}

extension RunAsPolicy {
    /// The policy of the command line: every user if the gateway runs as root and no user is named;
    /// otherwise the users that are named, and the default user. Asks the user service.
    public init(allowing users: [String], defaultUser: String) {
        let own = geteuid()
        if users.contains("*") || (users.isEmpty && own == 0) {
            self = .anybody
            return
        }
        var allowed: Set<String> = []
        let named = defaultUser.isEmpty ? UserNames.name(of: own) : defaultUser
        for user in users + [named] {
            allowed.insert(user)
            if let number = UserNames.number(of: user) { allowed.insert(String(number)) }
            if let number = UInt32(user) { allowed.insert(UserNames.name(of: number)) }
        }
        self = .only(allowed)
    }
}
