// What a signal to this program means for the process that it runs or has joined. Pure.

import Glibc

struct SignalPlan {
    /// How this program and the process belong together.
    enum Session {
        /// The process is this program's command.
        case command
        /// The command's terminal is this one, raw: ^C is a key there, and no signal.
        case commandInTerminal
        /// The process was there before, and stays.
        case joined
        /// The process's terminal is this one, raw.
        case joinedInTerminal
    }

    enum Action: Equatable {
        /// Send the process the same signal.
        case pass
        /// Stop the process with its tree.
        case stop
        /// End this program. Its call is cancelled.
        case leave
        /// Send the process the same signal, then end this program.
        case passAndLeave
        /// Give the process's terminal the size of this one.
        case resize
    }

    /// So many signals to a joined process may be without an answer before the next one ends this
    /// program.
    private static let mostUnanswered = 2

    var session = Session.command
    private var interrupts = 0
    private var unanswered = 0

    mutating func action(for number: Int32) -> Action {
        switch (number, session) {
        case (SIGWINCH, _): return .resize
        case (SIGTERM, _), (_, .joinedInTerminal), (SIGHUP, .joined): return .leave
        case (_, .commandInTerminal): return .passAndLeave
        case (_, .command):
            interrupts += 1
            return interrupts == 1 ? .pass : interrupts == 2 ? .stop : .leave
        case (_, .joined):
            guard unanswered < Self.mostUnanswered else { return .leave }
            unanswered += 1
            return .pass
        }
    }

    /// The gateway has answered a `pass`.
    mutating func answered() {
        unanswered = max(0, unanswered - 1)
    }
}
