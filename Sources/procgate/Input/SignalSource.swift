// Signals of this program as a sequence. Knows not what they mean.

import Glibc

/// Where the handler writes, -1 until there is one. Touched by the handler, which may do nothing
/// but that.
nonisolated(unsafe) private var signalPipe: Int32 = -1

enum SignalSource {
    /// From now on these signals do nothing but come out of the sequence; those that whoever
    /// started this program had it ignore (`nohup`) stay ignored, unless `evenIgnored`. Called once.
    static func take(
        _ numbers: [Int32], evenIgnored: Bool = false
    ) throws(Failure) -> AsyncStream<Int32> {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else {
            throw Failure("no pipe: \(String(cString: strerror(errno)))")
        }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        _ = fcntl(ends[1], F_SETFL, O_NONBLOCK)
        signalPipe = ends[1]
        // More than a hand can send before they are taken; what exceeds it is a repeat.
        let (stream, continuation) = AsyncStream.makeStream(
            of: Int32.self, bufferingPolicy: .bufferingOldest(64))
        for number in numbers where evenIgnored || !isIgnored(number) {
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { number in
                let code = errno
                var byte = UInt8(truncatingIfNeeded: number)
                _ = write(signalPipe, &byte, 1)
                errno = code
            }
            action.sa_flags = SA_RESTART
            sigaction(number, &action, nil)
        }
        let readEnd = ends[0]
        Task {
            while true {
                let byte = await Blocking.run { () -> UInt8? in
                    var byte: UInt8 = 0
                    let count = read(readEnd, &byte, 1)
                    return count == 1 || errno == EINTR ? byte : nil
                }
                guard let byte else { break }
                continuation.yield(Int32(byte))
            }
            continuation.finish()
        }
        return stream
    }

    /// The handler as an address: `SIG_IGN` is the number 1, and functions cannot be compared.
    static func isIgnored(_ number: Int32) -> Bool {
        var action = sigaction()
        guard sigaction(number, nil, &action) == 0 else { return false }
        return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1
    }

    /// `SIGPIPE` would end the program without a word: a failed write is noticed instead.
    static func ignoreBrokenPipes() {
        signal(SIGPIPE, SIG_IGN)
    }

    static func name(_ number: Int32) -> String {
        switch number {
        case SIGINT: "INT"
        case SIGTERM: "TERM"
        case SIGHUP: "HUP"
        case SIGQUIT: "QUIT"
        default: "\(number)"
        }
    }
}
