// Finding the process that a word of the command line names.

import ArgumentParser
import ProcgateClient

/// An id is `RANDOM`, or `NODE-RANDOM` in a fleet: the last `-` separates them.
enum ProcessID {
    /// Behind the node.
    static let shortestPrefix = 4
    static let shownCharacters = 12

    /// As tables show it: twelve characters behind the node.
    static func cut(_ id: String) -> String {
        let start = randomStart(id)
        return String(id[..<start] + id[start...].prefix(shownCharacters))
    }

    /// Whether the word has enough characters to name a process.
    static func isLongEnough(_ word: String) -> Bool {
        word[randomStart(word)...].count >= shortestPrefix
    }

    private static func randomStart(_ id: String) -> String.Index {
        id.lastIndex(of: "-").map { id.index(after: $0) } ?? id.startIndex
    }
}

struct ProcessLookup {
    static let help = ArgumentHelp("A process id, or at least its first four characters.")
    static let helpForSeveral = ArgumentHelp(
        "Process ids, or at least their first four characters.", valueName: "id")
    /// The most that a page of a listing holds.
    private static let pageLimit = 1000
    /// The most that a refusal lists.
    private static let mostListed = 10

    private let sandbox: Sandbox

    init(_ sandbox: Sandbox) {
        self.sandbox = sandbox
    }

    /// The process of this id, or the only one whose id begins with the word.
    /// - Throws: `Failure` where the word is too short, or begins several ids.
    func process(_ word: String) async throws -> SandboxProcess {
        guard ProcessID.isLongEnough(word) else {
            throw Failure(
                "'\(word)' is too short for a process id: give at least its first "
                    + "\(ProcessID.shortestPrefix) characters", status: .usage)
        }
        do {
            return try await sandbox.getProcess(word)
        } catch let error as SandboxError {
            guard error.reason == .processNotFound else { throw error }
            let ids = try await ids(beginningWith: word)
            guard let id = ids.first else { throw error }
            guard ids.count == 1 else { throw Self.ambiguous(word, ids) }
            return try await sandbox.getProcess(id)
        }
    }

    private func ids(beginningWith word: String) async throws -> [String] {
        var ids: [String] = []
        var cursor: String?
        repeat {
            let page = try await sandbox.processes.list(limit: Self.pageLimit, cursor: cursor)
            ids += page.data.map(\.id).filter { $0.hasPrefix(word) }
            cursor = page.nextCursor
        } while cursor != nil
        return ids
    }

    private static func ambiguous(_ word: String, _ ids: [String]) -> Failure {
        var listed = ids.prefix(mostListed).joined(separator: ", ")
        if ids.count > mostListed { listed += " and \(ids.count - mostListed) more" }
        return Failure("'\(word)' begins several process ids, give more of one: \(listed)")
    }
}
