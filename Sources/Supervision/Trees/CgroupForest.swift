// The supervisor's part of the cgroup v2 hierarchy, and its pool of leaves. A new cgroup
// costs a hundred microseconds, so that leaves are used again, the last one first.

import Glibc
import LinuxIO
import ProcgateV1

final class CgroupForest {
    /// Whether memory, CPU and process counts can be limited.
    let hasControllers: Bool
    private let directory: FileDescriptor
    private let path: String
    private var pool: [CgroupLeaf] = []
    private var madeCount = 0

    static let namePrefix = "procgate-"
    /// Free leaves that are kept.
    private static let pooledLeaves = 256
    /// What killing the remains of an earlier supervisor may take.
    private static let cleanUpTime: Duration = .seconds(5)

    /// Makes the forest below the supervisor's own cgroup, after clearing away what an
    /// earlier supervisor of the same `name` left there. `nil` where the host does not let
    /// us.
    init?(name: String) {
        guard let own = Self.ownCgroup() else { return nil }
        path = own + "/" + name
        Self.killRemains(at: path)
        Self.removeEmptyForests(in: own)
        let raw = Self.makeLocked(path)
        guard raw >= 0 else { return nil }
        directory = FileDescriptor(owning: raw)
        hasControllers = Self.enableControllers(own: own, forest: path)
        // Whoever may not kill by the cgroup finds descendants by their mark.
        guard let leaf = take(), leaf.canKill else {
            Self.removeTree(path)
            return nil
        }
        give(leaf)
    }

    /// A leaf that holds nothing; `nil` where none can be made.
    func take() -> CgroupLeaf? {
        if let leaf = pool.popLast() { return leaf }
        madeCount += 1
        let name = "p\(madeCount)"
        guard mkdirat(directory.raw, name, 0o755) == 0 || errno == EEXIST else { return nil }
        return CgroupLeaf(name: name, in: directory.raw)
    }

    /// Takes back an empty leaf. One that is not as it was made is not used again.
    func give(_ leaf: CgroupLeaf) {
        let isReset = leaf.reset()
        if isReset, !leaf.wasKilled, pool.count < Self.pooledLeaves, leaf.isClean {
            pool.append(leaf)
        } else {
            discard(leaf)
        }
    }

    /// Removes a leaf, and what a process has made below it.
    func discard(_ leaf: CgroupLeaf) {
        if unlinkat(directory.raw, leaf.name, AT_REMOVEDIR) != 0 {
            Self.removeTree(path + "/" + leaf.name)
        }
    }

    /// Removes the forest, once all leaves were given back.
    func remove() {
        pool.removeAll()
        Self.removeTree(path)
    }

    // MARK: Finding and clearing

    /// The path of the cgroup that this process is in.
    private static func ownCgroup() -> String? {
        guard let mounts = SmallFile.read("/proc/self/mountinfo"),
            let membership = SmallFile.read("/proc/self/cgroup"),
            let line = membership.split(separator: "\n").first(where: { $0.hasPrefix("0::") })
        else { return nil }
        let cgroup = line.dropFirst(3)
        for mount in mounts.split(separator: "\n") {
            guard let separator = mount.range(of: " - cgroup2 ") else { continue }
            let fields = mount[..<separator.lowerBound].split(separator: " ")
            guard fields.count > 4 else { continue }
            let root = fields[3] == "/" ? "" : fields[3]
            guard cgroup.hasPrefix(root) else { continue }
            let below = cgroup.dropFirst(root.count)
            return String(fields[4]) + (below == "/" ? "" : below)
        }
        return nil
    }

    /// Whoever holds the lock of a forest's directory lives. Returns the descriptor, or -1.
    private static func makeLocked(_ path: String) -> Int32 {
        for _ in 0..<100 {
            guard mkdir(path, 0o755) == 0 || errno == EEXIST else { return -1 }
            let raw = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard raw >= 0 else { continue }
            // Another supervisor that clears up may hold it for a moment, or remove it.
            if flock(raw, LOCK_EX | LOCK_NB) == 0, access(path + "/cgroup.procs", F_OK) == 0 {
                return raw
            }
            close(raw)
            usleep(1000)
        }
        return -1
    }

    /// Forests of supervisors that died, of other state directories: those that nobody
    /// lives in are of no use to anybody.
    private static func removeEmptyForests(in own: String) {
        forEachDirectory(in: own) { name in
            guard name.hasPrefix(namePrefix) else { return }
            let path = own + "/" + name
            let raw = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard raw >= 0 else { return }
            let directory = FileDescriptor(owning: raw)
            guard flock(directory.raw, LOCK_EX | LOCK_NB) == 0,
                SmallFile.read("cgroup.events", in: directory.raw)?.hasPrefix("populated 0") == true
            else { return }
            removeTree(path)
        }
    }

    private static func killRemains(at path: String) {
        guard access(path, F_OK) == 0, !isOwn(path) else { return }
        SmallFile.write("1", to: path + "/cgroup.kill")
        let deadline = Instant.now() + cleanUpTime
        while SmallFile.read(path + "/cgroup.events")?.hasPrefix("populated 1") == true,
            Instant.now() < deadline
        {
            usleep(2_000)
        }
        removeTree(path)
    }

    private static func forEachDirectory(in path: String, _ body: (String) -> Void) {
        guard let listing = opendir(path) else { return }
        defer { closedir(listing) }
        while let entry = readdir(listing) {
            guard entry.pointee.d_type == UInt8(DT_DIR) else { continue }
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { body(name) }
        }
    }

    private static func isOwn(_ path: String) -> Bool {
        ownCgroup().map { $0 == path || $0.hasPrefix(path + "/") } ?? false
    }

    private static func removeTree(_ path: String) {
        forEachDirectory(in: path) { removeTree(path + "/" + $0) }
        rmdir(path)
    }

    // MARK: Controllers

    private static let wanted = ["memory", "pids", "cpu"]

    private static func enableControllers(own: String, forest: String) -> Bool {
        if !enable(in: own), isAlone(in: own) {
            // No cgroup but the root has both processes and controlled children: the
            // supervisor, alone in its own, moves one level down.
            let room = own + "/supervisor.procgate"
            mkdir(room, 0o755)
            SmallFile.write("0", to: room + "/cgroup.procs")
            _ = enable(in: own)
        }
        return enable(in: forest)
    }

    private static func enable(in path: String) -> Bool {
        let available =
            SmallFile.read(path + "/cgroup.controllers")?
            .split(whereSeparator: { $0 == " " || $0 == "\n" }).map(String.init) ?? []
        guard wanted.allSatisfy(available.contains) else { return false }
        let text = wanted.map { "+" + $0 }.joined(separator: " ")
        return SmallFile.write(text, to: path + "/cgroup.subtree_control")
    }

    private static func isAlone(in path: String) -> Bool {
        let pids = SmallFile.read(path + "/cgroup.procs")?.split(separator: "\n") ?? []
        return pids.count == 1 && pids.first.flatMap { pid_t($0) } == getpid()
    }
}

extension Substring {
    /// Where `text` occurs first.
    fileprivate func range(of text: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) {
                return start..<index(start, offsetBy: text.count)
            }
            start = index(after: start)
        }
        return nil
    }
}
