// From a request to a process that has its place: what is refused, which user it runs as, whether
// it joins another one, and what it holds of the input budget.

import CLinux
import LinuxIO
import OutputLog
import ProcgateV1

/// A start that waits for its user to be looked up, or for its directory to be looked at.
struct PendingStart {
    let request: StartRequest
    let call: CallID
    let question: HostQuestion
    /// Taken of the input budget.
    let bytes: Int
}

/// Names a start that can be repeated.
struct StartKey: Hashable {
    let owner: String
    let key: String
}

extension Supervisor {
    /// Starts a process, or joins the one that was started with the same key. The reply comes
    /// once it runs, is queued, or was refused.
    public func start(_ request: StartRequest, by call: CallID) {
        do {
            try begin(request, by: call)
        } catch {
            reply(call, .failure(error))
        }
    }

    private func begin(_ request: StartRequest, by call: CallID) throws(Refusal) {
        guard shutdown == nil else {
            throw Refusal(.supervisorUnavailable, "the supervisor is shutting down")
        }
        guard request.requestKey.utf8.count <= LaunchPlanner.mostKeyBytes else {
            throw Refusal(
                .requestKeyInvalid,
                "a request key has at most \(LaunchPlanner.mostKeyBytes) bytes, not"
                    + " \(request.requestKey.utf8.count)")
        }
        if try joinKnown(request, by: call) { return }
        try refuseIfCordoned()
        try planner.check(request.spec)
        let name = try planner.userName(of: request.spec)
        if let answer = users.known(name, now: now) {
            return try checkDirectory(request, as: user(name, answer), by: call)
        }
        let ticket = try wait(for: .user(name), request, call)
        if users.wait(ticket, for: name) { ask(.user(name)) }
    }

    /// A process that starts at once finds out by itself whether its directory can be entered.
    /// The caller of one that has to wait is told before.
    private func checkDirectory(
        _ request: StartRequest, as user: UserRecord, by call: CallID
    ) throws(Refusal) {
        let path = planner.directory(of: request.spec, user: user).path
        guard !request.spec.cwd.isEmpty, !admission.hasPlace else {
            return try admit(request, as: user, by: call)
        }
        let question = HostQuestion.directory(path: path, user: user, ticket: nextTicket)
        _ = try wait(for: question, request, call)
        ask(question)
    }

    private func wait(
        for question: HostQuestion, _ request: StartRequest, _ call: CallID
    ) throws(Refusal) -> UInt64 {
        let bytes = request.heldBytes
        try takeInput(bytes, owner: request.owner)
        let ticket = nextTicket
        nextTicket += 1
        pendingStarts[ticket] = PendingStart(
            request: request, call: call, question: question, bytes: bytes)
        pendingCalls[call] = ticket
        return ticket
    }

    private func ask(_ question: HostQuestion) {
        pool(of: question).ask(question, now: now, control: launcher.control)
        scheduleResolvers()
    }

    private func pool(of question: HostQuestion) -> ResolverPool {
        if case .user = question { return userResolvers }
        return directoryResolvers
    }

    private func refuseIfCordoned() throws(Refusal) {
        guard !isCordoned else {
            throw Refusal(.cordoned, "this gateway is cordoned: it accepts no new processes")
        }
    }

    private func user(_ name: String, _ answer: UserAnswer) throws(Refusal) -> UserRecord {
        switch answer {
        case .user(let user): return user
        case .unknown: throw .userUnknown(name)
        case .unresponsive: throw .userUnresponsive(name)
        }
    }

    /// Whether the request was answered by a process that has its key.
    private func joinKnown(_ request: StartRequest, by call: CallID) throws(Refusal) -> Bool {
        guard !request.requestKey.isEmpty else { return false }
        if let serial = keys[request.key], let process = processes[serial] {
            try join(process, request, by: call)
            return true
        }
        if request.joinsOnly {
            throw Refusal(.processNotFound, "no process is known, any more, by this request key")
        }
        return false
    }

