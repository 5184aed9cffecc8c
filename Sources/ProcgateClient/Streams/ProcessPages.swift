// Listings: one page, and all pages one after the other.

internal import ProcgateV1

/// One page of a listing.
public struct ProcessListing: Sendable, Hashable {
    public var data: [ProcessSummary]
    /// For the next page; `nil` at the end.
    public var nextCursor: String?

    init(_ wire: ListProcessesResponse) throws(SandboxError) {
        data = wire.processes.compactMap(ProcessSummary.init)
        guard data.count == wire.processes.count else { throw .notUnderstood("a process") }
        nextCursor = wire.nextCursor.isEmpty ? nil : wire.nextCursor
    }
}

/// The processes of every page: what ``Processes/all(status:labels:createdAfter:createdBefore:)``
/// returns.
public struct ProcessPages: AsyncSequence, Sendable {
    public typealias Element = ProcessSummary
    public typealias Failure = any Error
    typealias Page = @Sendable (_ cursor: String?) async throws -> ProcessListing

    let page: Page

    init(page: @escaping Page) {
        self.page = page
    }

    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(page: page)
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
        let page: Page
        private var rest: [ProcessSummary] = []
        private var cursor: String?
        private var hasEnded = false

        init(page: @escaping Page) {
            self.page = page
        }

        /// The next process; `nil` after the last.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws -> ProcessSummary? {
            while rest.isEmpty {
                guard !hasEnded else { return nil }
                let listing = try await page(cursor)
                rest = listing.data.reversed()
                cursor = listing.nextCursor
                hasEnded = cursor == nil
            }
            return rest.popLast()
        }

        public mutating func next() async throws -> ProcessSummary? {
            try await next(isolation: nil)
        }
    }
}
