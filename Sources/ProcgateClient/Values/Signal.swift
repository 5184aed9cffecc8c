// The signals that a process can be sent, and to which part of its tree.

internal import ProcgateV1

/// A signal by its name: numbers differ between systems.
///
/// Any name that the gateway's host knows will do: `"USR1"`, `"SIGUSR1"` or `"10"`. Names are the
/// same with `SIG` and without, in capitals or not.
public struct Signal: Sendable, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
    /// As it was given: `"TERM"`, `"SIGTERM"` or `"15"`.
    public let name: String

    /// By its name or number, checked by the gateway.
    public init(_ name: String) {
        self.name = name
    }

    public init(stringLiteral name: String) {
        self.name = name
    }

    public var description: String { name }

    private var canonical: Substring {
        let capitals = name.uppercased()
        return capitals.dropFirst(capitals.hasPrefix("SIG") ? 3 : 0)
    }

    public static func == (one: Signal, other: Signal) -> Bool {
        one.canonical == other.canonical
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(canonical)
    }

    /// Asks the process to end.
    public static let term = Signal("TERM")
    /// Ends the process; it cannot be caught.
    public static let kill = Signal("KILL")
    /// What ^C sends.
    public static let int = Signal("INT")
    /// The terminal is gone; to many services: read the configuration again.
    public static let hup = Signal("HUP")
    /// What ^\ sends: end, with a core dump.
    public static let quit = Signal("QUIT")
    /// Free for the program to give a meaning.
    public static let usr1 = Signal("USR1")
    /// Free for the program to give a meaning.
    public static let usr2 = Signal("USR2")
    /// Suspends the process; it cannot be caught.
    public static let stop = Signal("STOP")
    /// Lets a suspended process go on.
    public static let cont = Signal("CONT")
    /// The size of the terminal has changed.
    public static let winch = Signal("WINCH")
}

/// Who receives a signal.
public enum SignalScope: String, Sendable, Hashable, CaseIterable {
    /// The process group: what a terminal's ^C reaches.
    case group
    /// The command's own process alone.
    case leader
    /// Every descendant, those that left the group too.
    case tree

    var wire: ProcgateV1.SignalScope {
        switch self {
        case .group: .unspecified
        case .leader: .leader
        case .tree: .tree
        }
    }
}
