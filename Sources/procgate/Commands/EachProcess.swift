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
        try await withThrowingTaskGroup(of: (String, Result<ProcessSummary, any Error>).self) {
            group in
            for id in ids {
                group.addTask {
                    do {
                        return (id, .success(try await body(id)))
                    } catch {
                        return (id, .failure(error))
                    }
                }
            }
            for try await (id, outcome) in group {
                switch outcome {
                case .success(let summary):
                    done[id] = summary
                    if !json { await Output.line(id) }
                case .failure(let error): failure = failure ?? error
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
