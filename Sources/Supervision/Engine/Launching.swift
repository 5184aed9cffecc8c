// From a process that has its place to a running command: descriptors, limits, launch.

import CLinux
import Glibc
import LinuxIO
import OutputLog
import ProcgateV1

extension Supervisor {
    /// A child that has not executed its command after so long is given up.
    static let longestLaunch: Duration = .seconds(10)
    /// A process waits so long for the launcher, at most.
    static let longestLine: Duration = .seconds(30)
    /// Until one that is to be stopped and could not be killed is looked at again.
    static let launchRetryTime: Duration = .milliseconds(100)

    // MARK: Launching

    /// Starts whoever has a place now.
    func startWaiting() {
        // A launch that fails at once comes back here: the loop below goes on instead.
        guard !isStartingWaiting else { return }
        isStartingWaiting = true
        defer { isStartingWaiting = false }
        while let serial = admission.next() {
            guard let process = processes[serial] else {
                admission.finish()
                continue
            }
            cancelTimer(process, \.queue)
            launch(process)
        }
    }

    func launch(_ process: SupervisedProcess) {
        process.phase = .launching
        guard launcher.hasFreeSlot, launchWindow.hasRoom else { return waitInLine(process) }
        guard var plan = process.plan else {
            return launchFailed(process, LaunchFailure(CLINUX_STEP_CLONE, code: EINVAL))
        }
        let tree = forest.plant()
        process.tree = tree
        process.launchedAt = .now()
        process.launchCount += 1
        setTimer(process, \.launch, .launch(process.serial), at: now + Self.longestLaunch)
        applyLimits(process, tree, &plan)
        launchWindow.begin(process.serial, at: now)
        do {
            if let (columns, rows) = plan.terminal {
                try launchInTerminal(process, plan, columns: columns, rows: rows)
            } else {
                try launchWithPipes(process, plan)
            }
        } catch {
            // Where the launcher has died, that is about to be told: this waits for the next one.
            let isPassing = error.call == "sendmsg" && [EPIPE, EAGAIN].contains(error.code)
            guard isPassing else {
                return launchFailed(process, LaunchFailure(CLINUX_STEP_CLONE, code: error.code))
            }
            takeBackLaunch(process)
            waitInLine(process)
        }
    }

    private func waitInLine(_ process: SupervisedProcess) {
        launchLine.append(process.serial)
        setTimer(process, \.launch, .launch(process.serial), at: now + Self.longestLine)
        scheduleLaunchLine()
    }

    /// Looks at the line again when a launch that is under way becomes slow: it counts no more.
    private func scheduleLaunchLine() {
        guard !launchLine.isEmpty, !launchLineIsScheduled else { return }
        launchLineIsScheduled = true
        let deadline = launchWindow.nextSlow ?? now + LaunchWindow.slowTime
        _ = timers.add(.launchLine, at: max(deadline, now + .milliseconds(1)))
    }

    func advanceLaunchLine() {
        launchLineIsScheduled = false
        launchWindow.advance(to: now)
        launchFromLine()
        scheduleLaunchLine()
    }

    /// Undoes what was prepared for a launch that did not take place.
    private func takeBackLaunch(_ process: SupervisedProcess) {
        cancelTimer(process, \.launch)
        launchWindow.end(process.serial)
        closeDescriptors(of: process)
        if let tree = process.tree { forest.clear(tree) }
        process.tree = nil
        process.launchedAt = nil
    }

    private func applyLimits(
        _ process: SupervisedProcess, _ tree: ProcessTree, _ plan: inout LaunchPlan
    ) {
        if let mark = forest.markLimit(of: tree) { plan.limits.append(mark) }
        guard let limits = process.limits, limits != ResourceLimits() else { return }
        if case .cgroup(let leaf) = tree.bond, forest.limitsWholeTrees, leaf.apply(limits) {
            process.record.limitsEnforced = .cgroup
            return
        }
        if limits.memoryBytes > 0 {
            plan.limits.append(.same(CLINUX_LIMIT_MEMORY, limits.memoryBytes))
        }
        if limits.maxProcesses > 0, plan.user.uid != 0 {
            // Counted for the user, whatever else they run.
            let others = ProcessTable.taskCount(of: plan.user.uid)
            plan.limits.append(.same(CLINUX_LIMIT_PROCESSES, UInt64(limits.maxProcesses) + others))
        }
        let isEnforced = limits.memoryBytes > 0 || (limits.maxProcesses > 0 && plan.user.uid != 0)
        process.record.limitsEnforced = isEnforced ? .rlimit : .none
    }

