// Waits that others can end. Knows nothing of what is waited for.

import Synchronization

/// Something that happens once, like the close of a sandbox, and wakes who waits.
final class Alarm: Sendable {
    typealias Ticket = UInt64

    private struct State {
        var isRaised = false
        var lastTicket: Ticket = 0
        /// As many as there are tasks that wait.
        var wakers: [Ticket: @Sendable () -> Void] = [:]
    }

    private let state = Mutex(State())

    var isRaised: Bool { state.withLock { $0.isRaised } }

    func raise() {
        let wakers = state.withLock { state in
            state.isRaised = true
            defer { state.wakers = [:] }
            return Array(state.wakers.values)
        }
        for wake in wakers { wake() }
    }

    /// `wake` is called once when the alarm is raised, now where it was, unless it is removed.
    func add(_ wake: @escaping @Sendable () -> Void) -> Ticket {
        let (ticket, isRaised) = state.withLock { state in
            state.lastTicket += 1
            if !state.isRaised { state.wakers[state.lastTicket] = wake }
            return (state.lastTicket, state.isRaised)
        }
        if isRaised { wake() }
        return ticket
    }

    func remove(_ ticket: Ticket) {
        state.withLock { _ = $0.wakers.removeValue(forKey: ticket) }
    }
}

/// Waits that long, or until one of the alarms is raised or the task is cancelled.
func pause(for duration: Duration, until alarms: [Alarm]) async {
    let sleep = Task { _ = try? await Task.sleep(for: duration) }
    let tickets = alarms.map { alarm in alarm.add { sleep.cancel() } }
    await withTaskCancellationHandler {
        await sleep.value
    } onCancel: {
        sleep.cancel()
    }
    for (alarm, ticket) in zip(alarms, tickets) { alarm.remove(ticket) }
}
