// grpc.health.v1.Health: whether the gateway takes calls. Needs no token: load balancers
// and proxies ask it.

import GRPCProtos
import GRPCWire
import NIOConcurrencyHelpers
import ProcgateV1

/// The one status of the gateway, and the streams that watch it.
final class HealthService: Sendable {
    private struct State {
        var isServing = true
        var watchers: [ObjectIdentifier: HealthWatch] = [:]
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
            state.isServing = false
            defer { state.watchers = [:] }
            return Array(state.watchers.values)
        }
        for watcher in watchers { watcher.end() }
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

    private func watch(_ call: ServerCall) async throws(GRPCStatus) {
        let request = try await call.request(HealthCheckRequest.self)
        let isKnown = Self.services.contains(request.service)
        try await call.send(
            isKnown ? current : HealthCheckResponse.with { $0.status = .serviceUnknown })
        let watch = HealthWatch()
        let drains = state.withLockedValue { state in
            if state.isServing { state.watchers[ObjectIdentifier(watch)] = watch }
            return !state.isServing
        }
        call.onCancellation { _ in watch.end() }
        if !drains { await watch.wait() }
        _ = state.withLockedValue { $0.watchers.removeValue(forKey: ObjectIdentifier(watch)) }
        if isKnown, call.cancellation == nil { try await call.send(current) }
    }
}

/// Waits for the one change of status that there is.
private final class HealthWatch: Sendable {
    private struct State {
        var hasEnded = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = NIOLockedValueBox(State())

    func wait() async {
        await withCheckedContinuation { continuation in
            let hasEnded = state.withLockedValue { state in
                if !state.hasEnded { state.waiter = continuation }
                return state.hasEnded
            }
            if hasEnded { continuation.resume() }
        }
    }

    func end() {
        let waiter = state.withLockedValue { state in
            state.hasEnded = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }
}
