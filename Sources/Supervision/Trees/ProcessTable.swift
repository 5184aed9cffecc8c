// What /proc tells of processes. Knows nothing of the supervisor's own.

import Glibc

/// A line of /proc/PID/stat.
struct ProcessEntry: Equatable {
    var pid: pid_t
    var state: UInt8
    var parent: pid_t
    var group: pid_t
    var session: pid_t

    /// Dead, and waiting for its parent to notice.
    var isZombie: Bool { state == UInt8(ascii: "Z") || state == UInt8(ascii: "X") }
}

enum ProcessTable {
    /// Every process of the host that can be seen.
    static func all() -> [ProcessEntry] {
        guard let listing = opendir("/proc") else { return [] }
        defer { closedir(listing) }
        var entries: [ProcessEntry] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if let pid = pid_t(name), let process = self.entry(pid) { entries.append(process) }
        }
        return entries
    }

    static func entry(_ pid: pid_t) -> ProcessEntry? {
        guard let text = SmallFile.read("/proc/\(pid)/stat") else { return nil }
        return parse(text, pid: pid)
    }

    /// The name may hold spaces and parentheses: the fields begin behind the last one.
    static func parse(_ text: String, pid: pid_t) -> ProcessEntry? {
        guard let end = text.utf8.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        let fields = text.utf8[text.utf8.index(after: end)...].split(separator: UInt8(ascii: " "))
        guard fields.count > 4, let state = fields[0].first,
            let parent = Substring(fields[1]).asPid, let group = Substring(fields[2]).asPid,
            let session = Substring(fields[3]).asPid
        else { return nil }
        return ProcessEntry(
            pid: pid, state: state, parent: parent, group: group, session: session)
    }

    /// The children of this process's main thread, its adopted orphans among them.
    static func ownChildren() -> [pid_t] {
        let own = getpid()
        if let text = SmallFile.read("/proc/self/task/\(own)/children") {
            return text.split(separator: " ").compactMap { $0.asPid }
        }
        return all().filter { $0.parent == own }.map(\.pid)
    }

    /// Everybody whose chain of parents leads to `ancestor`.
    static func descendants(of ancestor: pid_t) -> [ProcessEntry] {
        var children = Dictionary(grouping: all(), by: \.parent)
        var found: [ProcessEntry] = []
        var next = children.removeValue(forKey: ancestor) ?? []
        while let entry = next.popLast() {
            found.append(entry)
            // Taken out, so that a pid that was used again makes no cycle.
            next += children.removeValue(forKey: entry.pid) ?? []
        }
        return found
    }

    /// How many threads a user has on the host.
    static func taskCount(of uid: uid_t) -> UInt64 {
        all().reduce(0) { count, entry in
            var status = stat()
            guard stat("/proc/\(entry.pid)/task", &status) == 0, status.st_uid == uid else {
                return count
            }
            // One directory for each thread, beside "." and "..".
            return count + UInt64(max(1, Int(status.st_nlink) - 2))
        }
    }

    /// The soft limit of POSIX message queues, in bytes; readable by everybody.
    static func messageQueueLimit(of pid: pid_t) -> UInt64? {
        guard let text = SmallFile.read("/proc/\(pid)/limits") else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix("Max msgqueue size") {
            return line.dropFirst(17).split(separator: " ").first.flatMap { UInt64($0) }
        }
        return nil
    }
}

extension Substring {
    fileprivate var asPid: pid_t? { pid_t(self) }
}
