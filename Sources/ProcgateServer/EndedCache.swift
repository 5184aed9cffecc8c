// The records of processes that have ended, encoded once: what GetProcess and Wait are
// asked for most. Bounded in number and in bytes; the oldest half gives way.

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
    private let capacityBytes: Int
    private var recent: [String: Entry] = [:]
    private var recentBytes = 0
    private var older: [String: Entry] = [:]

    /// - Parameters:
    ///   - capacity: entries kept at most, twice over.
    ///   - capacityBytes: of their encodings, twice over.
    init(capacity: Int, capacityBytes: Int) {
        self.capacity = capacity
        self.capacityBytes = capacityBytes
    }

    subscript(id: String) -> Entry? { recent[id] ?? older[id] }

    mutating func add(_ process: Process) {
        let entry = Entry(process)
        let bytes = entry.response.readableBytes
        remove(process.id)
        // A large one would cost many others their places.
        guard bytes <= capacityBytes / 64 else { return }
        recent[process.id] = entry
        recentBytes += bytes
        guard recent.count > capacity || recentBytes > capacityBytes else { return }
        older = recent
        recent = [:]
        recentBytes = 0
    }

    mutating func remove(_ id: String) {
        if let entry = recent.removeValue(forKey: id) {
            recentBytes -= entry.response.readableBytes
        }
        older[id] = nil
    }

    mutating func removeAll() {
        recent = [:]
        recentBytes = 0
        older = [:]
    }
}
