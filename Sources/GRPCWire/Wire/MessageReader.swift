// Cuts DATA into messages: a flag, four bytes of length, the message. Knows no stream; it says
// how many bytes may be given back to the peer's window, and when.

import DequeModule
import NIOCore

/// The message framing of one direction of one call.
///
/// Window accounting: bytes are given back when their message is taken. A message that is not
/// complete while somebody waits for it gives its bytes back as they come, as it may be larger
/// than the window; that is bounded by the message limit.
struct MessageReader {
    struct Message {
        let isCompressed: Bool
        let bytes: ByteBuffer
    }

    enum Outcome {
        case message(Message)
        case needsMore
    }

    /// Chunks below that are copied together instead of each keeping the buffer it came in.
    private static let copiedBytes = 1024
    /// Room taken at once for a message that is not complete; beyond, it grows as bytes come.
    private static let reservedBytes = 1024 * 1024

    let limitBytes: Int
    private var current = ByteBuffer()
    private var chunks = Deque<ByteBuffer>()
    private var assembling: ByteBuffer?
    private var assembledBytes = 0
    private var assembledFlag = false
    private var receivedBytes = 0
    private var takenBytes = 0
    private var creditedBytes = 0

    init(limitBytes: Int) {
        self.limitBytes = limitBytes
    }

    /// All bytes that came, prefixes included.
    var totalBytes: Int { receivedBytes }

    /// Whether nothing is left, not even a part of a message.
    var isEmpty: Bool { receivedBytes == takenBytes && assembling == nil }

    /// Bytes of the message that has come in part; 0 where none has, or not its prefix.
    var pendingBytes: Int { assembling == nil ? 0 : assembledBytes }

    /// Of that message, those that have not come.
    var missingBytes: Int { assembling.map { assembledBytes - $0.readableBytes } ?? 0 }

    /// All that has come and was not taken.
    var bufferedBytes: Int { receivedBytes - takenBytes }

    /// The message that has come in part gets room for all of it: it is not to be moved as it
    /// grows. Memory that is not written to yet costs nothing.
    mutating func makeRoom() { assembling?.reserveCapacity(assembledBytes) }

    /// Lets go of all that was not taken.
    mutating func discard() {
        current = ByteBuffer()
        chunks.removeAll()
        assembling = nil
        takenBytes = receivedBytes
    }

    mutating func append(_ chunk: ByteBuffer) {
        receivedBytes += chunk.readableBytes
        var chunk = chunk
        if var partial = assembling, chunks.isEmpty, current.readableBytes == 0 {
            assembling = nil
            let missing = assembledBytes - partial.readableBytes
            if var piece = chunk.readSlice(length: min(missing, chunk.readableBytes)) {
                partial.writeBuffer(&piece)
            }
            assembling = partial
            guard chunk.readableBytes > 0 else { return }
        }
        if current.readableBytes == 0, chunks.isEmpty {
            current = chunk
        } else if chunk.readableBytes < Self.copiedBytes {
            if let last = chunks.indices.last, chunks[last].readableBytes < Self.copiedBytes {
                chunks[last].writeBuffer(&chunk)
            } else {
                var own = ByteBufferAllocator().buffer(capacity: Self.copiedBytes)
                own.writeBuffer(&chunk)
                chunks.append(own)
            }
        } else {
            chunks.append(chunk)
        }
    }

    /// Lets go of a large read buffer that is kept alive by few bytes: of the one that came last.
    mutating func compact() {
        Self.compact(&current)
        if let last = chunks.indices.last { Self.compact(&chunks[last]) }
    }

    private static func compact(_ chunk: inout ByteBuffer) {
        guard chunk.readableBytes > 0, chunk.storageCapacity > chunk.readableBytes * 4,
            chunk.storageCapacity > copiedBytes
        else { return }
        chunk = ByteBuffer(buffer: chunk)
    }

    /// The same for all that waits to be taken.
    mutating func compactAll() {
        compact()
        for index in chunks.indices
        where chunks[index].storageCapacity > chunks[index].readableBytes * 2 {
            chunks[index] = ByteBuffer(buffer: chunks[index])
        }
    }

    /// The next message, where it is complete.
    mutating func next() throws(GRPCStatus) -> Outcome {
        if assembling == nil {
            guard let prefix = try readPrefix() else { return .needsMore }
            if current.readableBytes >= prefix.length {
                guard let bytes = current.readSlice(length: prefix.length) else {
                    return .needsMore
                }
                takenBytes += 5 + prefix.length
                advance()
                return .message(Message(isCompressed: prefix.isCompressed, bytes: bytes))
            }
            assembledBytes = prefix.length
            assembledFlag = prefix.isCompressed
            assembling = ByteBufferAllocator().buffer(
                capacity: min(prefix.length, Self.reservedBytes))
        }
        guard var partial = assembling else { return .needsMore }
        assembling = nil
        while partial.readableBytes < assembledBytes, current.readableBytes > 0 {
            let missing = assembledBytes - partial.readableBytes
            if var piece = current.readSlice(length: min(missing, current.readableBytes)) {
                partial.writeBuffer(&piece)
            }
            advance()
        }
        guard partial.readableBytes == assembledBytes else {
            assembling = partial
            return .needsMore
        }
        takenBytes += 5 + assembledBytes
        return .message(Message(isCompressed: assembledFlag, bytes: partial))
    }

    /// How many bytes to give back to the window now.
    /// - Parameter isWaiting: somebody waits for a message that is not complete.
    mutating func credit(isWaiting: Bool) -> Int {
        let due = isWaiting ? receivedBytes : takenBytes
        guard due > creditedBytes else { return 0 }
        defer { creditedBytes = due }
        return due - creditedBytes
    }

    private mutating func readPrefix() throws(GRPCStatus) -> (isCompressed: Bool, length: Int)? {
        while current.readableBytes < 5 {
            guard var following = chunks.popFirst() else { return nil }
            if current.readableBytes == 0 {
                current = following
            } else {
                var joined = ByteBufferAllocator().buffer(
                    capacity: current.readableBytes + following.readableBytes)
                joined.writeBuffer(&current)
                joined.writeBuffer(&following)
                current = joined
            }
        }
        guard let flag = current.getInteger(at: current.readerIndex, as: UInt8.self),
            let length = current.getInteger(at: current.readerIndex + 1, as: UInt32.self)
        else { return nil }
        guard flag <= 1 else {
            throw GRPCStatus(.internal, "a message's compression flag is \(flag), not 0 or 1")
        }
        guard Int(length) <= limitBytes else {
            throw GRPCStatus(
                .resourceExhausted, "a message of \(length) bytes; the limit is \(limitBytes)")
        }
        current.moveReaderIndex(forwardBy: 5)
        if current.readableBytes == 0 { advance() }
        return (flag == 1, Int(length))
    }

    private mutating func advance() {
        guard current.readableBytes == 0 else { return }
        current = chunks.popFirst() ?? ByteBuffer()
    }
}
