// The supervisor's socket: accepts gateways, hands their commands to the supervisor, and
// its news to them. Knows the order of a link, and no process.

import CLinux
import Glibc
import LinuxIO
import ProcgateInternal
import ProcgateV1
import Protobuf
public import Supervision

/// Runs a supervisor on the calling thread until it has been shut down.
///
/// - Parameter ready: called once the socket listens.
/// - Returns: the exit status.
/// - Throws: `SupervisorStartError`, where it could not begin.
public func runSupervisor(
    _ configuration: SupervisorConfiguration, ready: () -> Void
) throws(SupervisorStartError) -> Int32 {
    let directory = try StateDirectory(configuration.stateDirectory)
    do {
        let server = try LinkServer(configuration, socketPath: directory.socketPath)
        ready()
        try server.run()
    } catch {
        throw .system("\(configuration.stateDirectory): \(error)")
    }
    unlink(directory.socketPath)
    _ = consume directory
    return 0
}

/// Not thread-safe.
final class LinkServer {
    static let protocolVersion: UInt32 = 2
    private static let listenerNumber: UInt64 = 0
    private static let readBytes = 256 << 10
    /// One gateway has one link for each of its event loops.
    private static let mostLinks = 1024

    let supervisor: Supervisor
    private let configuration: SupervisorConfiguration
    private let listener: LinuxIO.FileDescriptor
    private let scratch: UnsafeMutableRawBufferPointer
    private var spare = LinkServer.openSpare()
    private var links: [UInt64: LinkConnection] = [:]
    /// Links that have ended, of gateways that may not have noticed.
    private var ghosts: [UInt64: LinkConnection] = [:]
    var linkCount: Int { links.count }
    private var nextNumber: UInt64 = 1
    /// Has output since the last flush.
    private var unflushed: Set<UInt64> = []
    /// Has output that can wait for more, and until when.
    private var late: Set<UInt64> = []
    private var lateDeadline: Instant?
    /// The shortest commands end within it; nobody notices as much more.
    private static let longestWait = Duration.milliseconds(1)

    init(_ configuration: SupervisorConfiguration, socketPath: String) throws {
        self.configuration = configuration
        supervisor = try Supervisor(configuration)
        let raw = clinux_listen_unix(socketPath, 0o600)
        guard raw >= 0 else { throw SystemError("listening on \(socketPath)") }
        listener = LinuxIO.FileDescriptor(owning: raw)
        scratch = .allocate(byteCount: Self.readBytes, alignment: 16)
        try supervisor.watch(raw, .input, number: Self.listenerNumber)
    }

    deinit {
        scratch.deallocate()
        if spare >= 0 { close(spare) }
    }

    /// Returns after a shutdown.
    func run() throws {
        while !supervisor.isFinished { try turn() }
        supervisor.close()
        // Whoever asked for the shutdown is told, where they listen.
        deliver()
    }

    func turn(timeout: Duration? = nil) throws {
        try supervisor.turn(timeout: pollTimeout(atMost: timeout)) { number, readiness in
            if number == Self.listenerNumber {
                accept()
            } else if let link = links[number] {
                serve(link, readiness)
            } else if let ghost = ghosts[number] {
                lay(ghost)
            }
        }
        deliver()
    }

    private func pollTimeout(atMost limit: Duration?) -> Duration? {
        guard let lateDeadline else { return limit }
        let wait = max(.zero, lateDeadline - Instant.now())
        return limit.map { min($0, wait) } ?? wait
    }

    // MARK: Links

    private func accept() {
        while true {
            let raw = clinux_accept(listener.raw)
            if raw < 0 {
                if errno == EMFILE || errno == ENFILE { refuseOne() }
                return
            }
            let descriptor = LinuxIO.FileDescriptor(owning: raw)
            var uid = uid_t.max
            guard clinux_peer_uid(raw, &uid) == 0, uid == geteuid() || uid == 0,
                links.count < Self.mostLinks,
                (try? supervisor.watch(raw, .input, number: nextNumber)) != nil
            else { continue }
            links[nextNumber] = LinkConnection(number: nextNumber, descriptor)
            supervisor.linkOpened(nextNumber)
            nextNumber += 1
        }
    }

    /// Without a free descriptor whoever waits would keep the listener readable, and the loop
    /// spinning: the spare one is given up for as long as it takes to turn them away.
    private func refuseOne() {
        guard spare >= 0 else { return }
        close(spare)
        let raw = clinux_accept(listener.raw)
        if raw >= 0 { close(raw) }
        spare = Self.openSpare()
    }

