// Where a write of stdin belongs among the bytes that were accepted before. Pure.

struct StdinWindow {
    enum Placement: Equatable {
        /// Write what follows the first `skip` bytes.
        case write(skip: Int)
        /// All of it was done before.
        case repeated
        case gap
        case closed
    }

    private(set) var accepted: UInt64 = 0
    private(set) var isClosed = false
    /// Closed by the writer, not because the reader went.
    private var endedByWriter = false

    func place(offset: UInt64?, count: Int, eof: Bool) -> Placement {
        if let offset, offset > accepted { return .gap }
        let skip = offset.map { accepted - $0 } ?? 0
        if isClosed {
            let isRepeat = offset != nil && skip >= UInt64(count) && (endedByWriter || !eof)
            return isRepeat ? .repeated : .closed
        }
        return .write(skip: Int(min(skip, UInt64(count))))
    }

    mutating func accept(_ count: Int) {
        accepted += UInt64(count)
    }

    mutating func close(byWriter: Bool) {
        guard !isClosed else { return }
        isClosed = true
        endedByWriter = byWriter
    }
}
