// This program's terminal: its size, and its modes, which are undone on every way out.

import Glibc
import ProcgateClient

/// The modes of the terminal before they were changed. On the heap: Swift 6.3 lays out a global or a
/// constant of a C struct that ends in padding too small (swiftlang/swift#90414), and `tcgetattr`
/// would write behind it. Touched first by `change`, so that a signal handler finds it made.
nonisolated(unsafe) private let cooked = UnsafeMutablePointer<termios>.allocate(capacity: 1)
nonisolated(unsafe) private var isChanged = false

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
        try change { cfmakeraw(&$0) }
    }

    /// Lines are still edited here, but the last of the detach keys hands over what stands in the
    /// line as Enter would: the keys arrive when they are typed. ^Q and ^S go through. Undone like
    /// ``makeRaw()``.
    static func handOver(at lastKey: UInt8) throws(Failure) {
        try change { settings in
            settings.c_iflag &= ~tcflag_t(IXON)
            withUnsafeMutableBytes(of: &settings.c_cc) { $0[Int(VEOL)] = lastKey }
        }
    }

    private static func change(_ body: (inout termios) -> Void) throws(Failure) {
        guard tcgetattr(STDIN_FILENO, cooked) == 0 else {
            throw Failure("cannot set up the terminal: \(String(cString: strerror(errno)))")
        }
        var settings = cooked.pointee
        body(&settings)
        isChanged = true
        atexit { Terminal.restore() }
        for number in [SIGILL, SIGTRAP, SIGABRT, SIGSEGV, SIGBUS, SIGFPE] {
            signal(number) { number in
                Terminal.restore()
                signal(number, SIG_DFL)
                raise(number)
            }
        }
        guard tcsetattr(STDIN_FILENO, TCSADRAIN, &settings) == 0 else {
            isChanged = false
            throw Failure("cannot set up the terminal: \(String(cString: strerror(errno)))")
        }
    }

    /// Nothing but what a signal handler may do.
    static func restore() {
        guard isChanged else { return }
        isChanged = false
        tcsetattr(STDIN_FILENO, TCSADRAIN, cooked)
    }
}
