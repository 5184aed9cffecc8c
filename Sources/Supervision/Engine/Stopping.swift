// Signals, stops, and trees that have to go.

import CLinux
import Glibc
import LinuxIO
public import ProcgateV1

extension Supervisor {
    /// A tree without events is looked at so often while it is being killed.
    static let sweepInterval: Duration = .milliseconds(5)
    /// New members of a tree that was sent TERM are looked for after so long, then after twice as
    /// long, and so on.
    private static let terminationInterval: Duration = .milliseconds(5)
    private static let terminationRounds = 6
    /// A process that was killed and has not ended after so long is uninterruptible.
    static let killTime: Duration = .seconds(10)
    /// Whoever lives on is killed again so often: a process may enter the tree after a kill.
    private static let killInterval: Duration = .seconds(1)

    // MARK: Stop

    /// Answered once the whole tree is gone. `grace`: `nil` is the process's own.
    public func stop(
        _ id: String, grace: Duration?, callerIsGone: Bool = false, by call: CallID
    ) {
        do throws(Refusal) {
            let process = try process(id: id)
            lookAtDescendants(of: process)
            guard process.phase != .ended || lingering[process.serial] != nil else {
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
            let plan = process.descendantStop.request(.descendants, grace: grace, now: now)
            act(plan, on: process)
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
        guard let tree = tree(of: process) else { return }
        switch action {
        case .nothing:
            return
        case .terminate(let killAt):
            setTimer(process, \.kill, .kill(process.serial), at: killAt)
            process.terminated = []
            process.terminationRounds = 0
            terminate(process, tree)
        case .hasten(let killAt):
            setTimer(process, \.kill, .kill(process.serial), at: killAt)
        case .kill:
            cancelTimer(process, \.kill)
            cancelTimer(process, \.terminate)
            process.killedAt = now
            setTimer(
                process, \.unkillable, .unkillable(process.serial), at: now + Self.killInterval)
            forest.kill(tree)
            watchTree(process)
        }
        settle(process)
    }

    /// Also where it has outlived its command.
    private func tree(of process: SupervisedProcess) -> ProcessTree? {
        process.tree ?? lingering[process.serial]
    }

    /// Sends TERM to each member once. A member that forks before it acts on the signal makes
    /// others that were not there: they are looked for again, for as long as that makes sense.
    private func terminate(_ process: SupervisedProcess, _ tree: ProcessTree) {
        forest.terminate(tree, except: &process.terminated)
        guard process.terminationRounds < Self.terminationRounds else { return }
        let pause = Self.terminationInterval * (1 << process.terminationRounds)
        process.terminationRounds += 1
        setTimer(process, \.terminate, .terminate(process.serial), at: now + pause)
    }

    func terminateAgain(_ process: SupervisedProcess) {
        guard let tree = tree(of: process) else { return }
        terminate(process, tree)
    }

    /// Kills again what lives on. Says of a process that does not end by KILL that it does not, to
    /// the calls that wait for its end. It goes when the host lets it.
    func killAgain(_ process: SupervisedProcess) {
        guard let tree = tree(of: process) else { return }
        let pids = forest.members(of: tree)
        guard !pids.isEmpty else { return }
        forest.kill(tree)
        guard now - process.killedAt >= Self.killTime else {
            return setTimer(
                process, \.unkillable, .unkillable(process.serial), at: now + Self.killInterval)
        }
        let named = pids.prefix(8).map { String($0) }.joined(separator: ", ")
        let refusal = Refusal(
            .hostUnresponsive,
            "process \(named) was killed and does not end: it waits for the host, uninterruptibly")
        for call in process.stopping {
            waitingCalls[call] = nil
            reply(call, .failure(refusal))
        }
        process.stopping = []
    }

    /// A child that has not come to execute its command when the grace time is over is killed.
    private func endLaunch(_ process: SupervisedProcess, within grace: Duration) {
        var deadline = now + grace
        if grace <= .zero {
            launcher.killLate(process.serial)
            // It may not have been there yet.
            deadline = now + Self.launchRetryTime
        } else if let launchedAt = process.launchedAt {
            deadline = min(deadline, launchedAt + Self.longestLaunch)
        }
        setTimer(process, \.launch, .launch(process.serial), at: deadline)
    }

    /// It never starts: it waits for a place, or for the launcher.
    private func takeOutOfQueue(
        _ process: SupervisedProcess, _ cause: StopCause, signal: Int32
    ) {
        let hadPlace = process.phase == .launching
        if !hadPlace { admission.leave(process.serial) }
        recordKill(of: process, by: signal, cause)
        end(process, hadPlace: hadPlace)
    }

    /// It has ended before its command was executed.
    func recordKill(of process: SupervisedProcess, by signal: Int32, _ cause: StopCause) {
        process.record.status = .killed
        process.record.outcome = .signal(signal)
        process.record.signalName = SignalName.name(of: signal)
        switch cause {
        case .callerGone: process.record.terminationReason = .callerGone
        case .shutdown: process.record.terminationReason = .shutdown
        default: process.record.terminationReason = .stopped
        }
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
            guard scope == .tree, let tree = lingering[process.serial],
                forest.signal(tree, number)
            else { throw .notRunning }
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
            if process.pidfd != nil, pid > 0 { return kill(-pid, number) == 0 }
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
}
