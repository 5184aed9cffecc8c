// Finds the processes of a tree that is held together by a mark alone, and kills them.
// Used where there is no cgroup.

import CLinux
import Glibc

struct MarkSweep {
    let mark: UInt64
    /// Of the command; 0 before it runs.
    let session: pid_t

    /// A sweep that finds new members in so many rounds meets something that forks faster
    /// than it can be frozen; the next sweep goes on.
    private static let mostRounds = 16

    /// Everybody in the tree, by the mark, the session, or a parent that is a member.
    func members() -> Set<pid_t> {
        var members: Set<pid_t> = []
        ProcessTable.forEachPid { pid in
            if isMember(pid) { members.insert(pid) }
        }
        addDescendants(to: &members)
        return members
    }

    /// Sends STOP to everybody, and then KILL: who is frozen cannot fork away meanwhile.
    func kill() {
        var frozen: [pid_t: Int32] = [:]
        for _ in 0..<Self.mostRounds {
            let before = frozen.count
            // At once, one by one: the longer a forker waits for its turn, the more there are.
            ProcessTable.forEachPid { pid in
                if frozen[pid] == nil, isMember(pid) { frozen[pid] = freeze(pid, childOf: []) }
            }
            var members = Set(frozen.keys)
            addDescendants(to: &members)
            for pid in members where frozen[pid] == nil {
                frozen[pid] = freeze(pid, childOf: members)
            }
            if frozen.count == before { break }
        }
        for pidfd in frozen.values where pidfd >= 0 {
            _ = clinux_pidfd_signal(pidfd, SIGKILL)
            close(pidfd)
        }
    }

    /// Its pidfd; -1 where it is another process by now, or none.
    private func freeze(_ pid: pid_t, childOf members: Set<pid_t>) -> Int32 {
        let pidfd = clinux_pidfd_open(pid)
        guard pidfd >= 0 else { return -1 }
        // Who was found by a parent is a member as long as it has one among the members.
        let parent = ProcessTable.entry(pid)?.parent
        guard isMember(pid) || parent.map({ members.contains($0) }) == true else {
            close(pidfd)
            return -1
        }
        _ = clinux_pidfd_signal(pidfd, SIGSTOP)
        return pidfd
    }

    /// Only a descendant of this supervisor, which adopts every orphan of its trees: another
    /// one's trees may have the same marks, and a session's number may be used again.
    private func isMember(_ pid: pid_t) -> Bool {
        let own = getpid()
        guard pid != own else { return false }
        let isSign =
            ProcessTable.messageQueueLimit(of: pid) == mark
            || (session != 0 && getsid(pid) == session)
        return isSign && ProcessTable.isDescendant(pid, of: own)
    }

    private func addDescendants(to members: inout Set<pid_t>) {
        if members.isEmpty { return }
        let table = ProcessTable.all()
        var found = true
        while found {
            found = false
            for entry in table
            where members.contains(entry.parent) && members.insert(entry.pid).inserted {
                found = true
            }
        }
    }
}
