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

        var isServing: Bool { !isDraining && bereft.isEmpty }
    }

    /// What can be asked for; the empty name is the gateway as a whole.
    static let services = ["", ProcessService.fullName]

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

    private func change(_ body: (inout State) -> Void) {
        let watchers = state.withLockedValue { state in
            let before = state.isServing
            body(&state)
            return state.isServing == before ? [] : Array(state.watchers.values)
        }
        for watcher in watchers { watcher.change() }
    }

    private var current: HealthCheckResponse {
        let status: Status = state.withLockedValue { $0.isServing } ? .serving : .notServing
        return .with { $0.status = status }
    }

    private func check(
        _ request: HealthCheckRequest
    ) throws(GRPCStatus) -> HealthCheckResponse {
        guard Self.services.contains(request.service) else {
            throw GRPCStatus(.notFound, "unknown service \(request.service.cut(toBytes: 200))")
        }
        return current
    }

    private func list() -> HealthListResponse {
        let current = current
        return .with { response in
            for service in Self.services { response.statuses[service] = current }
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
                isKnown ? current : HealthCheckResponse.with { $0.status = .serviceUnknown }
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