    private func launchWithPipes(
        _ process: SupervisedProcess, _ plan: LaunchPlan
    ) throws(SystemError) {
        let out = try Pipe(nonblockingReader: true, nonblockingWriter: false).ends()
        let outWriter = FileDescriptor(owning: out.writer)
        process.stdout = OutputPipe(
            FileDescriptor(owning: out.reader), stream: .stdout, isTerminal: false)
        let error = try Pipe(nonblockingReader: true, nonblockingWriter: false).ends()
        let errorWriter = FileDescriptor(owning: error.writer)
        process.stderr = OutputPipe(
            FileDescriptor(owning: error.reader), stream: .stderr, isTerminal: false)
        var descriptors = LaunchDescriptors(stdout: outWriter.raw, stderr: errorWriter.raw)
        if case .null = process.stdinSource {
            process.stdin.window.close(byWriter: true)
            try submit(process, plan, descriptors)
        } else {
            let input = try Pipe(nonblockingReader: false, nonblockingWriter: true).ends()
            let reader = FileDescriptor(owning: input.reader)
            process.stdin.pipe = FileDescriptor(owning: input.writer)
            descriptors.stdin = reader.raw
            try submit(process, plan, descriptors)
            _ = consume reader
        }
        _ = consume outWriter
        _ = consume errorWriter
    }

    private func launchInTerminal(
        _ process: SupervisedProcess, _ plan: LaunchPlan, columns: UInt16, rows: UInt16
    ) throws(SystemError) {
        var ends: (Int32, Int32) = (-1, -1)
        let status = withUnsafeMutableBytes(of: &ends) { bytes in
            clinux_open_terminal(
                bytes.assumingMemoryBound(to: Int32.self).baseAddress, columns, rows)
        }
        guard status == 0 else { throw SystemError("/dev/ptmx") }
        let terminal = FileDescriptor(owning: ends.1)
        process.stdout = OutputPipe(
            FileDescriptor(owning: ends.0), stream: .stdout, isTerminal: true)
        if plan.changesUser { fchown(terminal.raw, plan.user.uid, gid_t.max) }
        try submit(process, plan, LaunchDescriptors(terminal: terminal.raw))
        _ = consume terminal
    }

    private func submit(
        _ process: SupervisedProcess, _ plan: LaunchPlan, _ descriptors: LaunchDescriptors
    ) throws(SystemError) {
        var descriptors = descriptors
        if let tree = process.tree, case .cgroup(let leaf) = tree.bond {
            descriptors.cgroup = leaf.directory.raw
        }
        try launcher.submit(plan, descriptors, ticket: process.serial)
    }

    // MARK: Launched

    func takeLaunches() {
        guard launcher.isRunning else { return }
        do {
            while try launcher.takeResult({ ticket, result in launched(ticket, result) }) {}
        } catch {
            restartLauncher()
        }
        launchFromLine()
    }

    private func launchFromLine() {
        // Each once: one that finds the launcher dead stands in the line again.
        for _ in 0..<launchLine.count {
            guard launcher.hasFreeSlot, launchWindow.hasRoom, let serial = launchLine.popFirst()
            else { return }
            guard let process = processes[serial], process.phase == .launching,
                process.launchedAt == nil
            else { continue }
            launch(process)
        }
    }

    // MARK: The launcher

