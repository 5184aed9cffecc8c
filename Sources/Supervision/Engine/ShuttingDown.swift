// The end of the supervisor: every process stopped, whole trees, within a bounded time.

import Glibc
import LinuxIO

struct ShutdownState {
    var calls: [CallID]
    var isFinished = false
    /// How often strays were killed.
    var strayRounds = 0
    /// Processes that were killed and do not end: the host keeps them.
    var uninterruptible: [Int32] = []
}

extension Supervisor {
    /// Stops every process, whole trees. Answered when all are gone; `isFinished` then.
    public func shutDown(grace: Duration?, by call: CallID) {
        beginShutdown(grace: grace, for: call)
    }

    func beginShutdown(grace: Duration?, for call: CallID?) {
        if shutdown == nil { shutdown = ShutdownState(calls: []) }
        if let call { shutdown?.calls.append(call) }
        for pending in pendingStarts.values {
            abandonPending(pending.call)
            reply(
                pending.call,
                .failure(Refusal(.supervisorUnavailable, "the supervisor is shutting down")))
        }
        var longestGrace = Duration.zero
        for process in processes.values where process.phase != .ended {
            let grace = grace ?? process.grace
            longestGrace = max(longestGrace, grace)
            stop(process, .shutdown, grace: grace)
        }
        for (serial, tree) in lingering {
            forest.kill(tree)
            scheduleLingering(serial)
        }
        _ = timers.add(.shutdownLimit, at: now + longestGrace + Self.killTime)
        checkShutdown()
    }

    /// What was killed and has not ended is not waited for any longer.
    func limitShutdown() {
        guard let state = shutdown, !state.isFinished else { return }
        let trees = Array(lingering.values) + processes.values.compactMap(\.tree)
        finishShutdown(leaving: trees.flatMap { forest.members(of: $0) })
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
        finishShutdown(leaving: [])
    }

    /// Ends the processes that help it, and waits for that: nobody is left behind. To be called
    /// after the last turn.
    public func close() {
        let deadline = Instant.now() + Self.closeTime
        userResolvers.end(until: deadline)
        directoryResolvers.end(until: deadline)
        launcher.end()
    }

    /// One that waits for the host, uninterruptibly, is not waited for longer.
    private static let closeTime: Duration = .seconds(1)

    private func finishShutdown(leaving pids: [Int32]) {
        let calls = shutdown?.calls ?? []
        shutdown?.isFinished = true
        shutdown?.uninterruptible = pids
        shutdown?.calls = []
        for call in calls { reply(call, .shutDown(uninterruptible: pids)) }
        forest.remove()
    }
}
