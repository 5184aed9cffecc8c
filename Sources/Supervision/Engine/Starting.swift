// From a request to a running command: admission, descriptors, launch.

import CLinux
import Glibc
import LinuxIO
import OutputLog
import ProcgateV1

extension Supervisor {
    /// Starts a process, or joins the one that was started with the same key. Answered
    /// once it runs, is queued, or was refused.
    public func start(_ request: StartRequest, by call: CallID) {
        do {
            try admit(request, by: call)
        } catch {
            reply(call, .failure(error))
        }
    }

    private func admit(_ request: StartRequest, by call: CallID) throws(Refusal) {
        guard shutdown == nil else {
            throw Refusal(.supervisorUnavailable, "the supervisor is shutting down")
        }
        var keyed: (name: String, digest: SpecDigest)?
        if !request.requestKey.isEmpty {
            let name = keyName(owner: request.owner, key: request.requestKey)
            let digest = SpecDigest(request.spec)
            if let serial = keys[name], let process = processes[serial] {
                return try join(process, request, digest, by: call)
            }
            if request.joinsOnly {
                throw Refusal(
                    .processNotFound, "no process is known, any more, by this request key")
            }
            keyed = (name, digest)
        }
        let plan = try planner.plan(request.spec, now: now)
        let decision = admission.admit(nextSerial, bytes: request.heldBytes(with: plan))
        guard decision != .refuse else {
            throw Refusal(
                .tooManyProcesses,
                "\(configuration.maxRunning) processes run and \(admission.queuedCount) wait,"
                    + " with \(admission.queuedBytes) bytes of input and arguments")
        }
        let process = SupervisedProcess(
            serial: nextSerial, id: randomID(), request: request, plan: plan,
            digest: keyed?.digest,
            arena: arena, configuration: configuration)
        nextSerial += 1
        register(process, key: keyed?.name)
        own(process, call, request.policy)
        acceptInput(of: process)
        if decision == .start {
            process.waitingStarts.append((call, request.follow, false))
            launch(process)
        } else {
            process.isAnnounced = true
            if let limit = process.queueTimeout {
                setTimer(process, \.queue, .queueTimeout(process.serial), at: now + limit)
            }
            replyStarted(process, to: call, follow: request.follow, joined: false)
            announceChange(of: process)
        }
    }

    private func join(
        _ process: SupervisedProcess, _ request: StartRequest, _ digest: SpecDigest,
        by call: CallID
    ) throws(Refusal) {
        guard process.digest == digest else {
            throw Refusal(
                .requestKeyReused, "the request key was used before, for another process")
        }
        if process.isOwnable, !process.isRemembered {
            own(process, call, request.policy)
            cancelTimer(process, \.resume)
            if request.held { process.log.isHeld = true }
        }
        if process.phase == .launching, !process.isAnnounced {
            process.waitingStarts.append((call, request.follow, true))
        } else {
            replyStarted(process, to: call, follow: request.follow, joined: true)
        }
    }

    private func register(_ process: SupervisedProcess, key: String?) {
        processes[process.serial] = process
        serials[process.id] = process.serial
        serialsInOrder.append(process.serial)
        if let key { keys[key] = process.serial }
    }

    func keyName(owner: String, key: String) -> String { owner + "\0" + key }

