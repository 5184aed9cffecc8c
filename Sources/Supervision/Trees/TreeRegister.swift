// The marks of the trees that live, in a file of the state directory: what a supervisor that is
// killed leaves behind is found by them. Knows no process.

import CLinux
import Glibc
import LinuxIO

/// One bit for each mark, in memory that is mapped from the file: a supervisor that dies leaves it
/// as it was, and setting a bit is no system call.
final class TreeRegister {
    private static let headBytes = 16
    private static let name = "/supervisor.trees"

    private let marks: ClosedRange<UInt64>
    private let base: UnsafeMutableRawPointer
    private let byteCount: Int

    /// Begins an empty register for `marks`. `nil` where the file cannot be made.
    init?(directory: String, marks: ClosedRange<UInt64>) {
        self.marks = marks
        byteCount = Self.headBytes + (marks.count + 7) / 8
        let raw = open(
            directory + Self.name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard raw >= 0 else { return nil }
        let file = FileDescriptor(owning: raw)
        // With every block: a write to the mapping must find its page.
        guard posix_fallocate(file.raw, 0, off_t(byteCount)) == 0,
            let mapping = mmap(
                nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, file.raw, 0),
            mapping != UnsafeMutableRawPointer(bitPattern: -1)
        else { return nil }
        base = mapping
        base.storeBytes(of: marks.lowerBound, as: UInt64.self)
        base.storeBytes(of: marks.upperBound, toByteOffset: 8, as: UInt64.self)
    }

    deinit {
        munmap(base, byteCount)
    }

    func insert(_ mark: UInt64) { change(mark) { $0 | $1 } }
    func remove(_ mark: UInt64) { change(mark) { $0 & ~$1 } }

    private func change(_ mark: UInt64, _ body: (UInt8, UInt8) -> UInt8) {
        guard marks.contains(mark) else { return }
        let index = Int(mark - marks.lowerBound)
        let byte = base + Self.headBytes + index / 8
        let old = byte.load(as: UInt8.self)
        byte.storeBytes(of: body(old, 1 << UInt8(index % 8)), as: UInt8.self)
    }

    /// The marks that the last supervisor of the directory had not removed.
    static func left(in directory: String) -> Set<UInt64> {
        guard let bytes = SmallFile.bytes(of: directory + name), bytes.count > headBytes else {
            return []
        }
        let lower = bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
        var marks: Set<UInt64> = []
        for (index, byte) in bytes[headBytes...].enumerated() where byte != 0 {
            for bit in 0..<8 where byte >> bit & 1 == 1 {
                marks.insert(lower &+ UInt64(index * 8 + bit))
            }
        }
        return marks
    }
}

/// The processes that a supervisor which was killed has left.
struct LostTrees {
    let marks: Set<UInt64>

    /// Sweeps that find new members meet a tree that forks; beyond so many the rest is left.
    private static let mostRounds = 64

    /// Ends all of them. A process belongs to them by its mark and by having no supervisor above
    /// it: another supervisor's tree may have one of the marks by chance.
    func kill() {
        guard !marks.isEmpty else { return }
        for _ in 0..<Self.mostRounds {
            var found: [Int32] = []
            ProcessTable.forEachPid { pid in
                let pidfd = freeze(pid)
                if pidfd >= 0 { found.append(pidfd) }
            }
            for pidfd in found {
                _ = clinux_pidfd_signal(pidfd, SIGKILL)
                close(pidfd)
            }
            if found.isEmpty { return }
        }
    }

    /// Stops a member, so that it cannot fork away. Its pidfd, or -1.
    private func freeze(_ pid: pid_t) -> Int32 {
        guard isMember(pid) else { return -1 }
        let pidfd = clinux_pidfd_open(pid)
        guard pidfd >= 0 else { return -1 }
        guard isMember(pid) else {
            close(pidfd)
            return -1
        }
        _ = clinux_pidfd_signal(pidfd, SIGSTOP)
        return pidfd
    }

    private func isMember(_ pid: pid_t) -> Bool {
        guard pid != getpid(), let mark = ProcessTable.messageQueueLimit(of: pid),
            marks.contains(mark), let entry = ProcessTable.entry(pid), !entry.isZombie
        else { return false }
        return !hasSupervisor(above: entry)
    }

    private func hasSupervisor(above entry: ProcessEntry) -> Bool {
        var parent = entry.parent
        while parent > 1 {
            let words = SmallFile.read("/proc/\(parent)/cmdline")?.split(separator: "\0") ?? []
            if words.count > 1, words[1] == "supervise" { return true }
            guard let next = ProcessTable.entry(parent) else { return false }
            parent = next.parent
        }
        return false
    }
}
