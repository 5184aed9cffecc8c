// WatchProcesses: the processes as they stand, then each change of their status.

import DequeModule
import GRPCWire
import NIOCore
import ProcgateInternal
import ProcgateV1
import Protobuf

extension Worker {
    func watchProcesses(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(WatchProcessesRequest.self)
        let feed = WatchFeed(labels: request.labels)
        defer {
            forget(feed)
            unwatch(feed)
            feed.end()
        }
        try await watch(feed)
        try await listAll(into: feed)
        call.onCancellation { _ in feed.end() }
        keepAlive(feed)
        while let event = await feed.next() {
            try await call.send(WatchProcessesResponse.with { $0.event = event })
        }
        if call.cancellation == nil {
            throw .refusal(.supervisorUnavailable, "the supervisor is gone; watch again")
        }
    }

    /// The oldest first, so that a listing that is under way ends in the order of creation.
    private func listAll(into feed: WatchFeed) async throws(GRPCStatus) {
        var list = List()
        list.limit = 1_000
        list.labels = feed.labels
        while true {
            let page = try await page(list)
            for entry in page.entries {
                if let process = entry.process { feed.stands(process) }
            }
            guard page.more, let last = page.entries.last else { return }
            list.beforeSerial = last.serial
        }
    }
}

/// What one watcher is still to be told: every change of a process's status, of which there are
/// a handful; for a watcher that is far behind, the latest of each process alone, so that it
/// costs no more than there are processes. Confined to its loop.
final class WatchFeed: KeptAlive {
    let labels: [String: String]
    private(set) var lastActivity = NIODeadline.now()

    private var order: Deque<String> = []
    private var pending: [String: Deque<WatchProcessesResponse.Event>] = [:]
    private var known: Set<String> = []
    private var waiter: CheckedContinuation<Void, Never>?
    private var wantsKeepAlive = false
    private var hasEnded = false

    /// So many changes are kept one by one.
    private static let mostChanges = 16_384

    init(labels: [String: String]) {
        self.labels = labels
    }

    /// A process as it stood when the watch began; a change that came first is newer.
    func stands(_ process: Process) {
        if !known.contains(process.id) { changed(process) }
    }

    func changed(_ process: Process) {
        guard labels.allSatisfy({ process.labels[$0.key] == $0.value }) else { return }
        known.insert(process.id)
        put(process.id, .process(process))
    }

    func deleted(_ id: String) {
        if known.remove(id) != nil { put(id, .deletedId(id)) }
    }

    func sendKeepAlive() {
        guard waiter != nil else { return }
        wantsKeepAlive = true
        resume()
    }

    func end() {
        hasEnded = true
        resume()
    }

    /// The next event; `nil` at the end. One caller at a time.
    func next() async -> WatchProcessesResponse.Event? {
        while !hasEnded {
            if let id = order.popFirst() {
                guard let event = take(id) else { continue }
                lastActivity = .now()
                return event
            }
            if wantsKeepAlive {
                wantsKeepAlive = false
                lastActivity = .now()
                return .keepAlive(KeepAlive())
            }
            await withCheckedContinuation { waiter = $0 }
        }
        return nil
    }

    private func take(_ id: String) -> WatchProcessesResponse.Event? {
        let event = pending[id]?.popFirst()
        if pending[id]?.isEmpty == true { pending[id] = nil }
        return event
    }

    private func put(_ id: String, _ event: WatchProcessesResponse.Event) {
        if order.count >= Self.mostChanges, pending[id] != nil {
            // Its place in the order is behind what it was told before.
            pending[id] = [event]
        } else {
            pending[id, default: []].append(event)
            order.append(id)
        }
        resume()
    }

    private func resume() {
        waiter?.resume()
        waiter = nil
    }
}
