// A command and all that descends from it, and what holds them together. Knows no
// lifecycle: it counts, signals and kills.

import CLinux
import Glibc
import LinuxIO

/// What makes a descendant recognisable.
enum TreeBond {
    case cgroup(CgroupLeaf)
    /// A soft limit of message queues that no other tree has. It survives fork, exec,
    /// setsid and an empty environment; whoever changes it on purpose is still found by
    /// the session or by a parent in the tree.
    case mark(UInt64)
}

final class ProcessTree {
    let bond: TreeBond
    /// The command's own process, 0 before and after.
    fileprivate(set) var leader: pid_t = 0
    /// Stays when the leader has been reaped.
    fileprivate(set) var session: pid_t = 0

    init(bond: TreeBond) {
        self.bond = bond
    }

    /// Its events cannot be polled.
    var isUnwatched = false

    /// For polling, where changes are told.
    var events: Int32? {
        if case .cgroup(let leaf) = bond { return leaf.events.raw }
        return nil
    }
}

/// All trees of one supervisor.
final class Forest {
    private var cgroups: CgroupForest?
    /// Children of the supervisor that belong to no tree, or lead one.
    private var knownChildren: Set<pid_t> = []
    private var usedMarks: Set<UInt64> = []
    private let hardMarkLimit: UInt64
    /// At random, so that two supervisors seldom take the same; large, so that nobody
    /// misses what is not there (the usual limit is 819,200 bytes).
    private let marks: ClosedRange<UInt64>
    /// Where the marks of the trees that live can be read after the supervisor's death.
    private let register: TreeRegister?

    /// `cgroups`: `nil` is by marks alone. Ends whatever an earlier supervisor of the same
    /// `stateDirectory` has left.
    init(cgroups: CgroupForest?, stateDirectory: String) {
        self.cgroups = cgroups
        hardMarkLimit = clinux_limit(CLINUX_LIMIT_MESSAGE_QUEUES).hard
        let largest = max(2, min(hardMarkLimit, 819_200)) - 1
        marks = largest / 2 + 1...largest
        LostTrees(marks: TreeRegister.left(in: stateDirectory)).kill()
        register = TreeRegister(directory: stateDirectory, marks: marks)
    }

    var usesCgroups: Bool { cgroups != nil }
    var limitsWholeTrees: Bool { cgroups?.hasControllers ?? false }

    func plant() -> ProcessTree {
        if let leaf = cgroups?.take() { return ProcessTree(bond: .cgroup(leaf)) }
        var mark = UInt64.random(in: marks)
        while usedMarks.contains(mark), usedMarks.count < marks.count / 2 {
            mark = .random(in: marks)
        }
        usedMarks.insert(mark)
        register?.insert(mark)
        return ProcessTree(bond: .mark(mark))
    }

    /// The limit that marks the tree, where that is its bond.
    func markLimit(of tree: ProcessTree) -> clinux_launch_limit? {
        // A host that lets nobody have a message queue lets nobody be marked so.
        guard case .mark(let mark) = tree.bond, mark <= hardMarkLimit else { return nil }
        return clinux_launch_limit(
            resource: CLINUX_LIMIT_MESSAGE_QUEUES, soft: mark, hard: hardMarkLimit)
    }

    /// A child that is no process of a caller's.
    func knows(_ pid: pid_t) {
        knownChildren.insert(pid)
    }

    func forgets(_ pid: pid_t) {
        knownChildren.remove(pid)
    }

    /// A child could not be cloned into the cgroup of `tree`, which is discarded. Returns
    /// whether another try may go better: with another leaf, or, where this host has cgroups
    /// and lets nobody in, with trees that are kept together by marks from now on.
    ///
    /// - Parameter isLast: there will be no other try.
    func abandonCgroup(of tree: ProcessTree, after code: Int32, isLast: Bool) -> Bool {
        guard case .cgroup(let leaf) = tree.bond else { return false }
        switch code {
        case EINTR:
            // The child was killed before it could do anything, as in a cgroup below one that was
            // killed before (see `CgroupLeaf.wasKilled`).
            cgroups?.discard(leaf)
            if isLast { cgroups = nil }
            return true
        case EBUSY, ENODEV, ENOENT:
            // Of this leaf alone: somebody has changed or removed it.
            cgroups?.discard(leaf)
            return true
        case EPERM, EACCES, EOPNOTSUPP, EINVAL, ENOSYS, E2BIG, EBADF:
            cgroups?.discard(leaf)
            cgroups = nil
            return true
        default:
            return false
        }
    }

    func leads(_ pid: pid_t, _ tree: ProcessTree) {
        tree.leader = pid
        tree.session = pid
        knownChildren.insert(pid)
    }

    func leaderWasReaped(_ tree: ProcessTree) {
        knownChildren.remove(tree.leader)
        tree.leader = 0
    }

