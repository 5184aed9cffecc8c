// Signals, stops, and trees that have to go.

import CLinux
import Glibc
import LinuxIO
public import ProcgateV1

extension Supervisor {
    /// A tree without events is looked at this often while it is being killed, and so
    /// often while it merely outlives its command.
    private static let sweepInterval: Duration = .milliseconds(5)
    private static let lingerInterval: Duration = .seconds(1)

    // MARK: Stop

    /// Answered once the whole tree is gone. `grace`: `nil` is the process's own.
    public func stop(
        _ id: String, grace: Duration?, callerIsGone: Bool = false, by call: CallID
    ) {
        do throws(Refusal) {
            let process = try process(id: id)
            if process.phase == .ended {
                reply(call, .process(process.snapshot))
                return
            }
            process.stopping.append(call)
            waitingCalls[call] = process.serial
            stop(
                process, callerIsGone ? .callerGone : .stopped, grace: grace ?? process.grace)
        } catch {
            reply(call, .failure(error))
        }
    }

    func stop(_ process: SupervisedProcess, _ cause: StopCause, grace: Duration) {
        switch process.phase {
        case .ended:
            return
        case .queued:
            takeOutOfQueue(process, cause, signal: SignalName.terminate)
        case .launching where process.launchedAt == nil:
            takeOutOfQueue(process, cause, signal: SignalName.terminate)
        case .launching:
            let planned = process.stopAfterLaunch
            let grace = min(planned?.grace ?? grace, grace)
            process.stopAfterLaunch = (planned?.cause ?? cause, grace)
            endLaunch(process, within: grace)
        case .running:
            // The command has answered for itself; what is left of it is only cleared away.
            let effective = process.commandEndedAt == nil ? cause : StopCause.descendants
            act(process.stopPlan.request(effective, grace: grace, now: now), on: process)
        }
    }

    func act(_ action: StopPlan.Action, on process: SupervisedProcess) {
        guard let tree = process.tree else { return }
        switch action {
        case .nothing:
            return
        case .terminate(let killAt):
            setTimer(process, \.kill, .kill(process.serial), at: killAt)
            forest.signal(tree, SIGTERM)
            // Who is stopped could not answer.
            forest.signal(tree, SIGCONT)
        case .hasten(let killAt):
            setTimer(process, \.kill, .kill(process.serial), at: killAt)
        case .kill:
            cancelTimer(process, \.kill)
            forest.kill(tree)
            watchTree(process)
        }
        settle(process)
    }

    /// A child that has not come to execute its command when the grace time is over is killed.
    private func endLaunch(_ process: SupervisedProcess, within grace: Duration) {
        var deadline = now + grace
        if grace <= .zero {
            launcher.killLate(process.serial)
            // It may not have been there yet.
            deadline = now + Self.launchRetryTime
        } else if let launchedAt = process.launchedAt {
            deadline = min(deadline, launchedAt + Self.launchTime)
        }
        setTimer(process, \.launch, .launch(process.serial), at: deadline)
    }

    /// It never starts: it waits for a place, or for the launcher.
    private func takeOutOfQueue(
        _ process: SupervisedProcess, _ cause: StopCause, signal: Int32
    ) {
        let hadPlace = process.phase == .launching
        if !hadPlace { admission.leave(process.serial) }
        process.record.status = .killed
        process.record.outcome = .signal(signal)
        process.record.signalName = SignalName.name(of: signal)
        switch cause {
        case .callerGone: process.record.terminationReason = .callerGone
        case .shutdown: process.record.terminationReason = .shutdown
        default: process.record.terminationReason = .stopped
        }
        end(process, hadPlace: hadPlace)
    }

    func queueTimeOut(_ process: SupervisedProcess) {
        guard process.phase == .queued else { return }
        admission.leave(process.serial)
        process.record.status = .failed
        process.record.outcome = .error("it waited in the queue for longer than it was let")
        process.record.terminationReason = .queueTimeout
        end(process, hadPlace: false)
    }

    // MARK: Signals

    public func signal(_ id: String, _ name: String, _ scope: SignalScope, by call: CallID) {
        do throws(Refusal) {
            let process = try process(id: id)
            guard let number = SignalName.number(of: name) else {
                throw Refusal(.signalInvalid, "there is no signal '\(name)'")
            }
            try send(number, scope, to: process)
            reply(call, .process(process.snapshot))
        } catch {
            reply(call, .failure(error))
        }
    }

    private func send(
        _ number: Int32, _ scope: SignalScope, to process: SupervisedProcess
    ) throws(Refusal) {
        switch process.phase {
        case .ended:
            throw .notRunning
        case .queued, .launching:
            let ends = [SignalName.terminate, SignalName.interrupt, SignalName.kill]
            guard ends.contains(number) else { throw .notRunning }
            if process.phase == .queued || process.launchedAt == nil {
                takeOutOfQueue(process, .stopped, signal: number)
            } else {
                stop(process, .stopped, grace: .zero)
            }
        case .running:
            guard deliver(number, scope, to: process) else { throw .notRunning }
        }
    }

