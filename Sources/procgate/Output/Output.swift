// Standard output and standard error. A reader that is gone ends the command quietly.

import ArgumentParser
import Glibc

enum Output {
    /// As whoever wrote to a pipe that nobody reads: 128 + SIGPIPE.
    static let brokenPipeStatus: Int32 = 141

    /// Returns once everything is written; waits where the reader is slow.
    /// - Throws: `ExitCode` where nobody reads any more, else `Failure`: what was under way can
    ///   be ended before the program is.
    static func write(_ bytes: [UInt8], to descriptor: Int32 = STDOUT_FILENO) async throws {
        guard !bytes.isEmpty else { return }
        let code = await Blocking.run { writeAll(bytes, to: descriptor) }
        switch code {
        case 0: return
        case EPIPE: throw ExitCode(brokenPipeStatus)
        default: throw Failure("cannot write: \(String(cString: strerror(code)))")
        }
    }

    static func line(_ text: String) async throws {
        try await write(Array((text + "\n").utf8))
    }

    /// The error's number, or 0.
    static func writeAll(_ bytes: [UInt8], to descriptor: Int32) -> Int32 {
        bytes.withUnsafeBytes { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                let part = UnsafeRawBufferPointer(rebasing: rest)
                let count = Glibc.write(descriptor, part.baseAddress, part.count)
                if count >= 0 {
                    rest = rest.dropFirst(count)
                } else if errno == EAGAIN {
                    var room = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    poll(&room, 1, -1)
                } else if errno != EINTR {
                    return errno
                }
            }
            return 0
        }
    }
}
