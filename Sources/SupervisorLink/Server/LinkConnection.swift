// One gateway's connection: bytes in become commands, events become bytes out. Knows no
// process.

import CLinux
import DequeModule
import Glibc
import LinuxIO
import ProcgateInternal
import Protobuf
import Supervision

/// Not thread-safe.
final class LinkConnection {
    /// A gateway that leaves so many events unread is gone, or as good as. Most are small, and
    /// large ones share what they tell with the process that they are about.
    static let mostQueuedNotices = 256 << 10
    /// Events are encoded up to so many bytes ahead of the socket.
    private static let encodedBytes = 1 << 20

    let number: UInt64
    let descriptor: LinuxIO.FileDescriptor
    /// The pidfd of the gateway; -1 where it is this process, as in tests, or cannot be told.
    let peer: Int32
    /// Which gateway it is, once it has said Hello.
    var gatewayID = ""
    /// Which of that gateway's links it is.
    var lane: UInt32 = 0
    /// It has said Hello.
    var isGreeted = false
    /// The poller asks for room to write.
    var isWaitingForRoom = false

    private var input: [UInt8] = []
    private var attaching: Attaching?
    /// There was more than a small read takes: the next one is large.
    private var isBusy = false
    private var notices: Deque<Notice> = []
    private var output: [UInt8] = []
    private var sentCount = 0

    /// A command whose attachment has come in part.
    private struct Attaching {
        let command: Command
        var bytes: [UInt8]
        var have: Int
    }

    init(number: UInt64, _ descriptor: consuming LinuxIO.FileDescriptor) {
        self.number = number
        peer = clinux_peer_pidfd(descriptor.raw)
        self.descriptor = descriptor
    }

    deinit {
        if peer >= 0 { close(peer) }
    }

    enum Reading {
        case open
        /// Closed by the peer, or the peer has sent something that is no command.
        case over
    }

    /// Nothing is read or sent any more: the gateway reads the end of the link.
    func end() {
        input = []
        output = []
        notices = []
        sentCount = 0
        attaching = nil
        _ = shutdown(descriptor.raw, Int32(SHUT_RDWR))
    }

    // MARK: In

    /// Most commands are small, and what is attached to one is not to be read by way of `scratch`.
    private static let smallReadBytes = 4096

    /// Reads once, by way of `scratch` or straight into an attachment, and calls `handle` with
    /// each complete command and what was attached to it. `handle` returns whether to go on.
    func receive(
        through scratch: UnsafeMutableRawBufferPointer, handle: (Command, [UInt8]) -> Bool
    ) -> Reading {
        if attaching != nil { return receiveAttachment(handle) }
        let room = isBusy ? scratch.count : min(Self.smallReadBytes, scratch.count)
        switch descriptor.read(
            into: UnsafeMutableRawBufferPointer(rebasing: scratch.prefix(room)))
        {
        case .later: return .open
        case .end, .failed: return .over
        case .bytes(let count):
            isBusy = count == room
            let bytes = UnsafeRawBufferPointer(rebasing: scratch.prefix(count))
            guard !input.isEmpty else {
                guard let used = parse(bytes, handle) else { return .over }
                input.append(contentsOf: bytes[used...])
                return .open
            }
            input.append(contentsOf: bytes)
            let used = input.withUnsafeBytes { parse($0, handle) }
            guard let used else { return .over }
            // A large command leaves no large buffer behind.
            if used == input.count { input = [] } else { input.removeFirst(used) }
            return .open
        }
    }

    private func receiveAttachment(_ handle: (Command, [UInt8]) -> Bool) -> Reading {
        guard var held = attaching else { return .open }
        // Nobody else holds its bytes while they are written to: they are not copied.
        attaching = nil
        let reading = held.bytes.withUnsafeMutableBytes {
            descriptor.read(into: UnsafeMutableRawBufferPointer(rebasing: $0[held.have...]))
        }
        switch reading {
        case .later: break
        case .end, .failed: return .over
        case .bytes(let count): held.have += count
        }
        if held.have == held.bytes.count {
            return handle(held.command, held.bytes) ? .open : .over
        }
        attaching = held
        return .open
    }

    /// Returns how many bytes were taken; `nil` where the link is to go.
    private func parse(
        _ bytes: UnsafeRawBufferPointer, _ handle: (Command, [UInt8]) -> Bool
    ) -> Int? {
        var start = 0
        while bytes.count - start >= LinkFrame.lengthSize {
            guard let length = LinkFrame.length(bytes[start...]),
                isGreeted || length <= LinkFrame.maxHelloLength
            else { return nil }
            let begin = start + LinkFrame.lengthSize
            guard bytes.count - begin >= length else { break }
            let body = UnsafeRawBufferPointer(rebasing: bytes[begin..<begin + length])
            guard let command = try? Command(decoding: body) else { return nil }
            start = begin + length
            let attached = command.attachedBytes
            guard attached <= LinkFrame.maxAttachedBytes else { return nil }
            let here = bytes[start...].prefix(attached)
            start += here.count
            var attachment = [UInt8](here)
            guard here.count == attached else {
                attachment += [UInt8](repeating: 0, count: attached - here.count)
                attaching = Attaching(
                    command: command, bytes: attachment, have: here.count)
                break
            }
            guard handle(command, attachment) else { return nil }
        }
        return start
    }

    // MARK: Out

    var hasOutput: Bool { sentCount < output.count || !notices.isEmpty }
    var isOverfull: Bool { notices.count > Self.mostQueuedNotices }

    func append(_ notice: Notice) {
        notices.append(notice)
    }

    private func encodeSome() {
        while output.count - sentCount < Self.encodedBytes, let notice = notices.popFirst() {
            append(Event(notice))
        }
    }

    func append(_ event: Event) {
        event.withEncoded { body in
            withUnsafeBytes(of: UInt32(body.count).littleEndian) { output.append(contentsOf: $0) }
            output.append(contentsOf: body)
        }
    }

    /// Sends what was appended, with a descriptor; the first message of a link.
    func sendFirst(with passed: Int32) -> Bool {
        let sent = output.withUnsafeBytes {
            clinux_send(descriptor.raw, $0.baseAddress, $0.count, passed)
        }
        guard sent == output.count else { return false }
        output.removeAll(keepingCapacity: true)
        return true
    }

    /// Sends what the socket takes. `false` where the link is broken.
    func flush() -> Bool {
        while hasOutput {
            encodeSome()
            let sent = output.withUnsafeBytes {
                clinux_send(
                    descriptor.raw, $0.baseAddress.map { $0 + sentCount }, $0.count - sentCount, -1)
            }
            if sent < 0 { return errno == EAGAIN ? compact() : false }
            sentCount += sent
        }
        output.removeAll(keepingCapacity: output.capacity <= 1 << 20)
        sentCount = 0
        return true
    }

    private func compact() -> Bool {
        if sentCount > output.count / 2 {
            output.removeFirst(sentCount)
            sentCount = 0
        }
        return true
    }
}

extension Command {
    fileprivate var attachedBytes: Int {
        guard case .writeStdin(let write) = kind else { return 0 }
        return Int(write.attachedBytes)
    }
}
