// Lays a plan out in a slot of the memory that is shared with the launcher: one
// `clinux_launch`, and behind it every string and array that it points to.

import CLinux

/// Fills one slot from its start.
struct LaunchSlot {
    private let base: UnsafeMutableRawPointer
    private let capacity: Int
    private var used: Int

    init(base: UnsafeMutableRawPointer, capacity: Int) {
        self.base = base
        self.capacity = capacity
        used = MemoryLayout<clinux_launch>.stride
    }

    /// Bytes that the plan took.
    var usedBytes: Int { used }

    /// The results, once the launcher has answered.
    static func results(
        at base: UnsafeMutableRawPointer
    ) -> UnsafeMutablePointer<clinux_launch> {
        base.assumingMemoryBound(to: clinux_launch.self)
    }

    /// Returns `false` where the plan does not fit.
    mutating func write(_ plan: LaunchPlan, _ descriptors: LaunchDescriptors) -> Bool {
        var launch = clinux_launch()
        let script = ["/bin/sh", ""] + plan.arguments.dropFirst()
        guard let paths = array(of: plan.paths), let arguments = array(of: plan.arguments),
            let environment = variables(of: plan.environment),
            let scriptArguments = array(of: script),
            let directory = string(plan.directory),
            let groups = reserve(MemoryLayout<gid_t>.stride * plan.user.groups.count)
        else { return false }
        launch.paths = UnsafePointer(paths)
        launch.argv = UnsafePointer(arguments)
        launch.envp = UnsafePointer(environment)
        launch.script_argv = scriptArguments
        launch.cwd = UnsafePointer(directory)
        if let fallback = plan.fallbackDirectory {
            guard let fallback = string(fallback) else { return false }
            launch.fallback_cwd = UnsafePointer(fallback)
        }
        plan.user.groups.withUnsafeBytes { bytes in
            UnsafeMutableRawBufferPointer(start: groups, count: bytes.count).copyMemory(from: bytes)
        }
        launch.groups = UnsafePointer(groups.assumingMemoryBound(to: gid_t.self))
        launch.group_count = plan.user.groups.count
        launch.uid = plan.user.uid
        launch.gid = plan.user.gid
        launch.change_user = plan.changesUser
        launch.no_new_privileges = plan.keepsPrivileges
        launch.has_terminal = descriptors.terminal != nil
        launch.has_stdin = descriptors.stdin != nil
        launch.has_stdout = descriptors.stdout != nil
        launch.has_stderr = descriptors.stderr != nil
        launch.has_cgroup = descriptors.cgroup != nil
        let limitCount = min(plan.limits.count, Int(CLINUX_LAUNCH_LIMITS))
        launch.limit_count = Int32(limitCount)
        withUnsafeMutableBytes(of: &launch.limits) { bytes in
            let limits = bytes.assumingMemoryBound(to: clinux_launch_limit.self)
            for index in 0..<limitCount { limits[index] = plan.limits[index] }
        }
        base.assumingMemoryBound(to: clinux_launch.self).initialize(to: launch)
        return true
    }

    private mutating func reserve(_ count: Int) -> UnsafeMutableRawPointer? {
        let start = (used + 15) & ~15
        guard count <= capacity - start else { return nil }
        used = start + count
        return base + start
    }

    private mutating func string(_ text: String) -> UnsafeMutablePointer<CChar>? {
        var text = text
        return text.withUTF8 { bytes in
            guard let target = reserve(bytes.count + 1) else { return nil }
            if let source = bytes.baseAddress {
                target.copyMemory(from: source, byteCount: bytes.count)
            }
            target.storeBytes(of: 0, toByteOffset: bytes.count, as: UInt8.self)
            return target.assumingMemoryBound(to: CChar.self)
        }
    }

    private typealias Strings = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

    /// Room for the pointers to `count` strings and the NULL behind them.
    private mutating func pointers(_ count: Int) -> Strings? {
        let stride = MemoryLayout<UnsafeMutablePointer<CChar>?>.stride
        guard let memory = reserve(stride * (count + 1)) else { return nil }
        let array = memory.assumingMemoryBound(to: UnsafeMutablePointer<CChar>?.self)
        array[count] = nil
        return array
    }

    private mutating func array(of strings: [String]) -> Strings? {
        guard let array = pointers(strings.count) else { return nil }
        for (index, text) in strings.enumerated() {
            guard let pointer = string(text) else { return nil }
            array[index] = pointer
        }
        return array
    }

    /// Environments of up to so many variables are laid out in the order of their names.
    private static let mostSorted = 1024

    /// "NAME=value" for each variable: there may be a hundred thousand of them, for which no
    /// strings are made in between.
    private mutating func variables(of environment: [String: String]) -> Strings? {
        guard let array = pointers(environment.count) else { return nil }
        guard environment.count <= Self.mostSorted else {
            for (index, variable) in environment.enumerated() {
                guard let pointer = self.variable(variable.key, variable.value) else { return nil }
                array[index] = pointer
            }
            return array
        }
        for (index, name) in environment.keys.sorted().enumerated() {
            guard let pointer = variable(name, environment[name] ?? "") else { return nil }
            array[index] = pointer
        }
        return array
    }

    private mutating func variable(
        _ name: String, _ value: String
    ) -> UnsafeMutablePointer<CChar>? {
        guard let pointer = string(name) else { return nil }
        // The value begins where the name's NUL was written.
        used -= 1
        return append("=", value) ? pointer : nil
    }

    /// Writes texts directly behind one another, and a NUL behind them.
    private mutating func append(_ texts: String...) -> Bool {
        for text in texts {
            var text = text
            let fits = text.withUTF8 { bytes in
                guard bytes.count < capacity - used else { return false }
                if let source = bytes.baseAddress {
                    (base + used).copyMemory(from: source, byteCount: bytes.count)
                }
                used += bytes.count
                return true
            }
            guard fits else { return false }
        }
        (base + used).storeBytes(of: 0, as: UInt8.self)
        used += 1
        return true
    }
}

/// The child's ends, borrowed for the hand-over.
struct LaunchDescriptors {
    /// Instead of the three.
    var terminal: Int32?
    /// `nil` is /dev/null.
    var stdin: Int32?
    var stdout: Int32?
    var stderr: Int32?
    var cgroup: Int32?

    /// In the order that the launcher expects.
    var list: [Int32] { [terminal, stdin, stdout, stderr, cgroup].compactMap { $0 } }
}