    /// Takes back a tree that is empty.
    func clear(_ tree: ProcessTree) {
        switch tree.bond {
        case .cgroup(let leaf): cgroups?.give(leaf)
        case .mark(let mark):
            usedMarks.remove(mark)
            register?.remove(mark)
        }
    }

    func remove() {
        cgroups?.remove()
    }

    // MARK: Looking

    func isEmpty(_ tree: ProcessTree) -> Bool {
        switch tree.bond {
        case .cgroup(let leaf): return !leaf.isPopulated
        case .mark(let mark):
            // What cannot be seen may be there.
            guard tree.leader == 0, ProcessTable.isReadable else { return false }
            // The topmost of those left has been adopted by us.
            return !ProcessTable.ownChildren().contains { pid in
                !knownChildren.contains(pid) && isLiving(pid)
                    && ProcessTable.messageQueueLimit(of: pid) == mark
            }
        }
    }

    /// Living children of the supervisor that are nobody's, or whose tree has been taken back.
    var strays: [pid_t] {
        ProcessTable.ownChildren().filter { !knownChildren.contains($0) && isLiving($0) }
    }

    /// Everybody in the tree.
    func members(of tree: ProcessTree) -> [pid_t] {
        switch tree.bond {
        case .cgroup(let leaf):
            return leaf.pids
        case .mark(let mark):
            return MarkSweep(mark: mark, session: tree.session).members().filter(isLiving)
        }
    }

    private func isLiving(_ pid: pid_t) -> Bool {
        ProcessTable.entry(pid).map { !$0.isZombie } ?? false
    }

    // MARK: Signals

    /// Sends `signal` to everybody in the tree, or to those of its group `group`.
    /// Returns whether there was anybody.
    @discardableResult
    func signal(_ tree: ProcessTree, _ signal: Int32, group: pid_t? = nil) -> Bool {
        var reached: Set<pid_t> = []
        repeatUntilNoneIsNew {
            send([signal], to: tree, group: group, except: &reached)
        }
        return !reached.isEmpty
    }

    /// Sends TERM to everybody in the tree but `done`, to which they are added, and lets those
    /// that are stopped go on: a stopped process cannot handle TERM.
    func terminate(_ tree: ProcessTree, except done: inout Set<pid_t>) {
        repeatUntilNoneIsNew {
            send([SIGTERM, SIGCONT], to: tree, group: nil, except: &done)
        }
    }

    /// A member that forks while the members are listed makes one that is not in the list. A
    /// signal that waits for a process keeps it from forking before it has been delivered
    /// (fork(2) is restarted), so that few passes find all of them, unless the tree goes on
    /// forking in spite of the signal.
    private static let mostPasses = 16

    private func repeatUntilNoneIsNew(_ pass: () -> Bool) {
        for _ in 0..<Self.mostPasses {
            guard pass() else { return }
        }
    }

    /// Sends `signals`, in order, to each member that is not in `done`, and adds it there.
    /// Returns whether there was one.
    private func send(
        _ signals: [Int32], to tree: ProcessTree, group: pid_t?, except done: inout Set<pid_t>
    ) -> Bool {
        // The command first: its children's end might be news to it, and it could go on.
        let leader = tree.leader
        let ordered = members(of: tree)
            .filter { !done.contains($0) && (group == nil || getpgid($0) == group) }
            .sorted { ($0 == leader ? 0 : $0) < ($1 == leader ? 0 : $1) }
        let targets = open(ordered)
        guard !targets.isEmpty else { return false }
        // A process that is still a member after its pidfd was opened was no stranger then.
        let members = Set(members(of: tree))
        for target in targets {
            let isMember = members.contains(target.pid)
            done.insert(target.pid)
            for signal in signals where isMember {
                if target.pidfd >= 0 {
                    _ = clinux_pidfd_signal(target.pidfd, signal)
                } else {
                    // Named by its number, which it had a moment ago, rather than not at all.
                    _ = Glibc.kill(target.pid, signal)
                }
            }
            if target.pidfd >= 0 { close(target.pidfd) }
        }
        return true
    }

    /// Sends KILL to everybody, so that none of them can fork away. Whether they are
    /// gone is told by `isEmpty`; where the bond is a mark, `kill` is to be repeated
    /// until then.
    func kill(_ tree: ProcessTree) {
        switch tree.bond {
        case .cgroup(let leaf):
            if !leaf.kill() { signal(tree, SIGKILL) }
        case .mark(let mark):
            MarkSweep(mark: mark, session: tree.session).kill()
        }
    }

    /// Those that live. Without a descriptor left for them they have -1.
    private func open(_ pids: [pid_t]) -> [(pid: pid_t, pidfd: Int32)] {
        pids.compactMap { pid -> (pid: pid_t, pidfd: Int32)? in
            let pidfd = clinux_pidfd_open(pid)
            if pidfd < 0, errno != EMFILE, errno != ENFILE, errno != ENOMEM { return nil }
            return (pid: pid, pidfd: pidfd)
        }
    }
}
