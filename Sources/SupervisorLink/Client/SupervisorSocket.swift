// A fresh connection to the supervisor, up to the end of the handshake. It blocks: the
// arena's descriptor comes with the first message, and NIO reads no descriptors.

import CLinux
import Glibc
import LinuxIO
import OutputLog
public import ProcgateInternal
import Protobuf

/// A connected socket whose peer has said Welcome, and the arena that came with it.
///
/// Owns the descriptor until the link takes it.
public struct SupervisorSocket: ~Copyable {
    /// What this build speaks.
    public static let protocolVersion: UInt32 = 2

    public let welcome: Welcome
    let arena: ArenaMapping
    let descriptor: LinuxIO.FileDescriptor
    /// The supervisor was started for this connection.
    public let isFirst: Bool

    /// Connects to `path` and shakes hands; each step takes at most `timeoutSeconds`.
    public init(
        path: String, version: String, gatewayID: String, lane: UInt32, isFirst: Bool,
        timeoutSeconds: Int = 5
    ) throws(SupervisorError) {
        let raw = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard raw >= 0 else { throw .lost(Self.failure("socket")) }
        let descriptor = LinuxIO.FileDescriptor(owning: raw)
        try Self.connect(raw, path: path, timeoutSeconds: timeoutSeconds)
        let (welcome, arena) = try Self.shakeHands(
            raw, version: version, gatewayID: gatewayID, lane: lane)
        self.welcome = welcome
        self.arena = arena
        self.descriptor = descriptor
        self.isFirst = isFirst
    }

    private static func connect(
        _ descriptor: Int32, path: String, timeoutSeconds: Int
    ) throws(SupervisorError) {
        var timeout = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, size)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &timeout, size)

        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let room = MemoryLayout.size(ofValue: address.sun_path)
        guard path.utf8.count < room else { throw .lost("\(path): longer than \(room - 1) bytes") }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else { throw .lost(failure("connecting to \(path)")) }
    }

    private static func shakeHands(
        _ descriptor: Int32, version: String, gatewayID: String, lane: UInt32
    ) throws(SupervisorError) -> (Welcome, ArenaMapping) {
        var hello = Hello()
        hello.protocol = protocolVersion
        hello.version = version
        hello.gatewayId = gatewayID
        hello.lane = lane
        var command = Command()
        command.kind = .hello(hello)
        let frame = LinkFrame.encoded(command)
        let sent = frame.withUnsafeBytes {
            send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        guard sent == frame.count else { throw .lost(failure("greeting the supervisor")) }

        var arenaDescriptor: Int32 = -1
        defer { if arenaDescriptor >= 0 { close(arenaDescriptor) } }
        let head = try read(descriptor, count: LinkFrame.lengthSize, passed: &arenaDescriptor)
        guard let length = LinkFrame.length(head), length > 0 else {
            throw .protocolViolation("a first message of no length")
        }
        let body = try read(descriptor, count: length, passed: &arenaDescriptor)
        guard let event = try? Event(decoding: body), case .welcome(let welcome) = event.kind else {
            throw .protocolViolation("the first message is no Welcome")
        }
        guard welcome.protocol == protocolVersion else {
            throw .protocolViolation(
                "the supervisor speaks protocol \(welcome.protocol), this gateway "
                    + "\(protocolVersion): stop it, or start a gateway of version \(welcome.version)"
            )
        }
        guard arenaDescriptor >= 0, let bytes = Int(exactly: welcome.arenaBytes) else {
            throw .protocolViolation("the Welcome came without its memory")
        }
        do {
            return (welcome, try ArenaMapping(descriptor: arenaDescriptor, byteCount: bytes))
        } catch {
            throw .lost("mapping the output memory: \(error)")
        }
    }

    private static func read(
        _ descriptor: Int32, count: Int, passed: inout Int32
    ) throws(SupervisorError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var have = 0
        while have < count {
            var received: Int32 = -1
            let got = bytes.withUnsafeMutableBytes {
                clinux_receive_descriptor(
                    descriptor, $0.baseAddress.map { $0 + have }, count - have, &received)
            }
            if received >= 0 {
                if passed >= 0 { close(passed) }
                passed = received
            }
            if got > 0 {
                have += got
            } else if got == 0 {
                throw .lost("the supervisor closed the connection")
            } else if errno != EINTR {
                throw .lost(failure("waiting for the supervisor's greeting"))
            }
        }
        return bytes
    }

    private static func failure(_ call: String) -> String {
        "\(call): \(String(cString: strerror(errno)))"
    }
}
