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
    }

    /// Whether a process lives in it, or in a cgroup below it.
    var isPopulated: Bool {
        // "populated 1\nfrozen 0\n"; the word comes first since it was introduced. It cannot
        // be read once somebody has removed the cgroup, which must have been empty.
        withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { buffer in
            let count = pread(events.raw, buffer.baseAddress, buffer.count, 0)
            return count > 10 && buffer[10] != UInt8(ascii: "0")
        }
    }

    var pids: [pid_t] {
        guard let text = SmallFile.read("cgroup.procs", in: directory.raw) else { return [] }
        return text.split(separator: "\n").compactMap { pid_t($0) }.filter { $0 > 0 }
    }

    /// Whether the kernel (from 5.14) has `kill`.
    var canKill: Bool { faccessat(directory.raw, "cgroup.kill", W_OK, 0) == 0 }

    /// Sends KILL to all that live in it, forks under way included. `false` where it could
    /// not.
    func kill() -> Bool {
        wasKilled = true
        return SmallFile.write("1", to: "cgroup.kill", in: directory.raw)
    }

    func apply(_ limits: ResourceLimits) {
        hasLimits = true
        if limits.memoryBytes > 0 {
            SmallFile.write("\(limits.memoryBytes)", to: "memory.max", in: directory.raw)
            SmallFile.write("0", to: "memory.swap.max", in: directory.raw)
            SmallFile.write("1", to: "memory.oom.group", in: directory.raw)
            oomKillsBefore = oomKills
        }
        if limits.cpuMillis > 0 {
            let quota = UInt64(limits.cpuMillis) * 100
            SmallFile.write("\(max(quota, 1000)) 100000", to: "cpu.max", in: directory.raw)
        }
        if limits.maxProcesses > 0 {
            SmallFile.write("\(limits.maxProcesses)", to: "pids.max", in: directory.raw)
        }
    }

    /// Takes the limits away again.
    func reset() {
        guard hasLimits else { return }
        hasLimits = false
        for file in ["memory.max", "memory.swap.max", "pids.max"] {
            SmallFile.write("max", to: file, in: directory.raw)
        }
        SmallFile.write("max 100000", to: "cpu.max", in: directory.raw)
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
