// The supervisor's side of the launcher process: hands plans over, and takes children
// back. Why another process, and not a thread: the child is then cloned from a small
// address space with few descriptors, so that it never sees another user's data, its
// peak memory is its own, and the supervisor has one thread.

import CLinux
import DequeModule
import Glibc
import LinuxIO

/// What became of one launch.
enum LaunchResult: ~Copyable {
    /// The command is being executed; its pid and its pidfd, and whether in the directory
    /// to fall back to.
    case running(pid: pid_t, pidfd: FileDescriptor, fellBack: Bool)
    /// It ended before it was the command: the step that failed, and its errno. `interpreter`:
    /// the file was there, and asks for this program, which is not.
    case failed(step: clinux_launch_step, code: Int32, interpreter: String)
}

/// Not thread-safe.
final class Launcher {
    /// Room for what the kernel takes as arguments, 6 MiB, and for their pointers.
    private static let slotBytes = 16 << 20
    /// Pages of a slot that are kept for the next plan, of the slots that are used first.
    private static let keptSlotBytes = 256 << 10
    private static let keptSlots = 16

    private var state = clinux_launcher()
    private var freeSlots: [UInt32]
    private var slots: [UInt32: (ticket: UInt64, usedBytes: Int)] = [:]

    /// Forks. To be called before there are threads or much memory.
    ///
    /// - Parameter oomScore: the oom_score_adj of the launcher and of every command.
    init(oomScore: Int32) throws(SystemError) {
        freeSlots = Array((0..<UInt32(CLINUX_LAUNCH_SLOTS)).reversed())
        state.slot_bytes = Self.slotBytes
        state.oom_score = oomScore
        guard clinux_launcher_start(&state) == 0 else { throw SystemError("fork") }
    }

    deinit {
        end()
        munmap(state.slots, Self.slotBytes * Int(CLINUX_LAUNCH_SLOTS))
    }

    /// Readable when a launch is done; -1 while there is no launcher.
    var socket: Int32 { state.socket }
    /// Where resolvers are asked for; -1 while there is no launcher.
    var control: Int32 { state.socket >= 0 ? state.control : -1 }
    /// 0 while there is none.
    var pid: pid_t { state.pid }
    var isRunning: Bool { state.socket >= 0 }
    var hasFreeSlot: Bool { isRunning && !freeSlots.isEmpty }

    /// Hands a plan over. `ticket` comes back with the result.
    ///
    /// - Throws: E2BIG where the plan is too large, EAGAIN where the launcher takes no more at
    ///   this moment, EPIPE where it is gone.
    func submit(
        _ plan: LaunchPlan, _ descriptors: LaunchDescriptors, ticket: UInt64
    ) throws(SystemError) {
        guard let number = freeSlots.popLast() else { throw SystemError("launch", code: EAGAIN) }
        var slot = LaunchSlot(base: base(of: number), capacity: Self.slotBytes)
        guard slot.write(plan, descriptors) else {
            freeSlots.append(number)
            throw SystemError("execve", code: E2BIG)
        }
        let list = descriptors.list
        guard clinux_launcher_submit(state.socket, number, list, Int32(list.count)) == 0 else {
            freeSlots.append(number)
            throw SystemError("sendmsg")
        }
        slots[number] = (ticket, slot.usedBytes)
    }

    /// Takes a launch that is done. Returns whether there may be more. Throws where the
    /// launcher is gone; then `restart`.
    func takeResult(
        _ body: (UInt64, consuming LaunchResult) -> Void
    ) throws(SystemError) -> Bool {
        var number: UInt32 = 0
        var pidfd: Int32 = -1
        switch clinux_launcher_result(state.socket, &number, &pidfd) {
        case 0: return false
        case 1: break
        default: throw SystemError("launcher")
        }
        guard let (ticket, usedBytes) = slots.removeValue(forKey: number) else { return true }
        let launch = LaunchSlot.results(at: base(of: number)).pointee
        let kept = number < Self.keptSlots ? Self.keptSlotBytes : 0
        if usedBytes > kept { clinux_launcher_trim(base(of: number), Self.slotBytes, kept) }
        freeSlots.append(number)
        body(ticket, Self.result(launch, pidfd: pidfd))
        return !slots.isEmpty
    }