    func restartLauncher() {
        poller.remove(launcher.socket)
        forest.forgets(launcher.pid)
        launchWindow.endAll()
        for serial in launcher.abandon() {
            abandonedLaunches.remove(serial)
            guard let process = processes[serial], process.phase == .launching else { continue }
            if let (cause, _) = process.stopAfterLaunch {
                stopped(process, cause)
            } else {
                launchFailed(process, LaunchFailure(CLINUX_STEP_CLONE, code: ECHILD))
            }
        }
        for question in userResolvers.launcherEnded() + directoryResolvers.launcherEnded() {
            hostAnswered(question, .unresponsive)
        }
        // One that has just been started and ends is not started again in a tight loop.
        if now - launcherStartedAt > Self.settledTime { launcherBackoff.succeeded() }
        let pause = launcherBackoff.failed()
        if pause > .zero {
            _ = timers.add(.launcher, at: now + pause)
        } else {
            startLauncher()
        }
    }

    /// A launcher that has lived so long works.
    private static let settledTime: Duration = .seconds(5)

    func startLauncher() {
        guard !launcher.isRunning else { return }
        launcherStartedAt = now
        do {
            try launcher.restart()
            try poller.add(launcher.socket, .input, token: EventSource.launcher.token(0))
        } catch {
            // One that cannot be heard of is as good as none; it ends with its socket.
            _ = launcher.abandon()
            _ = timers.add(.launcher, at: now + max(.milliseconds(200), launcherBackoff.failed()))
            return
        }
        forest.knows(launcher.pid)
        launchFromLine()
        advanceResolvers()
    }

    // MARK: Launches that are done

    private func launched(_ serial: UInt64, _ result: consuming LaunchResult) {
        launchWindow.end(serial)
        guard abandonedLaunches.remove(serial) == nil, let process = processes[serial],
            process.phase == .launching
        else {
            // Nobody waits for it any more. It is reaped as an orphan is.
            if case .running(_, let pidfd, _) = consume result {
                _ = clinux_pidfd_signal(pidfd.raw, SIGKILL)
            }
            return
        }
        cancelTimer(process, \.launch)
        switch consume result {
        case .failed(let step, let code, let interpreter):
            if let (cause, _) = process.stopAfterLaunch {
                stopped(process, cause)
            } else if step == CLINUX_STEP_CLONE, process.launchCount < Self.mostLaunches,
                let tree = process.tree,
                forest.abandonCgroup(
                    of: tree, after: code,
                    isLast: process.launchCount == Self.mostLaunches - 1)
            {
                relaunch(process)
            } else {
                let failure = LaunchFailure(step, code: code, interpreter: interpreter)
                launchFailed(process, failure)
            }
        case .running(let pid, let pidfd, let fellBack):
            if fellBack { process.record.cwd = process.plan?.fallbackDirectory ?? "/" }
            process.pidfd = consume pidfd
            runs(process, pid: pid)
        }
    }

    /// A stop has come before the command ran: it never will.
    private func stopped(_ process: SupervisedProcess, _ cause: StopCause) {
        takeBackLaunch(process)
        recordKill(of: process, by: SignalName.kill, cause)
        end(process, hadPlace: true)
    }

    /// Of one process, where cgroups keep it from starting.
    private static let mostLaunches = 4

    /// Again, without the cgroup that let it not in.
    private func relaunch(_ process: SupervisedProcess) {
        process.tree = nil
        takeBackLaunch(process)
        launch(process)
    }

    private func runs(_ process: SupervisedProcess, pid: pid_t) {
        let serial = process.serial
        process.phase = .running
        process.plan = nil
        // Arguments and environment are the kernel's now; the record and the input are left.
        reduceInput(of: process, to: process.recordBytes + process.stdin.heldBytes)
        census.spawned += 1
        if let launchedAt = process.launchedAt { census.spawnTime += now - launchedAt }
        process.record.pid = UInt32(pid)
        process.record.status = .running
        process.record.startedAt = wallClockMilliseconds()
        leaders[pid] = serial
        if let tree = process.tree { forest.leads(pid, tree) }
        let edges: Readiness = process.isTerminal ? [.input, .output, .edges] : [.input, .edges]
        do {
            if let pidfd = process.pidfd?.raw {
                try poller.add(pidfd, .input, token: EventSource.exit.token(serial))
            }
            if let raw = process.stdout?.descriptor.raw {
                try poller.add(raw, edges, token: EventSource.stdout.token(serial))
            }
            if let raw = process.stderr?.descriptor.raw {
                try poller.add(raw, edges, token: EventSource.stderr.token(serial))
            }
        } catch {
            // The host's limit of watched descriptors: it cannot be supervised.
            stop(process, .shutdown, grace: .zero)
        }
        if let timeout = process.timeout {
            setTimer(process, \.timeout, .timeout(serial), at: now + timeout)
        }
        announceStart(of: process)
        feed(process)
        if let (cause, grace) = process.stopAfterLaunch {
            process.stopAfterLaunch = nil
            stop(process, cause, grace: grace)
        }
    }