    private static func openSpare() -> Int32 { open("/dev/null", O_RDONLY | O_CLOEXEC) }

    private func serve(_ link: LinkConnection, _ readiness: Readiness) {
        if readiness.contains(.output) { unflushed.insert(link.number) }
        guard !readiness.isDisjoint(with: [.input, .hangUp, .error]) else { return }
        let reading = link.receive(through: scratch) { command, attachment in
            handle(command, attachment, from: link)
        }
        if case .over = reading { drop(link) }
    }

    /// Ends a link. Its gateway may not have noticed, and read the blocks of the output memory
    /// that it was told of: they are not used again before it makes another link in the place of
    /// this one, or ends.
    private func drop(_ link: LinkConnection) {
        guard links.removeValue(forKey: link.number) != nil else { return }
        supervisor.unwatch(link.descriptor.raw)
        link.end()
        guard link.isGreeted, link.peer >= 0,
            (try? supervisor.watch(link.peer, .input, number: link.number)) != nil
        else { return supervisor.linkClosed(link.number) }
        ghosts[link.number] = link
        supervisor.linkEnded(link.number)
    }

    /// The gateway has ended, or reads by another link.
    private func lay(_ ghost: LinkConnection) {
        guard ghosts.removeValue(forKey: ghost.number) != nil else { return }
        supervisor.unwatch(ghost.peer)
        supervisor.linkClosed(ghost.number)
    }

    // MARK: Out

    private func deliver() {
        // Dropping a link makes news for others.
        while true {
            let notices = supervisor.takeNotices()
            for (number, notice) in notices {
                guard let link = links[number], link.isGreeted else { continue }
                link.append(notice)
                if notice.canWait { late.insert(number) } else { unflushed.insert(number) }
            }
            takeLate()
            if unflushed.isEmpty { return }
            let numbers = unflushed
            unflushed.removeAll(keepingCapacity: true)
            for number in numbers { links[number].map { flush($0) } }
        }
    }

    /// What has waited long enough is to be flushed, and what leaves with something else.
    private func takeLate() {
        if late.isEmpty { return }
        late.subtract(unflushed)
        if late.isEmpty {
            lateDeadline = nil
        } else if let deadline = lateDeadline {
            guard Instant.now() >= deadline else { return }
            unflushed.formUnion(late)
            late.removeAll(keepingCapacity: true)
            lateDeadline = nil
        } else {
            lateDeadline = .now() + Self.longestWait
        }
    }

    private func flush(_ link: LinkConnection) {
        guard link.flush(), !link.isOverfull else { return drop(link) }
        guard link.hasOutput != link.isWaitingForRoom else { return }
        link.isWaitingForRoom = link.hasOutput
        let interest: Readiness = link.hasOutput ? [.input, .output] : .input
        let changed: Void? = try? supervisor.changeWatch(
            link.descriptor.raw, interest, number: link.number)
        if changed == nil { drop(link) }
    }

    // MARK: In

    /// Returns whether the link goes on.
    private func handle(
        _ command: Command, _ attachment: [UInt8], from link: LinkConnection
    ) -> Bool {
        guard let kind = command.kind else {
            guard link.isGreeted else { return false }
            refuseUnknown(command.call, of: link)
            return true
        }
        if case .hello(let hello) = kind { return welcome(link, hello) }
        guard link.isGreeted else { return false }
        act(kind, attachment, for: CallID(link: link.number, call: command.call))
        return true
    }

    private func welcome(_ link: LinkConnection, _ hello: Hello) -> Bool {
        guard !link.isGreeted else { return false }
        link.isGreeted = true
        link.gatewayID = hello.gatewayId
        link.lane = hello.lane
        let isReplaced = { (ghost: LinkConnection) in
            !ghost.gatewayID.isEmpty && ghost.gatewayID == link.gatewayID
                && ghost.lane == link.lane
        }
        for ghost in ghosts.values where isReplaced(ghost) { lay(ghost) }
        let welcome = Welcome.with {
            $0.protocol = Self.protocolVersion
            $0.version = configuration.version
            $0.instanceId = supervisor.instanceID
            $0.pid = UInt32(getpid())
            $0.limitsEnforced = supervisor.limitsEnforcement
            $0.maxRunning = UInt32(clamping: configuration.maxRunning)
            $0.maxQueued = UInt32(clamping: configuration.maxQueued)
            $0.retainBytes = UInt64(clamping: configuration.retainBytes)
            $0.retainMs = configuration.retainTime.wholeMilliseconds
            $0.graceMs = configuration.gracePeriod.wholeMilliseconds
            $0.resumeMs = configuration.resumeWindow.wholeMilliseconds
            $0.arenaBytes = UInt64(supervisor.arena.capacityBytes)
            $0.uid = geteuid()
            $0.shell = configuration.shell
            $0.defaultUser = configuration.defaultUser
            $0.maxOutputMemory = UInt64(clamping: configuration.maxOutputMemory)
            $0.maxInputMemory = UInt64(clamping: configuration.maxInputMemory)
            $0.liveProcesses = UInt64(supervisor.liveProcesses)
            $0.node = configuration.node
            $0.admission = Admission(supervisor.admissionState)
        }
        link.append(Event.with { $0.kind = .welcome(welcome) })
        return link.sendFirst(with: supervisor.arena.readerDescriptor)
    }

