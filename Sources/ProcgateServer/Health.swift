// grpc.health.v1.Health: whether the gateway takes calls, and has a supervisor. Needs no token: load balancers
// and proxies ask it.

import GRPCProtos
import GRPCWire
import NIOConcurrencyHelpers
import NIOCore
import ProcgateV1

/// The one status of the gateway, and the streams that watch it.
final class HealthService: Sendable {
    private struct State {
        var isDraining = false
        /// The event loops whose supervisor is gone, and not there again.
        var bereft: Set<ObjectIdentifier> = []
        var watchers: [ObjectIdentifier: HealthWatch] = [:]
        /// A process that is started now runs at once.
        var hasPlace = true

        var isServing: Bool { !isDraining && bereft.isEmpty }

        func isServing(_ service: String) -> Bool {
            isServing && (service != HealthService.placement || hasPlace)
        }
    }

    /// What balancers ask for that choose a node for a new process: it is not serving while the
    /// gateway is cordoned or full.
    static let placement = "procgate.new"
    /// The services that have a status; the empty name is the gateway as a whole.
    static let services = ["", ProcessService.fullName, placement]

    // Watchers are on every loop, and the draining begins on none of them.
    private let state = NIOLockedValueBox(State())

    private typealias Status = HealthCheckResponse.ServingStatus

    /// Largest question: it names a service. Strangers may ask.
    private static let requestBytes = 4096

    var methods: [ServerMethod] {
        let methods: [ServerMethod] = [
            .unary(GRPCProtos.Health.check) { [self] request, _ in try check(request) },
            .unary(GRPCProtos.Health.list) { [self] _, _ in list() },
            ServerMethod(GRPCProtos.Health.watch) { [self] call in try await watch(call) },
        ]
        return methods.map { $0.taking(atMost: Self.requestBytes) }
    }

    /// No new calls: every watcher is told, and its stream ends.
    func drain() {
        let watchers = state.withLockedValue { state in
            state.isDraining = true
            return Array(state.watchers.values)
        }
        for watcher in watchers { watcher.end() }
    }

    /// No call that needs the supervisor can be served on that event loop.
    func supervisorLost(by loop: any EventLoop) {
        change { $0.bereft.insert(ObjectIdentifier(loop)) }
    }

    func supervisorFound(by loop: any EventLoop) {
        change { $0.bereft.remove(ObjectIdentifier(loop)) }
    }

    /// New processes run at once, or do not any more.
    func placementChanged(_ hasPlace: Bool) {
        change { $0.hasPlace = hasPlace }
    }

    private func change(_ body: (inout State) -> Void) {
        let watchers = state.withLockedValue { state in
            let before = (state.isServing, state.hasPlace)
            body(&state)
            let isSame = before == (state.isServing, state.hasPlace)
            return isSame ? [] : Array(state.watchers.values)
        }
        for watcher in watchers { watcher.change() }
    }

    private func current(_ service: String) -> HealthCheckResponse {
        let isServing = state.withLockedValue { $0.isServing(service) }
        return .with { $0.status = isServing ? .serving : .notServing }
    }

    private func check(
        _ request: HealthCheckRequest
    ) throws(GRPCStatus) -> HealthCheckResponse {
        guard Self.services.contains(request.service) else {
            throw GRPCStatus(.notFound, "unknown service \(request.service.cut(toBytes: 200))")
        }
        return current(request.service)
    }

    private func list() -> HealthListResponse {
        .with { response in
            for service in Self.services { response.statuses[service] = current(service) }
        }
    }

    /// Tells each change; of several that come before the first is sent, the last.
    private func watch(_ call: ServerCall) async throws(GRPCStatus) {
        let request = try await call.request(HealthCheckRequest.self)
        let isKnown = Self.services.contains(request.service)
        let watch = HealthWatch()
        let drains = state.withLockedValue { state in
            state.watchers[ObjectIdentifier(watch)] = watch
            return state.isDraining
        }
        if drains { watch.end() }
        defer { forget(watch) }
        call.onCancellation { _ in watch.end() }
        var told: Status?
        while true {
            let response =
                isKnown
                ? current(request.service)
                : HealthCheckResponse.with { $0.status = .serviceUnknown }
            if response.status != told, call.cancellation == nil {
                told = response.status
                try await call.send(response)
            }
            guard await watch.next() else { return }
        }
    }

    private func forget(_ watch: HealthWatch) {
        state.withLockedValue { state in
            state.watchers[ObjectIdentifier(watch)] = nil
        }
    }
}

/// Wakes a stream when there may be something to tell, until its end.
private final class HealthWatch: Sendable {
    private struct State {
        var hasChanged = false
        var hasEnded = false
        var toldEnd = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = NIOLockedValueBox(State())

    /// Waits for a change, or the end, which is one, too. False: the end was told before.
    func next() async -> Bool {
        await withCheckedContinuation { continuation in
            let isDue = state.withLockedValue { state in
                let isDue = state.hasChanged || state.hasEnded
                if !isDue { state.waiter = continuation }
                return isDue
            }
            if isDue { continuation.resume() }
        }
        return state.withLockedValue { state in
            state.hasChanged = false
            guard state.hasEnded else { return true }
            defer { state.toldEnd = true }
            return !state.toldEnd
        }
    }

    func change() { wake { $0.hasChanged = true } }
    func end() { wake { $0.hasEnded = true } }

    private func wake(_ body: (inout State) -> Void) {
        let waiter = state.withLockedValue { state in
            body(&state)
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }
}
