// One resolver process, as the supervisor sees it: it is asked one question at a time. Knows no
// other resolver and no time limit.

import CLinux
import Glibc
import LinuxIO

/// What a resolver is asked.
enum HostQuestion: Hashable {
    /// By name, or else by number; empty is the supervisor's own user.
    case user(String)
    /// Whether the user can enter it. The ticket tells two that ask from each other.
    case directory(path: String, user: UserRecord, ticket: UInt64)
}

enum HostAnswer: Equatable {
    case user(UserRecord)
    case unknownUser
    /// 0, or the errno of entering it.
    case directory(Int32)
    /// The host has not answered.
    case unresponsive
}

final class Resolver {
    enum Event {
        case nothing
        /// The answer to the question that was asked last.
        case answer(HostQuestion, HostAnswer)
        /// The process has ended. With the question that it had not answered.
        case gone(HostQuestion?)
    }

    let number: UInt64
    private let socket: FileDescriptor
    private var pidfd: FileDescriptor?
    /// What it was asked for and has not answered.
    private(set) var question: (value: HostQuestion, askedAt: Instant)?
    private(set) var idleSince: Instant

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
    func ask(_ question: HostQuestion, now: Instant) -> Bool {
        let status =
            switch question {
            case .user(let name):
                clinux_resolver_ask_user(socket.raw, number, name)
            case .directory(let path, let user, _):
                clinux_resolver_ask_directory(
                    socket.raw, number, path, user.uid, user.gid, user.groups, user.groups.count)
            }
        guard status == 0 else { return false }
        self.question = (question, now)
        return true
    }

    /// Readable once the process has ended; -1 where it has not introduced itself.
    var endDescriptor: Int32 { pidfd?.raw ?? -1 }

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
            guard count >= 0 else { return errno == EAGAIN ? .nothing : .gone(take()) }
            let message = UnsafeRawBufferPointer(rebasing: buffer.prefix(count))
            guard let number = Self.number(of: message) else { return .gone(take()) }
            guard number == self.number, let question = question?.value else { return .nothing }
            guard let answer = Self.parse(message, to: question) else { return .gone(take()) }
            self.question = nil
            idleSince = .now()
            return .answer(question, answer)
        }
    }

    private func take() -> HostQuestion? {
        defer { question = nil }
        return question?.value
    }

    private static let headSize = MemoryLayout<clinux_user>.size

    private static func number(of message: UnsafeRawBufferPointer) -> UInt64? {
        message.count >= headSize ? message.loadUnaligned(as: clinux_user.self).number : nil
    }

    /// `nil` where it is no answer: modules of the host run in that process, so that nothing of
    /// it is taken for granted.
    static func parse(
        _ message: UnsafeRawBufferPointer, to question: HostQuestion
    ) -> HostAnswer? {
        guard message.count >= headSize else { return nil }
        let head = message.loadUnaligned(as: clinux_user.self)
        if case .directory = question { return .directory(head.error) }
        guard head.error == 0 else { return .unknownUser }
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
        return .user(user)
    }
}
