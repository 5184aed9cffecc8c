// What /proc tells of processes. Knows nothing of the supervisor's own.

import CLinux
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
    /// Whether /proc can be looked at: a directory and a file of it at once. It cannot where no
    /// descriptor is left, and then seems empty.
    static var isReadable: Bool {
        guard let listing = opendir("/proc") else { return false }
        defer { closedir(listing) }
        return SmallFile.read("/proc/self/stat") != nil
    }

    /// The pid of every process of the host that can be seen.
    static func forEachPid(_ body: (pid_t) -> Void) {
        guard let listing = opendir("/proc") else { return }
        defer { closedir(listing) }
        while let entry = readdir(listing) {
            let pid = withUnsafeBytes(of: &entry.pointee.d_name) { number(in: $0) }
            if let pid { body(pid_t(pid)) }
        }
    }

    static func all() -> [ProcessEntry] {
        var entries: [ProcessEntry] = []
        forEachPid { pid in
            if let entry = entry(pid) { entries.append(entry) }
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

    /// Whether the chain of parents of `pid` leads to `ancestor`.
    static func isDescendant(_ pid: pid_t, of ancestor: pid_t) -> Bool {
        // A parent that ends meanwhile breaks the chain once: its children have another then.
        for _ in 0..<3 {
            var current = entry(pid)
            while let link = current, link.parent > 1 {
                if link.parent == ancestor { return true }
                current = entry(link.parent)
            }
            if current != nil { return current?.parent == ancestor }
        }
        return false
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
        var limit: UInt64 = 0
        return clinux_message_queue_limit(pid, &limit) == 0 ? limit : nil
    }

    /// The decimal number at the beginning; `nil` where there is none.
    private static func number(in bytes: UnsafeRawBufferPointer) -> UInt64? {
        var value: UInt64?
        for byte in bytes {
            guard byte >= 0x30, byte <= 0x39 else { break }
            value = (value ?? 0) &* 10 &+ UInt64(byte - 0x30)
        }
        return value
    }
}

extension Substring {
    fileprivate var asPid: pid_t? { pid_t(self) }
}