    /// Whether `pid` is a child whose launch has not been told yet: it is not an orphan.
    func isLaunching(_ pid: pid_t) -> Bool {
        slots.keys.contains { LaunchSlot.results(at: base(of: $0)).pointee.pid == pid }
    }

    /// Kills a child that has not come to execute its command: it may have been stopped by its
    /// own user, or wait for a file system that does not answer.
    /// One that was not made yet is not made any more.
    func killLate(_ ticket: UInt64) {
        for (number, slot) in slots where slot.ticket == ticket {
            let launch = LaunchSlot.results(at: base(of: number))
            launch.pointee.is_cancelled = true
            let pid = launch.pointee.pid
            if pid > 0 { kill(pid, SIGKILL) }
        }
    }

    /// Gives up what was under way, after the launcher went: children are killed. Returns the
    /// tickets. There is no launcher until `restart`.
    func abandon() -> [UInt64] {
        closeSockets()
        state.pid = 0
        let lost = slots.map { (number: $0.key, ticket: $0.value.ticket) }
        for (number, _) in lost {
            let pid = LaunchSlot.results(at: base(of: number)).pointee.pid
            if pid > 0 { kill(pid, SIGKILL) }
            freeSlots.append(number)
        }
        slots.removeAll()
        return lost.map(\.ticket)
    }

    /// Forks again, after `abandon`. Where that fails, it may be tried later.
    func restart() throws(SystemError) {
        guard clinux_launcher_start(&state) == 0 else { throw SystemError("fork") }
    }

    /// Whether the launcher has not even begun with it.
    func isUntouched(_ ticket: UInt64) -> Bool {
        slots.contains { number, slot in
            slot.ticket == ticket && LaunchSlot.results(at: base(of: number)).pointee.pid == 0
        }
    }

    /// Ends the launcher, which stands still. That is noticed as any end of it is.
    func killLauncher() {
        if state.pid > 0 { kill(state.pid, SIGKILL) }
    }

    /// Ends the launcher for good.
    func end() {
        closeSockets()
        guard state.pid > 0 else { return }
        // It ends with its sockets, but not while it is stopped.
        kill(state.pid, SIGKILL)
        clinux_reap_child(state.pid)
        state.pid = 0
    }

    private func closeSockets() {
        guard state.socket >= 0 else { return }
        close(state.socket)
        close(state.control)
        state.socket = -1
        state.control = -1
    }

    private static func result(_ launch: clinux_launch, pidfd: Int32) -> LaunchResult {
        let step = clinux_launch_step(UInt32(launch.step))
        guard pidfd >= 0 else {
            guard step == CLINUX_STEP_NONE, launch.pid > 0 else {
                return .failed(step: step, code: launch.error, interpreter: "")
            }
            // It runs, and there was no descriptor left to take its pidfd in: without one it
            // cannot be supervised. It is this process's child, so the pid is still its own, and
            // its end is told as an orphan's.
            kill(launch.pid, SIGKILL)
            return .failed(step: CLINUX_STEP_CLONE, code: EMFILE, interpreter: "")
        }
        let descriptor = FileDescriptor(owning: pidfd)
        guard step == CLINUX_STEP_NONE else {
            // It is exiting. Where it takes longer, it is reaped as an orphan is.
            var exit = clinux_exit()
            clinux_reap(descriptor.raw, false, &exit)
            return .failed(
                step: step, code: launch.error, interpreter: interpreter(of: launch))
        }
        guard launch.pid > 0 else {
            return .failed(step: CLINUX_STEP_CLONE, code: ECHILD, interpreter: "")
        }
        return .running(pid: launch.pid, pidfd: descriptor, fellBack: launch.fell_back)
    }

    private static func interpreter(of launch: clinux_launch) -> String {
        withUnsafeBytes(of: launch.interpreter) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    private func base(of number: UInt32) -> UnsafeMutableRawPointer {
        state.slots + Int(number) * Self.slotBytes
    }
}
