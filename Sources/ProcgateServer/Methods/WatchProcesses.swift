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
        let feed = WatchFeed(labels: request.labels) { call.holdNow($0) }
        defer {
            forget(feed)
            unwatch(feed)
            feed.end()
        }
        try await watch(feed)
        try await sendAll(by: call, feed)
        call.onCancellation { _ in feed.end() }
        keepAlive(feed)
        while let event = await feed.next() { try await send(event, by: call) }
        if call.cancellation == nil {
            throw .refusal(.supervisorUnavailable, "the supervisor is gone; watch again")
        }
    }

    /// The processes as they stand, page by page, each once the one before is on its way.
    private func sendAll(by call: ServerCall, _ feed: WatchFeed) async throws(GRPCStatus) {
        var list = List()
        list.limit = 1_000
        list.labels = feed.labels
        while true {
            let last = try await readPage(list, into: feed)
            while let event = feed.nextNow() { try await send(event, by: call) }
            guard let last else { return }
            list.beforeSerial = last
        }
    }

    /// Returns where the next page begins.
    private func readPage(
        _ list: List, into feed: WatchFeed
    ) async throws(GRPCStatus) -> UInt64? {
        let page = try await page(list)
        for entry in page.entries {
            if let process = entry.process { feed.stands(process) }
        }
        return page.more ? page.entries.last?.serial : nil
    }

    private func send(_ news: WatchFeed.News, by call: ServerCall) async throws(GRPCStatus) {
        do throws(GRPCStatus) {
            switch news {
            case .event(.process(let process)):
                try await send(process, by: call) { process in
                    WatchProcessesResponse.with { $0.event = .process(process) }
                }
            case .event(let event):
                try await call.send(WatchProcessesResponse.with { $0.event = event })
            case .latest(let id):
                try await call.send { () async throws(GRPCStatus) -> WatchProcessesResponse in
                    let process = try await process(id)
                    return .with { $0.event = .process(process) }
                }
            }
        } catch {
            // It was forgotten meanwhile: that is told next.
            guard error.reason == .processNotFound else { throw error }
        }
    }
}

/// What one watcher is still to be told: every change of a process's status, of which there are
/// a handful. For a watcher that is far behind, or whose connection has no room, only which
/// processes have changed: it is told then how they stand when it is their turn. Confined to its
/// loop.
final class WatchFeed: KeptAlive {
    enum News {
        case event(WatchProcessesResponse.Event)
        /// This process, as it stands now.
        case latest(String)
    }

    let labels: [String: String]
    private(set) var lastActivity = NIODeadline.now()

    private var order: Deque<String> = []
    private var pending: [String: Deque<WatchProcessesResponse.Event>] = [:]
    private var pendingBytes = 0
    /// Of processes whose changes are not kept.
    private var stale: Set<String> = []
    private var known: Set<String> = []
    private var waiter: CheckedContinuation<Void, Never>?
    private var wantsKeepAlive = false
    private var hasEnded = false
    /// What is kept counts for the connection, in steps.
    private let charge: (Int) -> MemoryCharge?
    private var charges: [MemoryCharge] = []

    /// So many changes are kept one by one.
    private static let mostChanges = 16_384
    private static let mostBytes = 8 << 20
    private static let stepBytes = 64 << 10
    /// Of an event whose texts are short.
    private static let eventBytes = 512

    /// - Parameter charge: counts that many bytes, if there is room for them.
    init(labels: [String: String], charge: @escaping (Int) -> MemoryCharge?) {
        self.labels = labels
        self.charge = charge
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

    /// What is next; `nil` at the end. One caller at a time.
    func next() async -> News? {
        while !hasEnded {
            if let news = nextNow() { return news }
            if wantsKeepAlive {
                wantsKeepAlive = false
                lastActivity = .now()
                return .event(.keepAlive(KeepAlive()))
            }
            await withCheckedContinuation { waiter = $0 }
        }
        return nil
    }

    /// What is next, where there is something.
    func nextNow() -> News? {
        while !hasEnded, let id = order.popFirst() {
            guard let news = take(id) else { continue }
            lastActivity = .now()
            return news
        }
        return nil
    }

    private func take(_ id: String) -> News? {
        if stale.remove(id) != nil { return .latest(id) }
        guard let event = pending[id]?.popFirst() else { return nil }
        if pending[id]?.isEmpty == true { pending[id] = nil }
        pendingBytes -= Self.bytes(of: event)
        if pending.isEmpty { charges.removeAll() }
        return .event(event)
    }

    private func put(_ id: String, _ event: WatchProcessesResponse.Event) {
        defer { resume() }
        let isBehind = stale.contains(id)
        if case .deletedId = event {
            // Nobody can be told how it stood.
            forgetChanges(of: id)
            stale.remove(id)
        } else if isBehind || !hasRoom(for: event) {
            let isInOrder = isBehind || pending[id] != nil
            forgetChanges(of: id)
            stale.insert(id)
            if !isInOrder { order.append(id) }
            return
        }
        pending[id, default: []].append(event)
        pendingBytes += Self.bytes(of: event)
        order.append(id)
    }

    /// Its places in the order stay, and are passed over.
    private func forgetChanges(of id: String) {
        for event in pending.removeValue(forKey: id) ?? [] { pendingBytes -= Self.bytes(of: event) }
    }

    private func hasRoom(for event: WatchProcessesResponse.Event) -> Bool {
        let bytes = pendingBytes + Self.bytes(of: event)
        guard order.count < Self.mostChanges, bytes <= Self.mostBytes else { return false }
        while bytes > (charges.count + 1) * Self.stepBytes {
            guard let more = charge(Self.stepBytes) else { return false }
            charges.append(more)
        }
        return true
    }

    private static func bytes(of event: WatchProcessesResponse.Event) -> Int {
        guard case .process(let process) = event else { return eventBytes }
        return eventBytes + process.approximateBytes
    }

    private func resume() {
        waiter?.resume()
        waiter = nil
    }
}
