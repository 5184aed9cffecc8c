// The end of a process: reaped, drained, told.

import CLinux
import Glibc
import LinuxIO
import OutputLog
import ProcgateV1

extension Supervisor {
    /// The command may have ended.
    func reap(_ process: SupervisedProcess) {
        guard let pidfd = process.pidfd?.raw else { return }
        var exit = clinux_exit()
        let result = clinux_reap(pidfd, false, &exit)
        guard result != 0 else { return }
        if result < 0 {
            // Somebody else has reaped it: how it ended is not known.
            exit.code = Int32(CLD_KILLED)
            exit.status = SIGKILL
        }
        poller.remove(pidfd)
        process.pidfd = nil
        process.exit = exit
        process.commandEndedAt = now
        // The timeout is the command's: descendants that it left are not affected.
        cancelTimer(process, \.timeout)
        leaders[pid_t(process.record.pid)] = nil
        process.unreadAtEnd = process.outputs.reduce(0) { $0 + $1.descriptor.readableBytes }
        if let tree = process.tree { commandHasLeft(tree, process) }
        // Whatever it printed last is in the pipes now; `settle` follows their reading.
        for pipe in process.outputs where pipe.state != .held { enqueue(process, pipe) }
        readHeld(process)
        if process.outputs.allSatisfy({ $0.state == .held }) { settle(process) }
    }

    private func commandHasLeft(_ tree: ProcessTree, _ process: SupervisedProcess) {
        forest.leaderWasReaped(tree)
        if case .cgroup(let leaf) = tree.bond { process.ranOutOfMemory = leaf.ranOutOfMemory }
        process.treeWasGoneAtEnd = forest.isEmpty(tree)
        guard !process.treeWasGoneAtEnd else { return }
        process.record.descendantsAlive = true
        guard process.killsDescendants else { return }
        stop(process, .descendants, grace: .zero)
    }

    /// Children that are nobody's command: descendants whose parent has gone.
    func reapOrphans() {
        orphansArePending = false
        while true {
            let pid = clinux_ended_child()
            if pid <= 0 { return }
            if let serial = leaders[pid], let process = processes[serial] {
                reap(process)
                if leaders[pid] != nil { return }
            } else if launcher.isLaunching(pid) {
                // Its launch has not been told yet; the turn after that looks again.
                orphansArePending = true
                return
            } else {
                clinux_reap_orphan(pid)
                if pid == launcher.pid { restartLauncher() }
            }
        }
    }

    /// Ends the process where it has come to that.
    func settle(_ process: SupervisedProcess) {
        guard process.phase == .running else { return }
        var drain = Drain()
        drain.commandEndedAt = process.commandEndedAt
        drain.hasOpenOutput = !process.outputs.isEmpty
        drain.isHeldBack = process.outputs.contains { $0.state == .held }
        drain.lastOutputAt = process.lastOutputAt
        drain.commandOutputIsRead = process.unreadAtEnd == 0
        drain.mustBeGone = process.stopPlan.isStopping
        if drain.mustBeGone, drain.commandEndedAt != nil {
            drain.treeIsGone = process.tree.map { forest.isEmpty($0) } ?? true
            if !drain.treeIsGone { watchTree(process) }
        }
        switch drain.decide(now: now) {
        case .wait:
            return
        case .waitUntil(let deadline):
            if process.timers.drain == nil {
                setTimer(process, \.drain, .drain(process.serial), at: deadline)
            }
        case .end:
            if process.outputs.contains(where: { $0.state == .queued }) {
                // A stash that found no room is output all the same; but who prints without
                // end is not listened to without end.
                guard isOverdue(process) else { return }
            } else if readsLate(process) {
                return
            }
            recordOutcome(of: process)
            end(process, hadPlace: true)
        }
    }

    /// All that the command left was kept, and its descendants had their time.
    private func isOverdue(_ process: SupervisedProcess) -> Bool {
        guard let end = process.commandEndedAt else { return false }
        return end + Drain.longestTime <= now && process.unreadAtEnd == 0
            && process.outputs.allSatisfy(\.stash.isEmpty)
    }

