// Listings of several nodes, one after the other. Knows no call.

/// The processes of several nodes: what ``Processes/all(onEveryNode:status:labels:)`` returns.
public struct NodePages: AsyncSequence, Sendable {
    public typealias Element = ProcessSummary
    public typealias Failure = any Error

    let nodes: [(name: String, pages: ProcessPages)]

    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(nodes: nodes)
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
        private var nodes: ArraySlice<(name: String, pages: ProcessPages)>
        private var current: (name: String, pages: ProcessPages.AsyncIterator)?
        private var failure: (any Error)?

        init(nodes: [(name: String, pages: ProcessPages)]) {
            self.nodes = nodes[...]
        }

        /// The next process; `nil` after the last of every node.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws -> ProcessSummary? {
            while true {
                if let name = current?.name, var pages = current?.pages {
                    do {
                        let process = try await pages.next(isolation: actor)
                        current = process == nil ? nil : (name, pages)
                        if let process { return process }
                    } catch {
                        current = nil
                        if error is CancellationError { throw error }
                        failure = failure ?? Self.named(error, name)
                    }
                    continue
                }
                guard let node = nodes.popFirst() else {
                    defer { failure = nil }
                    if let failure { throw failure }
                    return nil
                }
                current = (node.name, node.pages.makeAsyncIterator())
            }
        }

        public mutating func next() async throws -> ProcessSummary? {
            try await next(isolation: nil)
        }

        private static func named(_ error: any Error, _ node: String) -> any Error {
            guard var error = error as? SandboxError else { return error }
            error.message = "node \(node): \(error.message)"
            return error
        }
    }
}