    private func refuseUnknown(_ call: UInt64, of link: LinkConnection) {
        let failure = FailureMessage.with {
            $0.reason = ErrorReason.supervisorUnavailable.rawValue
            $0.message = "the supervisor is of a version that does not know this command"
        }
        answer(CallID(link: link.number, call: call), .failure(failure))
    }

    private func act(_ kind: Command.Kind, _ attachment: [UInt8], for call: CallID) {
        switch kind {
        case .hello: return
        case .start(let start): supervisor.start(StartRequest(start), by: call)
        case .get(let get): supervisor.get(get.processId, by: call)
        case .list(let list): supervisor.list(ListFilter(list), by: call)
        case .follow(let follow): supervisor.follow(follow.processId, by: call)
        case .unfollow(let unfollow): supervisor.unfollow(unfollow.serial, by: call.link)
        case .release(let release):
            supervisor.release(release.serial, through: release.seq, by: call)
        case .retireAck(let acknowledgement):
            supervisor.acknowledgeRetired(
                acknowledgement.serial, ordinal: acknowledgement.ordinal, by: call.link)
        case .writeStdin(let write):
            supervisor.write(StdinWrite(write, attachment), to: write.processId, by: call)
        case .resize(let resize):
            supervisor.resize(resize.processId, to: resize.size ?? TerminalSize(), by: call)
        case .sendSignal(let signal):
            supervisor.signal(signal.processId, signal.signal, signal.scope, by: call)
        case .stop(let stop):
            let grace = stop.hasGrace ? Duration.milliseconds(clamping: stop.graceMs) : nil
            supervisor.stop(
                stop.processId, grace: grace, callerIsGone: stop.callerGone, by: call)
        case .await(let awaited): supervisor.awaitEnd(of: awaited.processId, by: call)
        case .delete(let delete): supervisor.delete(delete.processId, by: call)
        case .abandon(let abandon):
            let abandoned = CallID(link: call.link, call: abandon.call)
            supervisor.abandon(abandoned, reason: .init(abandon.reason))
        case .watch(let watch): supervisor.watch(!watch.off, by: call)
        case .shutdown(let shutdown): shutDown(shutdown, for: call)
        case .census: supervisor.census(by: call)
        case .ping: supervisor.pong(call)
        case .cordon(let cordon): supervisor.cordon(cordon.on, by: call)
        }
    }

    private func shutDown(_ shutdown: Shutdown, for call: CallID) {
        guard !shutdown.unlessShared || isAlone(links[call.link]) else {
            return answer(call, .shutdown(.with { $0.isShared = true }))
        }
        let grace = shutdown.hasGrace ? Duration.milliseconds(clamping: shutdown.graceMs) : nil
        supervisor.shutDown(grace: grace, by: call)
    }

    /// Whether the supervisor is the gateway's alone: it was started by one, and no other has a
    /// link to it.
    private func isAlone(_ link: LinkConnection?) -> Bool {
        guard let link, configuration.isOfGateway else { return false }
        return links.values.allSatisfy { !$0.isGreeted || $0.gatewayID == link.gatewayID }
    }

    private func answer(_ call: CallID, _ kind: Reply.Kind) {
        guard let link = links[call.link] else { return }
        let reply = Reply.with {
            $0.call = call.call
            $0.kind = kind
        }
        link.append(Event.with { $0.kind = .reply(reply) })
        unflushed.insert(link.number)
    }
}

extension Duration {
    fileprivate var wholeMilliseconds: UInt64 { UInt64(max(0, nanoseconds / 1_000_000)) }
}

extension Notice {
    fileprivate var canWait: Bool {
        guard case .reply(_, .started(let answer)) = self else { return false }
        return answer.canWait
    }
}