    func replyStarted(
        _ process: SupervisedProcess, to call: CallID, follow: Bool, joined: Bool
    ) {
        var answer = StartedAnswer(process: process.snapshot, serial: process.serial)
        answer.joined = joined
        answer.ended = process.phase == .ended
        if follow {
            process.followers[call.link, default: 0] += 1
            answer.log = process.logSnapshot
            answer.canWait = !joined && process.phase == .running && process.log.isHeld
        }
        reply(call, .started(answer))
    }

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
        guard launcher.hasRoom else {
            launchLine.append(process.serial)
            return
        }
        guard var plan = process.plan else { preconditionFailure("a launch without a plan") }
        let tree = forest.plant()
        process.tree = tree
        process.launchedAt = .now()
        process.launchCount += 1
        setTimer(process, \.launch, .launch(process.serial), at: now + Self.launchTime)
        applyLimits(process, tree, &plan)
        do {
            if let (columns, rows) = plan.terminal {
                try launchInTerminal(process, plan, columns: columns, rows: rows)
            } else {
                try launchWithPipes(process, plan)
            }
        } catch {
            guard error.call == "sendmsg", error.code == EPIPE else {
                return launchFailed(process, step: CLINUX_STEP_CLONE, code: error.code)
            }
            // The launcher has died, and that is about to be told: this waits for the next one.
            takeBackLaunch(process)
            launchLine.append(process.serial)
        }
    }

    /// Undoes what was prepared for a launch that did not take place.
    private func takeBackLaunch(_ process: SupervisedProcess) {
        cancelTimer(process, \.launch)
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

    /// What was given with the start becomes the first write.
    private func acceptInput(of process: SupervisedProcess) {
        let data: [UInt8]
        switch process.stdinSource {
        case .pipe: return
        case .null where !process.isTerminal: return
        // A terminal without input is at its end from the start.
        case .null: data = []
        case .bytes(let given): data = given
        }
        process.stdin.pending.append(
            StdinFeed.PendingWrite(
                call: nil, data: data, eof: true, offset: nil, isSession: false))
        process.stdinSource = .pipe
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
            guard launcher.hasRoom, let serial = launchLine.popFirst() else { return }
            guard let process = processes[serial], process.phase == .launching else { continue }
            launch(process)
        }
    }

    func restartLauncher() {
        poller.remove(launcher.socket)
        forest.forgets(launcher.pid)
        for serial in launcher.abandon() {
            guard let process = processes[serial], process.phase == .launching else { continue }
            launchFailed(process, step: CLINUX_STEP_CLONE, code: ECHILD)
        }
        startLauncher()
    }

    /// Before another launcher is tried, where the host had no process or descriptor for one.
    private static let launcherPause: Duration = .milliseconds(200)

    func startLauncher() {
        guard !launcher.isRunning else { return }
        do {
            try launcher.restart()
            try poller.add(launcher.socket, .input, token: EventSource.launcher.token(0))
        } catch {
            // One that cannot be heard of is as good as none; it ends with its socket.
            _ = launcher.abandon()
            _ = timers.add(.launcher, at: now + Self.launcherPause)
            return
        }
        forest.knows(launcher.pid)
        launchFromLine()
    }

    private func launched(_ serial: UInt64, _ result: consuming LaunchResult) {
        guard let process = processes[serial], process.phase == .launching else { return }
        cancelTimer(process, \.launch)
        switch consume result {
        case .failed(let step, let code):
            if step == CLINUX_STEP_CLONE, process.launchCount < Self.mostLaunches,
                let tree = process.tree, forest.abandonCgroup(of: tree, after: code)
            {
                relaunch(process)
            } else {
                launchFailed(process, step: step, code: code)
            }
        case .running(let pid, let pidfd, let fellBack):
            if fellBack { process.record.cwd = process.plan?.fallbackDirectory ?? "/" }
            process.pidfd = consume pidfd
            runs(process, pid: pid)
        }
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

    // MARK: Failed

    func launchFailed(_ process: SupervisedProcess, step: clinux_launch_step, code: Int32) {
        cancelTimer(process, \.launch)
        let command = process.plan?.arguments.first ?? process.record.command
        let failure = LaunchFailure(step: step, code: code, command: command)
        closeDescriptors(of: process)
        if let tree = process.tree {
            if step == CLINUX_STEP_CLONE, !forest.isEmpty(tree) {
                // It came to run the command, and cannot be supervised: nobody stays of it.
                forest.kill(tree)
                leaveTree(tree, of: process)
            } else {
                forest.clear(tree)
                process.tree = nil
            }
        }
        if let refusal = failure.refusal(directory: process.record.cwd), !process.isAnnounced {
            // It never was a process: the callers are told why.
            let starts = process.waitingStarts
            erase(process)
            admission.finish()
            for (call, _, _) in starts { reply(call, .failure(refusal)) }
            startWaiting()
            return
        }
        process.record.outcome = .error(failure.text)
        process.record.status = .failed
        process.record.terminationReason = .startFailed
        end(process, hadPlace: true)
    }
}

extension StartRequest {
    /// What a process that was asked for holds while it waits.
    fileprivate func heldBytes(with plan: LaunchPlan) -> Int {
        var bytes = 4096
        if case .bytes(let input) = stdin { bytes += input.count }
        for strings in [plan.arguments, plan.environment, plan.paths] {
            for string in strings { bytes += string.utf8.count + 16 }
        }
        // Once more in its record.
        for string in spec.args { bytes += string.utf8.count + 16 }
        for (name, value) in spec.labels { bytes += name.utf8.count + value.utf8.count + 32 }
        return bytes
    }
}

/// Why a launch failed, in words and as a reason.
struct LaunchFailure {
    let step: clinux_launch_step
    let code: Int32
    let command: String

    /// Where it is the request's fault, and not the command's or the host's.
    func refusal(directory: String) -> Refusal? {
        switch step {
        case CLINUX_STEP_DIRECTORY:
            return Refusal(.cwdInvalid, "\(directory): \(SystemError.text(of: code))")
        case CLINUX_STEP_GROUPS, CLINUX_STEP_USER:
            return code == EPERM ? Refusal(.runAsDenied, text) : nil
        default:
            return code == E2BIG
                ? Refusal(.argumentsTooLong, "the host takes no arguments that long") : nil
        }
    }

    var text: String {
        let reason = SystemError.text(of: code)
        switch step {
        case CLINUX_STEP_EXECUTE: return "cannot execute '\(command)': \(reason)"
        case CLINUX_STEP_SESSION: return "cannot make a session: \(reason)"
        case CLINUX_STEP_TERMINAL: return "cannot take the terminal: \(reason)"
        case CLINUX_STEP_DESCRIPTORS: return "cannot connect its pipes: \(reason)"
        case CLINUX_STEP_LIMITS: return "cannot set its limits: \(reason)"
        case CLINUX_STEP_GROUPS: return "cannot set its groups: \(reason)"
        case CLINUX_STEP_USER: return "cannot become its user: \(reason)"
        case CLINUX_STEP_DIRECTORY: return "cannot enter its directory: \(reason)"
        case CLINUX_STEP_PARENT: return "the supervisor went away"
        default: return "cannot start a process: \(reason)"
        }
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
