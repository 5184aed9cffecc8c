// Calls and links that come and go, and what hangs on them.

import LinuxIO
import OutputLog

extension Supervisor {
    /// The call is over for its caller.
    public func abandon(_ call: CallID, reason: AbandonReason) {
        abandonPending(call)
        if let serial = waitingCalls.removeValue(forKey: call), let process = processes[serial] {
            process.awaiting.removeAll { $0 == call }
            process.stopping.removeAll { $0 == call }
            abandonWrite(call, of: process)
        }
        if let serial = owningCalls[call], let process = processes[serial] {
            leave(process, call, reason)
        }
        shutdown?.calls.removeAll { $0 == call }
    }

    private func leave(_ process: SupervisedProcess, _ call: CallID, _ reason: AbandonReason) {
        owningCalls[call] = nil
        let hasKey = process.key != nil
        process.waitingStarts.removeAll { $0.call == call }
        follow(process.owners.leave(call, reason: reason, hasKey: hasKey), of: process)
        // Those that are left may have waited for this one.
        if let taken = process.owners.takenByAll { release(process, through: taken) }
    }

    func follow(_ consequence: Ownership.Consequence, of process: SupervisedProcess) {
        switch consequence {
        case .nothing:
            return
        case .kill:
            letGo(process)
            stop(process, .callerGone, grace: .zero)
        case .awaitReturn:
            let deadline = now + configuration.resumeWindow
            setTimer(process, \.resume, .resume(process.serial), at: deadline)
        case .letGo:
            letGo(process)
        }
    }

    func own(_ process: SupervisedProcess, _ call: CallID, _ policy: OwnerPolicy) {
        guard policy != .none else { return }
        process.owners.join(call, policy: policy)
        owningCalls[call] = process.serial
    }

    /// Nobody's reading holds the process back any more.
    private func letGo(_ process: SupervisedProcess) {
        if !process.holdsWhenFull {
            process.log.isHeld = false
            retire(process.log.enforceRetention(), of: process)
            readHeld(process)
        }
        rememberWhereLetGo(process)
    }

    // MARK: Followers

    /// Answered with the log; from then on the link hears of it.
    public func follow(_ id: String, by call: CallID) {
        do throws(Refusal) {
            let process = try process(id: id)
            replyStarted(process, to: call, follow: true, joined: false)
        } catch {
            reply(call, .failure(error))
        }
    }

    public func unfollow(_ serial: UInt64, by link: UInt64) {
        guard let process = processes[serial] ?? departed[serial],
            let count = process.followers[link]
        else { return }
        process.followers[link] = count > 1 ? count - 1 : nil
        if count == 1 { free(process.retired.drop(link), of: process) }
    }

    /// A reader has handed on every record up to `seq`.
    ///
    /// While calls own the process, what the slowest of them has taken counts, and nobody else's
    /// reading; else, where the process holds back by itself, any reader's.
    public func release(_ serial: UInt64, through seq: UInt64, by call: CallID) {
        guard let process = processes[serial] else { return }
        if let taken = process.owners.take(through: seq, by: call) {
            release(process, through: taken)
        } else if process.holdsWhenFull, process.owners.isEmpty {
            release(process, through: seq)
        }
    }

    private func release(_ process: SupervisedProcess, through seq: UInt64) {
        process.log.release(through: seq)
        retire(process.log.enforceRetention(), of: process)
        readHeld(process)
    }

    /// No reader of the link stands in the segment any more.
    public func acknowledgeRetired(_ serial: UInt64, ordinal: UInt64, by link: UInt64) {
        guard let process = processes[serial] ?? departed[serial] else { return }
        if process.retired.acknowledge(ordinal, by: link) { free([ordinal], of: process) }
    }

    /// All that hung on the link is lost, and its gateway reads nothing any more.
    public func linkClosed(_ link: UInt64) {
        linkEnded(link)
        for process in processes.values where process.ghosts.removeValue(forKey: link) != nil {
            free(process.retired.drop(link), of: process)
        }
        for process in departed.values where process.ghosts.removeValue(forKey: link) != nil {
            free(process.retired.drop(link), of: process)
        }
    }

    /// All that hung on the link is lost, but its gateway may still read the logs that it has
    /// followed: their blocks are not used again until `linkClosed`.
    public func linkEnded(_ link: UInt64) {
        guard links.remove(link) != nil else { return }
        for process in processes.values where process.followers.removeValue(forKey: link) != nil {
            process.ghosts[link] = process.log.nextOrdinal
        }
        for process in departed.values where process.followers.removeValue(forKey: link) != nil {
            process.ghosts[link] = process.log.nextOrdinal
        }
        watchers.remove(link)
        outbox.removeAll { $0.link == link }
        let calls = waitingCalls.keys.filter { $0.link == link }
        for call in calls { abandon(call, reason: .lost) }
        for call in pendingCalls.keys.filter({ $0.link == link }) { abandonPending(call) }
        for process in Array(processes.values) {
            for call in process.owners.calls.filter({ $0.link == link }) {
                leave(process, call, .lost)
            }
            process.waitingStarts.removeAll { $0.call.link == link }
        }
        shutdown?.calls.removeAll { $0.link == link }
    }
}
