// epoll. What is ready comes back as values: the token that was given with the
// descriptor, and its events. Whoever holds the tokens decides what they stand for, so
// that an event for what is gone meanwhile finds nothing, and can do no harm.

public import CLinux
import Glibc

/// What a descriptor is polled for, and what it is ready for.
public struct Readiness: OptionSet, Sendable {
    public let rawValue: UInt32

    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    public static let input = Readiness(rawValue: UInt32(CLINUX_EPOLLIN))
    public static let priority = Readiness(rawValue: UInt32(CLINUX_EPOLLPRI))
    public static let output = Readiness(rawValue: UInt32(CLINUX_EPOLLOUT))
    /// Told whether asked for or not.
    public static let error = Readiness(rawValue: UInt32(CLINUX_EPOLLERR))
    /// Told whether asked for or not.
    public static let hangUp = Readiness(rawValue: UInt32(CLINUX_EPOLLHUP))
    /// Tell of changes alone, not of what stays as it was.
    public static let edges = Readiness(rawValue: 1 << 31)
}

/// An epoll instance. A descriptor is removed before it is closed: a duplicate of it in
/// another process would keep it registered.
public struct Poller: ~Copyable {
    private let epoll: FileDescriptor

    /// The most events of one wait.
    public static let batchCount = 64

    public init() throws(SystemError) {
        let raw = clinux_epoll_create()
        guard raw >= 0 else { throw SystemError("epoll_create1") }
        epoll = FileDescriptor(owning: raw)
    }

    public func add(
        _ descriptor: Int32, _ interest: Readiness, token: UInt64
    ) throws(SystemError) {
        guard clinux_epoll_add(epoll.raw, descriptor, interest.rawValue, token) == 0 else {
            throw SystemError("epoll_ctl")
        }
    }

    public func modify(
        _ descriptor: Int32, _ interest: Readiness, token: UInt64
    ) throws(SystemError) {
        guard clinux_epoll_modify(epoll.raw, descriptor, interest.rawValue, token) == 0 else {
            throw SystemError("epoll_ctl")
        }
    }

    public func remove(_ descriptor: Int32) {
        _ = clinux_epoll_remove(epoll.raw, descriptor)
    }

    /// Waits for events, at most `timeout` (`nil`: without end), into `batch`, which has
    /// room for `batchCount`. Returns how many came; a signal gives none.
    public func wait(
        into batch: UnsafeMutableBufferPointer<clinux_event>, timeout: Duration?
    ) throws(SystemError) -> Int {
        let nanoseconds = timeout.map { max(0, $0.nanoseconds) } ?? -1
        let count = clinux_epoll_wait(
            epoll.raw, batch.baseAddress, Int32(min(batch.count, Self.batchCount)), nanoseconds)
        guard count >= 0 else { throw SystemError("epoll_wait") }
        return Int(count)
    }
}

extension clinux_event {
    public var readiness: Readiness { Readiness(rawValue: events) }
}
