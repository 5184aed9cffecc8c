// The records of processes that have ended, encoded once: what GetProcess and Wait are
// asked for most. Bounded; the oldest half gives way.

import NIOCore
import ProcgateV1
import Protobuf

struct EndedCache {
    struct Entry {
        let process: Process
        /// A whole GetProcessResponse.
        let response: ByteBuffer

        init(_ process: Process) {
            self.process = process
            let response = GetProcessResponse.with { $0.process = process }
            self.response = response.withEncoded { ByteBuffer(bytes: $0) }
        }
    }

    private let capacity: Int
    private var recent: [String: Entry] = [:]
    private var older: [String: Entry] = [:]

    /// - Parameter capacity: entries kept at most, twice over.
    init(capacity: Int) {
        self.capacity = capacity
    }

    subscript(id: String) -> Entry? {
        get { recent[id] ?? older[id] }
        set {
            recent[id] = newValue
            if newValue == nil { older[id] = nil }
            guard recent.count > capacity else { return }
            older = recent
            recent = [:]
        }
    }

    mutating func removeAll() {
        recent = [:]
        older = [:]
    }
}
