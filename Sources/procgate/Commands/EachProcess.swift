// The same done to several processes at once.

import ProcgateClient

struct EachProcess {
    private let words: [String]
    private let gateway: GatewayOptions

    /// - Parameter words: Ids of processes, or their beginnings. A process that is named twice is
    ///   done once.
    init(_ words: [String], gateway: GatewayOptions) {
        var named: Set<String> = []
        self.words = words.filter { named.insert($0).inserted }
        self.gateway = gateway
    }

    /// Prints each id as it is done, or, in JSON, an array of all.
    /// - Throws: `Failures`, once all have been tried; each names its process.
    func run(
        in sandbox: Sandbox,
        _ body: @escaping @Sendable (SandboxProcess) async throws -> ProcessSummary
    ) async throws {
        var attempts: [String: Attempt] = [:]
        var unwritten: (any Error)?
        let found = await find(in: sandbox)
        for attempt in found where attempt.process == nil { attempts[attempt.word] = attempt }
        await withTaskGroup(of: Attempt.self) { group in
            for case let (word, process?) in found.map({ ($0.word, $0.process) }) {
                group.addTask { await Attempt.make(word, process, body) }
            }
            for await attempt in group {
                attempts[attempt.word] = attempt
                guard let summary = attempt.summary, !gateway.json, unwritten == nil else {
                    continue
                }
                do {
                    try await Output.line(summary.id)
                } catch {
                    unwritten = error
                }
            }
        }
        let all = words.compactMap { attempts[$0] }
        if gateway.json {
            let done = all.compactMap { $0.summary.map { JSON($0) } }
            try await Output.line(JSON.array(done).indented)
        }
        if let unwritten { throw unwritten }
        let failures = all.compactMap { attempt in
            attempt.failure.map { failure($0, of: attempt.word) }
        }
        guard failures.isEmpty else { throw Failures(all: failures) }
    }

    /// The processes that the words name, each once, and what kept others from being found.
    private func find(in sandbox: Sandbox) async -> [Attempt] {
        let lookup = ProcessLookup(sandbox)
        var byWord: [String: Attempt] = [:]
        await withTaskGroup(of: Attempt.self) { group in
            for word in words { group.addTask { await Attempt.find(word, lookup) } }
            for await attempt in group { byWord[attempt.word] = attempt }
        }
        var known: Set<String> = []
        return words.compactMap { byWord[$0] }.filter { attempt in
            attempt.process.map { known.insert($0.id).inserted } ?? true
        }
    }

    private func failure(_ error: any Error, of word: String) -> Failure {
        let failure =
            switch error {
            case let error as SandboxError: Failure(error, of: gateway)
            case let error as Failure: error
            default: Failure("\(error)")
            }
        guard !failure.message.contains(word) else { return failure }
        return Failure("process \(word): \(failure.message)", status: failure.status)
    }
}

/// What became of one process: a process that was found, a summary, or a failure.
///
/// A class, so that a task's result is one reference: the optimizer of Swift 6.3 loses parts of a
/// large tuple on its way through a task group.
private final class Attempt: Sendable {
    let word: String
    let process: SandboxProcess?
    let summary: ProcessSummary?
    let failure: (any Error)?

    private init(
        _ word: String, process: SandboxProcess? = nil, summary: ProcessSummary? = nil,
        failure: (any Error)? = nil
    ) {
        self.word = word
        self.process = process
        self.summary = summary
        self.failure = failure
    }

    static func find(_ word: String, _ lookup: ProcessLookup) async -> Attempt {
        do {
            return Attempt(word, process: try await lookup.process(word))
        } catch {
            return Attempt(word, failure: error)
        }
    }

    static func make(
        _ word: String, _ process: SandboxProcess,
        _ body: @Sendable (SandboxProcess) async throws -> ProcessSummary
    ) async -> Attempt {
        do {
            return Attempt(word, summary: try await body(process))
        } catch {
            return Attempt(word, failure: error)
        }
    }
}