    private func deliver(
        _ number: Int32, _ scope: SignalScope, to process: SupervisedProcess
    ) -> Bool {
        guard let tree = process.tree else { return false }
        let pid = pid_t(process.record.pid)
        switch scope {
        case .leader:
            guard let pidfd = process.pidfd?.raw else { return false }
            return clinux_pidfd_signal(pidfd, number) == 0
        case .tree:
            return forest.signal(tree, number)
        default:
            // Until the command is reaped its pid, and so its group's number, is its own.
            if process.pidfd != nil { return kill(-pid, number) == 0 }
            return forest.signal(tree, number, group: pid)
        }
    }

    public func resize(_ id: String, to size: TerminalSize, by call: CallID) {
        do throws(Refusal) {
            let process = try process(id: id)
            guard process.isTerminal else {
                throw Refusal(.noTerminal, "the process has no terminal")
            }
            let (columns, rows) = try LaunchPlanner.terminalSize(size)
            switch process.phase {
            case .ended: throw .notRunning
            case .queued, .launching: process.plan?.terminal = (columns, rows)
            case .running: break
            }
            if let master = process.stdout?.descriptor.raw {
                _ = clinux_resize_terminal(master, columns, rows)
            }
            reply(call, .done)
        } catch {
            reply(call, .failure(error))
        }
    }

    // MARK: Trees

    /// Calls `treeChanged` when the tree may be empty.
    func watchTree(_ process: SupervisedProcess) {
        guard let tree = process.tree else { return }
        if process.treeIsWatched || process.timers.sweep != nil { return }
        if watch(tree, serial: process.serial) {
            process.treeIsWatched = true
        } else {
            let deadline = now + Self.sweepInterval
            setTimer(process, \.sweep, .sweep(process.serial), at: deadline)
        }
    }

    private func watch(_ tree: ProcessTree, serial: UInt64) -> Bool {
        guard let events = tree.events else { return false }
        let token = EventSource.tree.token(serial)
        return (try? poller.add(events, .priority, token: token)) != nil
    }

    func treeChanged(_ serial: UInt64) {
        if let tree = lingering[serial] { return lingeringChanged(tree, serial) }
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

    /// The process has ended: its tree is given back, or lives on.
    func leaveTree(_ tree: ProcessTree, of process: SupervisedProcess) {
        if process.treeIsWatched, let events = tree.events { poller.remove(events) }
        process.treeIsWatched = false
        process.tree = nil
        if process.treeWasGoneAtEnd || forest.isEmpty(tree) { return forest.clear(tree) }
        lingering[process.serial] = tree
        if !watch(tree, serial: process.serial) { scheduleLingering(process.serial) }
        if shutdown != nil { forest.kill(tree) }
    }

    func scheduleLingering(_ serial: UInt64) {
        let interval = shutdown == nil ? Self.lingerInterval : Self.sweepInterval
        _ = timers.add(.sweep(serial), at: now + interval)
    }

    private func lingeringChanged(_ tree: ProcessTree, _ serial: UInt64) {
        if forest.isEmpty(tree) {
            if let events = tree.events { poller.remove(events) }
            lingering[serial] = nil
            forest.clear(tree)
            checkShutdown()
        } else if tree.events == nil {
            if shutdown != nil {
                reapOrphans()
                forest.kill(tree)
            }
            scheduleLingering(serial)
        }
    }

    // MARK: Shutdown

    /// Stops every process, whole trees. Answered when all are gone; `isFinished` then.
    public func shutDown(grace: Duration?, by call: CallID) {
        beginShutdown(grace: grace, for: call)
    }

    func beginShutdown(grace: Duration?, for call: CallID?) {
        if shutdown == nil { shutdown = ShutdownState(calls: []) }
        if let call { shutdown?.calls.append(call) }
        for process in processes.values where process.phase != .ended {
            stop(process, .shutdown, grace: grace ?? process.grace)
        }
        for (serial, tree) in lingering {
            forest.kill(tree)
            if tree.events == nil { _ = timers.add(.sweep(serial), at: now) }
        }
        checkShutdown()
    }

    /// Five seconds' worth.
    private static let mostStrayRounds = 1000

    /// Without cgroups a descendant that has changed what marked it, and left its session and its
    /// parents, is in no tree. This process has adopted it, and takes it along. Returns whether
    /// there was one.
    private func killStrays(round: Int) -> Bool {
        guard !forest.usesCgroups, round < Self.mostStrayRounds else { return false }
        reapOrphans()
        let strays = forest.strays
        for pid in strays { _ = kill(pid, SIGKILL) }
        return !strays.isEmpty
    }

    func checkShutdown() {
        guard let state = shutdown, !state.isFinished, lingering.isEmpty,
            processes.values.allSatisfy({ $0.phase == .ended })
        else { return }
        if killStrays(round: state.strayRounds) {
            shutdown?.strayRounds += 1
            _ = timers.add(.strays, at: now + Self.sweepInterval)
            return
        }
        shutdown?.isFinished = true
        shutdown?.calls = []
        for call in state.calls { reply(call, .done) }
        forest.remove()
    }
}
