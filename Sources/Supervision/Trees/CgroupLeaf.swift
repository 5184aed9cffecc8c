// One cgroup of version 2 that holds one process tree at a time. Knows its files alone.

import Glibc
import LinuxIO
import ProcgateV1

/// A leaf is used again for another tree once it is empty.
final class CgroupLeaf {
    let name: String
    let directory: FileDescriptor
    /// `cgroup.events`, whose changes are told as priority events.
    let events: FileDescriptor
    /// `cgroup.kill` was used. Linux (6.18 among others) compares its count with that of
    /// the parent's cgroup when a child is cloned into this one, and kills the child where
    /// they differ: such a leaf cannot be used again.
    private(set) var wasKilled = false
    /// `cgroup.kill` (from Linux 5.14), open for as long as the leaf is there: a kill must not
    /// want for a descriptor. -1 where there is none.
    private let killFile: Int32
    private var hasLimits = false
    private var oomKillsBefore: UInt64 = 0

    /// `nil` where the cgroup cannot be opened.
    init?(name: String, in forest: Int32) {
        let directory = openat(forest, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { return nil }
        self.name = name
        self.directory = FileDescriptor(owning: directory)
        let events = openat(directory, "cgroup.events", O_RDONLY | O_CLOEXEC)
        guard events >= 0 else { return nil }
        self.events = FileDescriptor(owning: events)
        killFile = openat(directory, "cgroup.kill", O_WRONLY | O_CLOEXEC)
    }

    deinit {
        if killFile >= 0 { close(killFile) }
    }

    /// Whether a process lives in it, or in a cgroup below it.
    var isPopulated: Bool {
        // "populated 1\nfrozen 0\n"; the word comes first since it was introduced. It is gone
        // once somebody has removed the cgroup, which must have been empty.
        withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { buffer in
            let count = pread(events.raw, buffer.baseAddress, buffer.count, 0)
            if count < 0 { return errno != ENODEV }
            return count > 10 && buffer[10] != UInt8(ascii: "0")
        }
    }

    /// Whether the tree that was in it left it as it was: a process of root may have made
    /// cgroups below it, or frozen it.
    var isClean: Bool {
        var status = stat()
        // One link from above, one from itself, and one from each directory in it.
        guard fstat(directory.raw, &status) == 0, status.st_nlink <= 2 else { return false }
        return withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { buffer in
            let count = pread(events.raw, buffer.baseAddress, buffer.count, 0)
            return count > 10 && (count <= 19 || buffer[19] != UInt8(ascii: "1"))
        }
    }

    var pids: [pid_t] {
        guard let text = SmallFile.read("cgroup.procs", in: directory.raw) else { return [] }
        return text.split(separator: "\n").compactMap { pid_t($0) }.filter { $0 > 0 }
    }

    /// Whether the kernel (from 5.14) has `kill`.
    var canKill: Bool { killFile >= 0 }

    /// Sends KILL to all that live in it, forks under way included. `false` where it could
    /// not.
    func kill() -> Bool {
        wasKilled = true
        var one = UInt8(ascii: "1")
        return write(killFile, &one, 1) == 1
    }

    /// Returns whether each of them holds now.
    func apply(_ limits: ResourceLimits) -> Bool {
        hasLimits = true
        var hold = true
        if limits.memoryBytes > 0 {
            hold = set("memory.max", "\(limits.memoryBytes)")
            // Not every host counts swap; without that there is less to limit.
            _ = set("memory.swap.max", "0")
            _ = set("memory.oom.group", "1")
            oomKillsBefore = oomKills
        }
        if limits.cpuMillis > 0 {
            let quota = UInt64(limits.cpuMillis) * 100
            hold = set("cpu.max", "\(max(quota, 1000)) 100000") && hold
        }
        if limits.maxProcesses > 0 {
            hold = set("pids.max", "\(limits.maxProcesses)") && hold
        }
        return hold
    }

    /// Takes the limits away again. Returns whether none is left.
    func reset() -> Bool {
        guard hasLimits else { return true }
        hasLimits = false
        _ = set("memory.swap.max", "max")
        _ = set("memory.oom.group", "0")
        return [("memory.max", "max"), ("pids.max", "max"), ("cpu.max", "max 100000")]
            .allSatisfy { set($0.0, $0.1) }
    }

    private func set(_ file: String, _ value: String) -> Bool {
        SmallFile.write(value, to: file, in: directory.raw)
    }

    /// Whether the kernel killed something here for want of memory.
    var ranOutOfMemory: Bool { hasLimits && oomKills > oomKillsBefore }

    private var oomKills: UInt64 {
        guard let text = SmallFile.read("memory.events", in: directory.raw) else { return 0 }
        for line in text.split(separator: "\n") where line.hasPrefix("oom_kill ") {
            return UInt64(line.dropFirst(9)) ?? 0
        }
        return 0
    }
}
