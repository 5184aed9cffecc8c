// The directory that one supervisor at a time calls its own. Knows the names in it, and
// nothing of what is said over the socket.

import Glibc
import LinuxIO

/// Why a supervisor could not begin.
public enum SupervisorStartError: Error, Equatable, CustomStringConvertible {
    /// Another one runs with this state directory.
    case alreadyRunning(String)
    /// The directory is not one of ours alone.
    case unsafeDirectory(String)
    case system(String)

    public var description: String {
        switch self {
        case .alreadyRunning(let path): "a supervisor runs in \(path) already"
        case .unsafeDirectory(let text), .system(let text): text
        }
    }
}

/// A state directory, locked as long as this lives.
struct StateDirectory: ~Copyable {
    let socketPath: String
    private let lock: LinuxIO.FileDescriptor

    /// Makes the directory where it is missing, with mode 0700, and takes its lock.
    init(_ path: String) throws(SupervisorStartError) {
        let raw = try Self.lock(path)
        lock = LinuxIO.FileDescriptor(owning: raw)
        socketPath = path + "/supervisor.sock"
    }

    private static func lock(_ path: String) throws(SupervisorStartError) -> Int32 {
        try make(path)
        var status = stat()
        guard lstat(path, &status) == 0 else { throw .system("\(path): \(failure())") }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw .unsafeDirectory("\(path) is no directory")
        }
        guard status.st_uid == geteuid(), status.st_mode & 0o077 == 0 else {
            throw .unsafeDirectory("\(path) must be yours alone: chown it and chmod 700 it")
        }
        let lockPath = path + "/supervisor.lock"
        let raw = open(lockPath, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard raw >= 0 else { throw .system("\(lockPath): \(failure())") }
        guard flock(raw, LOCK_EX | LOCK_NB) == 0 else {
            close(raw)
            throw .alreadyRunning(path)
        }
        return raw
    }

    /// And whatever is missing above it.
    private static func make(_ path: String) throws(SupervisorStartError) {
        var end = path.startIndex
        while let slash = path[end...].dropFirst().firstIndex(of: "/") {
            mkdir(String(path[..<slash]), 0o755)
            end = slash
        }
        guard mkdir(path, 0o700) == 0 || errno == EEXIST else {
            throw .system("\(path): \(failure())")
        }
    }

    private static func failure() -> String { SystemError.text(of: errno) }
}
