// ListProcesses: a page, the newest first.

import GRPCWire
import ProcgateInternal
import ProcgateV1
import Protobuf

extension Worker {
    private static let defaultLimit: UInt32 = 100
    private static let largestLimit: UInt32 = 1_000

    func listProcesses(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(ListProcessesRequest.self)
        guard request.limit <= Self.largestLimit else {
            throw .refusal(.limitInvalid, "limit is \(request.limit); at most 1000")
        }
        let instance = try liveLink().facts.instanceId
        var list = List()
        list.status = request.status
        list.limit = request.limit == 0 ? Self.defaultLimit : request.limit
        list.createdAfter = request.createdAfter
        list.createdBefore = request.createdBefore
        list.labels = request.labels
        if !request.cursor.isEmpty {
            guard let cursor = ListCursor(request.cursor), cursor.belongs(to: instance) else {
                throw .refusal(.cursorInvalid, "the cursor is not one that this gateway gave")
            }
            list.beforeSerial = cursor.serial
        }
        let query = list
        try await call.send { () async throws(GRPCStatus) -> ListProcessesResponse in
            let page = try await page(query)
            var response = ListProcessesResponse()
            response.processes = page.entries.compactMap(\.process)
            if page.more, let last = page.entries.last {
                response.nextCursor = ListCursor(serial: last.serial, instance: instance).text
            }
            return response
        }
    }

    func page(_ list: List) async throws(GRPCStatus) -> ListReply {
        let reply = try await ask(for: .page) { link, completion in
            link.send(.list(list), completion: completion)
        }
        guard case .list(let page) = reply else {
            throw Self.unexpectedReply
        }
        return page
    }
}

/// Where a listing goes on: behind a process, of one supervisor's life.
struct ListCursor: Equatable {
    let serial: UInt64
    private let instance: UInt32

    init(serial: UInt64, instance: String) {
        self.serial = serial
        self.instance = Self.digest(instance)
    }

    init?(_ text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, text.utf8.allSatisfy({ $0 != 0x2B }),
            let serial = UInt64(parts[0], radix: 36), serial > 0,
            let instance = UInt32(parts[1], radix: 36)
        else { return nil }
        self.serial = serial
        self.instance = instance
    }

    var text: String { "\(String(serial, radix: 36))-\(String(instance, radix: 36))" }

    func belongs(to instance: String) -> Bool { Self.digest(instance) == self.instance }

    /// FNV-1a (Fowler, Noll, Vo): a cursor of another supervisor is to be noticed.
    private static func digest(_ text: String) -> UInt32 {
        text.utf8.reduce(2_166_136_261) { ($0 ^ UInt32($1)) &* 16_777_619 }
    }
}
