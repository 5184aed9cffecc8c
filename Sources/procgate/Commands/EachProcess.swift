// The same done to several processes at once.

import ProcgateClient

struct EachProcess {
    private let ids: [String]
    private let json: Bool

    init(_ ids: [String], json: Bool) {
        self.ids = ids
        self.json = json
    }

    /// Prints each id as it is done, or, in JSON, an array of all.
    /// - Throws: The first failure, once all have been tried.
    func run(
        _ body: @escaping @Sendable (String) async throws -> ProcessSummary
    ) async throws {
        var done: [String: ProcessSummary] = [:]
        var failure: (any Error)?
        await withTaskGroup(of: Attempt.self) { group in
            for id in ids {
                group.addTask { await Attempt.made(id, body) }
            }
            for await attempt in group {
                if let summary = attempt.summary {
                    done[attempt.id] = summary
                    if !json { await Output.line(attempt.id) }
                } else {
                    failure = failure ?? attempt.failure
                }
            }
        }
        if json {
            let all = ids.compactMap { done[$0].map { JSON($0) } }
            await Output.line(JSON.array(all).indented)
        }
        if let failure { throw failure }
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