    /// Quiet is what was not read: where this loop stood still meanwhile, something may have
    /// come that nobody has told of. Looks once more, and reads what there is.
    private func readsLate(_ process: SupervisedProcess) -> Bool {
        guard !process.hasLookedLate else { return false }
        process.hasLookedLate = true
        var found = false
        for pipe in process.outputs where pipe.state != .held && pipe.descriptor.readableBytes > 0 {
            enqueue(process, pipe)
            found = true
        }
        return found
    }

    private func recordOutcome(of process: SupervisedProcess) {
        guard let exit = process.exit else { return }
        let cause = process.stopPlan.cause
        if exit.code == Int32(CLD_EXITED) {
            process.record.outcome = .exitCode(exit.status)
            process.record.status = .exited
            process.record.terminationReason = .exited
        } else {
            process.record.outcome = .signal(exit.status)
            process.record.signalName = SignalName.name(of: exit.status)
            process.record.status = .killed
            process.record.terminationReason = process.ranOutOfMemory ? .outOfMemory : .signalled
        }
        if let reason = cause?.reason { process.record.terminationReason = reason }
        if cause == .timeout { process.record.status = .timedOut }
        var usage = ResourceUsage()
        usage.cpuTimeMs = exit.cpu_us / 1000
        usage.peakMemoryBytes = exit.peak_bytes
        process.record.usage = usage
    }

    /// Makes the record final and tells whoever waits. `record` has its status by now.
    /// `hadPlace`: it counted among the running.
    func end(_ process: SupervisedProcess, hadPlace: Bool) {
        process.phase = .ended
        census.ended[process.record.terminationReason, default: 0] += 1
        process.plan = nil
        dropFurtherOutput(of: process)
        closeDescriptors(of: process)
        abandonStdin(of: process, .notRunning)
        if let tree = process.tree { leaveTree(tree, of: process) }
        cancelTimers(of: process)
        process.record.endedAt = wallClockMilliseconds()
        if lingering[process.serial] == nil { setExpiry(of: process) }

        let record = process.snapshot
        let followers = process.interestedLinks
        if process.isAnnounced {
            for link in followers { tell(link, .ended(serial: process.serial, record)) }
        }
        answerStarts(of: process)
        for call in process.awaiting {
            waitingCalls[call] = nil
            replyStarted(process, to: call, follow: true, joined: true)
        }
        for call in process.stopping {
            waitingCalls[call] = nil
            reply(call, .process(record))
        }
        process.awaiting = []
        process.stopping = []
        announceChange(of: process)
        rememberWhereLetGo(process)
        // Trees that outlive their commands are bounded, too: beyond as many as may run, each
        // keeps its place.
        process.keepsPlace =
            hadPlace && lingering[process.serial] != nil
            && lingering.count > configuration.maxRunning
        if hadPlace, !process.keepsPlace { admission.finish() }
        if shutdown == nil { startWaiting() } else { checkShutdown() }
    }

    /// The process is forgotten after the time for which ended ones are remembered.
    func setExpiry(of process: SupervisedProcess) {
        let retainMilliseconds = configuration.retainTime.nanoseconds / 1_000_000
        let (expiry, overflow) = wallClockMilliseconds()
            .addingReportingOverflow(retainMilliseconds)
        process.record.expiresAt = overflow ? .max : expiry
    }

    func closeDescriptors(of process: SupervisedProcess) {
        for pipe in process.outputs { poller.remove(pipe.descriptor.raw) }
        process.stdout = nil
        process.stderr = nil
        if process.stdin.isPolled, let raw = process.stdin.pipe?.raw { poller.remove(raw) }
        process.stdin.isPolled = false
        process.stdin.pipe = nil
        if let pidfd = process.pidfd?.raw { poller.remove(pidfd) }
        process.pidfd = nil
    }

    func announceChange(of process: SupervisedProcess) {
        guard !watchers.isEmpty else { return }
        let record = process.snapshot
        for link in watchers { tell(link, .changed(record)) }
    }
}

extension StopCause {
    fileprivate var reason: TerminationReason? {
        switch self {
        case .stopped: .stopped
        case .timeout: .timeout
        case .callerGone: .callerGone
        case .shutdown: .shutdown
        case .descendants: nil
        }
    }
}
