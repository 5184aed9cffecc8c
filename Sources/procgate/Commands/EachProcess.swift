// The same done to several processes at once.

import ProcgateClient

struct EachProcess {
    private let ids: [String]
    private let gateway: GatewayOptions

    /// - Parameter ids: What is named twice is done once.
    init(_ ids: [String], gateway: GatewayOptions) {
        var named: Set<String> = []
        self.ids = ids.filter { named.insert($0).inserted }
        self.gateway = gateway
    }

    /// Prints each id as it is done, or, in JSON, an array of all.
    /// - Throws: `Failures`, once all have been tried; each names its process.
    func run(
        _ body: @escaping @Sendable (String) async throws -> ProcessSummary
    ) async throws {
        var done: [String: ProcessSummary] = [:]
        var failures: [String: Failure] = [:]
        var unwritten: (any Error)?
        await withTaskGroup(of: Attempt.self) { group in
            for id in ids {
                group.addTask { await Attempt.made(id, body) }
            }
            for await attempt in group {
                if let summary = attempt.summary {
                    done[attempt.id] = summary
                    guard !gateway.json, unwritten == nil else { continue }
                    do {
                        try await Output.line(attempt.id)
                    } catch {
                        unwritten = error
                    }
                } else if let error = attempt.failure {
                    failures[attempt.id] = failure(error, of: attempt.id)
                }
            }
        }
        if gateway.json {
            let all = ids.compactMap { done[$0].map { JSON($0) } }
            try await Output.line(JSON.array(all).indented)
        }
        if let unwritten { throw unwritten }
        let all = ids.compactMap { failures[$0] }
        guard all.isEmpty else { throw Failures(all: all) }
    }

    private func failure(_ error: any Error, of id: String) -> Failure {
        let failure =
            switch error {
            case let error as SandboxError: Failure(error, of: gateway)
            case let error as Failure: error
            default: Failure("\(error)")
            }
        guard !failure.message.contains(id) else { return failure }
        return Failure("process \(id): \(failure.message)", status: failure.status)
    }
}

/// What became of one process: a summary, or a failure.
///
/// A class, so that a task's result is one reference: the optimizer of Swift 6.3 loses parts of a
/// large tuple on its way through a task group.
private final class Attempt: Sendable {
    let id: String
    let summary: ProcessSummary?
    let failure: (any Error)?

    private init(_ id: String, _ summary: ProcessSummary?, _ failure: (any Error)?) {
        self.id = id
        self.summary = summary
        self.failure = failure
    }

    static func made(
        _ id: String, _ body: @Sendable (String) async throws -> ProcessSummary
    ) async -> Attempt {
        do {
            return Attempt(id, try await body(id), nil)
        } catch {
            return Attempt(id, nil, error)
        }
    }
}