    /// To those whose start waited, or to those who know it as queued.
    private func announceStart(of process: SupervisedProcess) {
        if process.isAnnounced {
            let record = process.snapshot
            for link in process.interestedLinks {
                tell(link, .running(serial: process.serial, record))
            }
        }
        answerStarts(of: process)
        announceChange(of: process)
    }

    func answerStarts(of process: SupervisedProcess) {
        process.isAnnounced = true
        for (call, follow, joined) in process.waitingStarts {
            replyStarted(process, to: call, follow: follow, joined: joined)
        }
        process.waitingStarts = []
    }

    // MARK: Launches that fail

    /// The launch has taken too long: its child waits for a file system that does not answer, was
    /// stopped by its own user, or was not made at all.
    func launchIsLate(_ process: SupervisedProcess) {
        guard process.phase == .launching else { return }
        guard process.launchedAt != nil else {
            return launchFailed(process, LaunchFailure(hungAfter: Self.longestLine))
        }
        // Where no child was made at all it is the launcher that stands still.
        if launcher.isUntouched(process.serial), process.stopAfterLaunch == nil {
            launcher.killLauncher()
        }
        launcher.killLate(process.serial)
        let hasEnded = process.stopAfterLaunch != nil && !process.wasKilledLate
        guard !hasEnded else {
            process.wasKilledLate = true
            setTimer(
                process, \.launch, .launch(process.serial), at: now + Self.launchRetryTime)
            return
        }
        giveUpLaunch(process)
    }

    /// The child may be uninterruptible: its end is not waited for.
    private func giveUpLaunch(_ process: SupervisedProcess) {
        abandonedLaunches.insert(process.serial)
        if let tree = process.tree {
            process.tree = nil
            linger(tree, of: process.serial)
        }
        guard let (cause, _) = process.stopAfterLaunch else {
            return launchFailed(process, LaunchFailure(hungAfter: Self.longestLaunch))
        }
        closeDescriptors(of: process)
        recordKill(of: process, by: SignalName.kill, cause)
        end(process, hadPlace: true)
    }

    func launchFailed(_ process: SupervisedProcess, _ failure: LaunchFailure) {
        cancelTimer(process, \.launch)
        launchWindow.end(process.serial)
        closeDescriptors(of: process)
        if let tree = process.tree {
            if failure.step == CLINUX_STEP_CLONE, !forest.isEmpty(tree) {
                // It came to run the command, and cannot be supervised: nobody stays of it.
                forest.kill(tree)
                leaveTree(tree, of: process)
            } else {
                forest.clear(tree)
                process.tree = nil
            }
        }
        let command = process.plan?.arguments.first ?? process.record.command
        if let refusal = failure.refusal(command: command, directory: process.record.cwd),
            !process.isAnnounced
        {
            // It never was a process: the callers are told why.
            let starts = process.waitingStarts
            erase(process)
            admission.finish()
            for (call, _, _) in starts { reply(call, .failure(refusal)) }
            if shutdown == nil { startWaiting() } else { checkShutdown() }
            return
        }
        process.record.outcome = .error(failure.text(command: command))
        process.record.status = .failed
        process.record.terminationReason = .startFailed
        end(process, hadPlace: true)
    }
}

extension clinux_launch_limit {
    /// Soft and hard alike; no more than the hard limit that there is, which not everybody may
    /// raise.
    static func same(_ resource: clinux_limit_kind, _ value: UInt64) -> clinux_launch_limit {
        let limit = min(value, clinux_limit(resource).hard)
        return clinux_launch_limit(resource: resource, soft: limit, hard: limit)
    }
}