    private func admit(
        _ request: StartRequest, as user: UserRecord, by call: CallID
    ) throws(Refusal) {
        if let expiry = request.expiresAt, expiry <= now {
            throw Refusal(.supervisorUnavailable, "the call's deadline has passed")
        }
        let plan = try planner.plan(request.spec, as: user)
        let bytes = request.heldBytes + plan.paths.reduce(0) { $0 + $1.utf8.count + 16 }
        try takeInput(bytes, owner: request.owner)
        let decision = admission.admit(nextSerial)
        guard decision != .refuse else {
            input.giveBack(bytes, owner: request.owner)
            throw Refusal(
                .tooManyProcesses,
                "\(configuration.maxRunning) processes run and \(admission.queuedCount) wait")
        }
        let process = SupervisedProcess(
            serial: nextSerial, id: newProcessID(), request: request, plan: plan,
            digest: request.requestKey.isEmpty ? nil : SpecDigest(request.spec),
            arena: arena, configuration: configuration)
        process.inputBytes = bytes
        nextSerial += 1
        register(process)
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
        _ process: SupervisedProcess, _ request: StartRequest, by call: CallID
    ) throws(Refusal) {
        guard process.digest == SpecDigest(request.spec) else {
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

    private func newProcessID() -> String {
        let random = randomIDs.next()
        return configuration.node.isEmpty ? random : configuration.node + "-" + random
    }

    private func register(_ process: SupervisedProcess) {
        processes[process.serial] = process
        serials[process.id] = process.serial
        serialsInOrder.append(process.serial)
        if let key = process.key { keys[key] = process.serial }
    }

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

    /// Bytes that were given with the start become the first write.
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

    // MARK: Input memory

    private func takeInput(_ bytes: Int, owner: String) throws(Refusal) {
        guard input.take(bytes, owner: owner) else {
            throw Refusal(
                .inputMemoryExhausted,
                "input that processes have not read takes \(input.usedBytes) of"
                    + " \(input.limitBytes) bytes: there is no room for \(bytes) more")
        }
    }

    /// The process holds `bytes` from now on, fewer than before.
    func reduceInput(of process: SupervisedProcess, to bytes: Int) {
        guard bytes < process.inputBytes else { return }
        input.giveBack(process.inputBytes - bytes, owner: process.record.owner)
        process.inputBytes = bytes
    }

    // MARK: Answers of the host

    /// A resolver of the pool has said something, or has ended.
    func takeAnswer(from pool: ResolverPool, _ resolver: UInt64) {
        if let (question, answer) = pool.receive(resolver, now: now, control: launcher.control) {
            hostAnswered(question, answer)
        }
        scheduleResolvers()
    }

    func advanceResolvers() {
        resolverTimer = nil
        for pool in [userResolvers, directoryResolvers] {
            for question in pool.advance(to: now, control: launcher.control) {
                hostAnswered(question, .unresponsive)
            }
        }
        scheduleResolvers()
    }

    func hostAnswered(_ question: HostQuestion, _ answer: HostAnswer) {
        switch question {
        case .user(let name):
            let answer: UserAnswer =
                switch answer {
                case .user(let user): .user(user)
                case .unknownUser, .directory: .unknown
                case .unresponsive: .unresponsive
                }
            for ticket in users.finish(name, answer, now: now) {
                goOn(ticket) { (pending) throws(Refusal) in
                    try checkDirectory(
                        pending.request, as: user(name, answer), by: pending.call)
                }
            }
        case .directory(let path, let user, let ticket):
            goOn(ticket) { (pending) throws(Refusal) in
                switch answer {
                case .unresponsive:
                    throw Refusal(.hostUnresponsive, "\(path): the file system does not answer")
                case .directory(let code) where code != 0:
                    throw Refusal(.cwdInvalid, "\(path): \(SystemError.text(of: code))")
                default:
                    try admit(pending.request, as: user, by: pending.call)
                }
            }
        }
    }

    private func goOn(_ ticket: UInt64, _ body: (PendingStart) throws(Refusal) -> Void) {
        guard let pending = takePending(ticket) else { return }
        do throws(Refusal) {
            guard shutdown == nil else {
                throw Refusal(.supervisorUnavailable, "the supervisor is shutting down")
            }
            // The same key may have been started by another call meanwhile.
            if try joinKnown(pending.request, by: pending.call) { return }
            try refuseIfCordoned()
            try body(pending)
        } catch {
            reply(pending.call, .failure(error))
        }
    }

    func abandonPending(_ call: CallID) {
        guard let ticket = pendingCalls[call], let pending = takePending(ticket) else { return }
        if case .user(let name) = pending.question { users.leave(ticket, name) }
    }

    private func takePending(_ ticket: UInt64) -> PendingStart? {
        guard let pending = pendingStarts.removeValue(forKey: ticket) else { return nil }
        pendingCalls[pending.call] = nil
        input.giveBack(pending.bytes, owner: pending.request.owner)
        return pending
    }

    private func scheduleResolvers() {
        let deadline = [userResolvers, directoryResolvers]
            .compactMap { $0.nextDeadline(canStart: launcher.isRunning) }.min()
        if let (timer, planned) = resolverTimer {
            guard planned != deadline else { return }
            timers.cancel(timer)
            resolverTimer = nil
        }
        guard let deadline else { return }
        resolverTimer = (timers.add(.resolvers, at: deadline), deadline)
    }
}

extension StartRequest {
    var key: StartKey { StartKey(owner: owner, key: requestKey) }

    /// What a process that was asked for holds until it runs: its strings, once as they came and
    /// once in its record, and its input.
    var heldBytes: Int {
        var bytes = 4096 + 2 * spec.command.utf8.count + spec.cwd.utf8.count
        if case .bytes(let input) = stdin { bytes += input.count }
        for string in spec.args { bytes += 2 * (string.utf8.count + 32) }
        for (name, value) in spec.env { bytes += name.utf8.count + value.utf8.count + 64 }
        for (name, value) in spec.labels { bytes += 2 * (name.utf8.count + value.utf8.count + 64) }
        return bytes + requestKey.utf8.count + owner.utf8.count
    }
}
