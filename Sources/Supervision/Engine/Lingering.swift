// Trees: those that are being killed, and those that outlive their command.

import CLinux
import Glibc
import LinuxIO

extension Supervisor {
    /// A tree without events that merely outlives its command is looked at so often.
    private static let lingerInterval: Duration = .seconds(1)

    /// Calls `treeChanged` when the tree may be empty.
    func watchTree(_ process: SupervisedProcess) {
        // One that outlives its command is watched all the time.
        if lingering[process.serial] != nil { return scheduleLingering(process.serial) }
        guard let tree = process.tree else { return }
        if process.treeIsWatched || process.timers.sweep != nil { return }
        if watch(tree, serial: process.serial) {
            process.treeIsWatched = true
        } else {
            let deadline = now + Self.sweepInterval
            setTimer(process, \.sweep, .sweep(process.serial), at: deadline)
        }
    }

    func watch(_ tree: ProcessTree, serial: UInt64) -> Bool {
        guard let events = tree.events else { return false }
        let token = EventSource.tree.token(serial)
        return (try? poller.add(events, .priority, token: token)) != nil
    }

    func treeChanged(_ serial: UInt64) {
        if let tree = lingering[serial] { return lookAtLingering(tree, serial) }
        guard let process = processes[serial], let tree = process.tree else { return }
        guard process.stopPlan.isStopping else { return }
        if tree.events == nil, process.stopPlan.stage == .killing, !forest.isEmpty(tree) {
            reapOrphans()
            forest.kill(tree)
        }
        // Reading the events is what acknowledges them, also before the command's end.
        if tree.events != nil { _ = forest.isEmpty(tree) }
        settle(process)
    }

    // MARK: After the command

    /// The process has ended: its tree is given back, or lives on.
    func leaveTree(_ tree: ProcessTree, of process: SupervisedProcess) {
        if process.treeIsWatched, let events = tree.events { poller.remove(events) }
        process.treeIsWatched = false
        process.tree = nil
        if process.treeWasGoneAtEnd || forest.isEmpty(tree) {
            process.record.descendantsAlive = false
            return forest.clear(tree)
        }
        process.record.descendantsAlive = process.commandEndedAt != nil
        linger(tree, of: process.serial)
    }

    /// The tree is looked after until it is empty.
    func linger(_ tree: ProcessTree, of serial: UInt64) {
        lingering[serial] = tree
        if !watch(tree, serial: serial) {
            tree.isUnwatched = true
            scheduleLingering(serial)
        }
        if shutdown != nil { forest.kill(tree) }
    }

    func scheduleLingering(_ serial: UInt64) {
        guard let tree = lingering[serial] else { return }
        let isKilled = shutdown != nil || processes[serial]?.descendantStop.stage == .killing
        // Where the tree has events they tell of its end; only a kill may have to be repeated.
        if tree.events != nil, !tree.isUnwatched { return }
        let deadline = now + (isKilled ? Self.sweepInterval : Self.lingerInterval)
        if let timer = lingeringTimers.removeValue(forKey: serial) { timers.cancel(timer) }
        lingeringTimers[serial] = timers.add(.linger(serial), at: deadline)
    }

    /// The process as it is asked for is to be told as it stands.
    func lookAtDescendants(of process: SupervisedProcess) {
        if let tree = lingering[process.serial] { lookAtLingering(tree, process.serial) }
    }

    func lookAtLingering(_ tree: ProcessTree, _ serial: UInt64) {
        guard !forest.isEmpty(tree) else {
            if let timer = lingeringTimers.removeValue(forKey: serial) { timers.cancel(timer) }
            if let events = tree.events { poller.remove(events) }
            lingering[serial] = nil
            forest.clear(tree)
            if let process = processes[serial] { descendantsAreGone(process) }
            checkShutdown()
            return
        }
        guard tree.events == nil else { return }
        if shutdown != nil || processes[serial]?.descendantStop.stage == .killing {
            reapOrphans()
            forest.kill(tree)
        }
        scheduleLingering(serial)
    }

    private func descendantsAreGone(_ process: SupervisedProcess) {
        guard process.phase == .ended else { return }
        cancelTimer(process, \.kill)
        cancelTimer(process, \.terminate)
        cancelTimer(process, \.unkillable)
        let wasAlive = process.record.descendantsAlive
        process.record.descendantsAlive = false
        setExpiry(of: process)
        if process.isRemembered {
            ledger.expire(process.serial, at: now + configuration.retainTime)
            scheduleHousekeeping(in: configuration.retainTime)
        }
        let record = process.snapshot
        for call in process.stopping {
            waitingCalls[call] = nil
            reply(call, .process(record))
        }
        process.stopping = []
        if wasAlive { announceChange(of: process) }
        if process.keepsPlace {
            process.keepsPlace = false
            admission.finish()
            if shutdown == nil { startWaiting() }
        }
    }
}
