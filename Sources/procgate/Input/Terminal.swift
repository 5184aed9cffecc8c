// This program's terminal: its size, and raw mode, which is undone on every way out.

import Glibc
import ProcgateClient

/// What the terminal was like before, for those who undo it; nothing where it is not raw.
nonisolated(unsafe) private var cooked = termios()
nonisolated(unsafe) private var isRaw = false

enum Terminal {
    static var isInput: Bool { isatty(STDIN_FILENO) == 1 }
    static var isOutput: Bool { isatty(STDOUT_FILENO) == 1 }
    static var isError: Bool { isatty(STDERR_FILENO) == 1 }

    /// Of the first of the three that is a terminal and knows its size; else 80 by 24.
    static var size: TerminalSize {
        for descriptor in [STDOUT_FILENO, STDIN_FILENO, STDERR_FILENO] {
            var size = winsize()
            if ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 {
                return TerminalSize(columns: Int(size.ws_col), rows: Int(size.ws_row))
            }
        }
        return TerminalSize(columns: 80, rows: 24)
    }

    /// Keys go through as they are typed: ^C too. Undone by ``restore()``, by `exit`, and where
    /// the program crashes.
    static func makeRaw() throws(Failure) {
        guard tcgetattr(STDIN_FILENO, &cooked) == 0 else {
            throw Failure("cannot set up the terminal: \(String(cString: strerror(errno)))")
        }
        var raw = cooked
        cfmakeraw(&raw)
        isRaw = true
        atexit { Terminal.restore() }
        for number in [SIGILL, SIGTRAP, SIGABRT, SIGSEGV, SIGBUS, SIGFPE] {
            signal(number) { number in
                Terminal.restore()
                signal(number, SIG_DFL)
                raise(number)
            }
        }
        guard tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0 else {
            isRaw = false
            throw Failure("cannot set up the terminal: \(String(cString: strerror(errno)))")
        }
    }

    /// Nothing but what a signal handler may do.
    static func restore() {
        guard isRaw else { return }
        isRaw = false
        tcsetattr(STDIN_FILENO, TCSADRAIN, &cooked)
    }
}
