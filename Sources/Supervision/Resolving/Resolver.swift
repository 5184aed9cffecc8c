// One resolver process, as the supervisor sees it: it is asked for one user at a time. Knows no
// other resolver and no time limit.

import CLinux
import Glibc
import LinuxIO

final class Resolver {
    enum Event {
        case nothing
        /// What the process answered, about the name that it was asked for last.
        case answer(name: String, UserAnswer)
        /// The process has ended. With the name that it had not answered.
        case gone(name: String?)
    }

    let number: UInt64
    private let socket: FileDescriptor
    private var pidfd: FileDescriptor?
    /// What it was asked for and has not answered.
    private(set) var question: (name: String, askedAt: Instant)?
    private(set) var idleSince: Instant
    /// It has answered a question.
    private(set) var hasAnswered = false

    /// Has the launcher fork a process; `control` is the launcher's socket for that.
    init(number: UInt64, control: Int32, now: Instant) throws(SystemError) {
        let raw = clinux_resolver_start(control)
        guard raw >= 0 else { throw SystemError("resolver") }
        socket = FileDescriptor(owning: raw)
        self.number = number
        idleSince = now
    }

    var descriptor: Int32 { socket.raw }

    /// Returns whether the question is on its way.
    func ask(_ name: String, now: Instant) -> Bool {
        guard clinux_resolver_ask(socket.raw, number, name) == 0 else { return false }
        question = (name, now)
        return true
    }

    /// Ends the process, whatever it is doing.
    func kill() {
        if let pidfd = pidfd?.raw { _ = clinux_pidfd_signal(pidfd, SIGKILL) }
    }

    func receive() -> Event {
        withUnsafeTemporaryAllocation(byteCount: Int(CLINUX_USER_BYTES), alignment: 16) { buffer in
            var passed: Int32 = -1
            let count = clinux_resolver_answer(
                socket.raw, buffer.baseAddress, buffer.count, &passed)
            if passed >= 0 { pidfd = FileDescriptor(owning: passed) }
            guard count >= 0 else { return errno == EAGAIN ? .nothing : .gone(name: take()) }
            let message = UnsafeRawBufferPointer(rebasing: buffer.prefix(count))
            guard let (number, answer) = Self.parse(message) else { return .gone(name: take()) }
            guard number == self.number, let name = question?.name else { return .nothing }
            question = nil
            idleSince = .now()
            hasAnswered = true
            return .answer(name: name, answer)
        }
    }

    private func take() -> String? {
        defer { question = nil }
        return question?.name
    }

    /// `nil` where it is no answer: modules of the host run in that process, so that nothing of
    /// it is taken for granted.
    static func parse(_ message: UnsafeRawBufferPointer) -> (number: UInt64, UserAnswer)? {
        let headSize = MemoryLayout<clinux_user>.size
        guard message.count >= headSize else { return nil }
        let head = message.loadUnaligned(as: clinux_user.self)
        guard head.error == 0 else { return (head.number, .unknown) }
        guard head.number != 0 else { return (0, .unknown) }
        let counts = [head.group_count, head.name_bytes, head.home_bytes, head.shell_bytes]
            .map { Int($0) }
        guard counts[0] <= Int(CLINUX_MOST_GROUPS),
            headSize + counts[0] * 4 + counts[1] + counts[2] + counts[3] == message.count
        else { return nil }
        var start = headSize
        let groups = (0..<counts[0]).map {
            message.loadUnaligned(fromByteOffset: headSize + 4 * $0, as: UInt32.self)
        }
        start += counts[0] * 4
        let texts = counts[1...].map { count in
            defer { start += count }
            return String(decoding: message[start..<start + count], as: UTF8.self)
        }
        let user = UserRecord(
            name: texts[0], uid: head.uid, gid: head.gid, home: texts[1], shell: texts[2],
            groups: groups)
        return (head.number, .user(user))
    }
}
