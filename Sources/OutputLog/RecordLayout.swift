// The wire-ready record: one gRPC message that holds one `ProcessEvent{output}`, with
// its five-byte prefix. The header has a fixed length, so that its room can be
// reserved before the data behind it is read; protobuf parsers take varints that are
// padded with continuation bytes. Knows the bytes alone: no log, no memory.

/// Which of a process's two streams a chunk came from; the values are the contract's.
public enum OutputStreamKind: UInt8, Sendable {
    case stdout = 1
    case stderr = 2
}

/// The header of a record, as it was decoded.
public struct RecordHeader: Equatable, Sendable {
    /// 1, 2, 3, … over both streams of a process.
    public var seq: UInt64
    public var stream: OutputStreamKind
    /// Milliseconds since the Unix epoch.
    public var timestamp: Int64
    /// Bytes of data behind the header.
    public var dataCount: Int

    /// Header and data, in bytes.
    public var recordSize: Int { RecordLayout.headerSize + dataCount }
}

/// Offsets in a record's header:
///
///     0  00            not compressed          ┐ gRPC prefix
///     1  len:4         of the message, BE      ┘
///     5  12 len:4      ProcessEvent.output, a padded varint
///     10 08 seq:7      OutputChunk.seq
///     18 10 stream:1   OutputChunk.stream
///     20 18 time:6     OutputChunk.timestamp
///     27 22 len:3      OutputChunk.data
///     31 …             the data
public enum RecordLayout {
    public static let headerSize = 31
    /// gRPC's own prefix, at the head of the header.
    public static let prefixSize = 5
    /// The largest data of one record: what the three bytes of its length can tell.
    public static let maxDataCount = 1 << 21 - 1

    static let seqBits = 49
    static let timestampBits = 42

    /// Writes the header at `record`, which has room for `headerSize` bytes. Times
    /// outside 42 bits (1970 to 2109) are clamped.
    public static func write(_ header: RecordHeader, at record: UnsafeMutableRawPointer) {
        let message = UInt32(headerSize - prefixSize + header.dataCount)
        record.storeBytes(of: 0, as: UInt8.self)
        record.storeBytes(of: message.bigEndian, toByteOffset: 1, as: UInt32.self)
        record.storeBytes(of: 0x12, toByteOffset: 5, as: UInt8.self)
        let chunk = headerSize - 10 + header.dataCount
        writePadded(UInt64(chunk), bytes: 4, at: record + 6)
        record.storeBytes(of: 0x08, toByteOffset: 10, as: UInt8.self)
        writePadded(header.seq & (1 << seqBits - 1), bytes: 7, at: record + 11)
        record.storeBytes(of: 0x10, toByteOffset: 18, as: UInt8.self)
        record.storeBytes(of: header.stream.rawValue, toByteOffset: 19, as: UInt8.self)
        record.storeBytes(of: 0x18, toByteOffset: 20, as: UInt8.self)
        let time = UInt64(min(max(header.timestamp, 0), 1 << timestampBits - 1))
        writePadded(time, bytes: 6, at: record + 21)
        record.storeBytes(of: 0x22, toByteOffset: 27, as: UInt8.self)
        writePadded(UInt64(header.dataCount), bytes: 3, at: record + 28)
    }

    /// The header at `record`, which has at least `headerSize` bytes; `nil` where they
    /// are none of ours.
    public static func read(at record: UnsafeRawPointer) -> RecordHeader? {
        guard record.load(as: UInt8.self) == 0,
            record.load(fromByteOffset: 5, as: UInt8.self) == 0x12,
            record.load(fromByteOffset: 27, as: UInt8.self) == 0x22,
            let stream = OutputStreamKind(
                rawValue: record.load(fromByteOffset: 19, as: UInt8.self))
        else { return nil }
        let header = RecordHeader(
            seq: readPadded(bytes: 7, at: record + 11), stream: stream,
            timestamp: Int64(readPadded(bytes: 6, at: record + 21)),
            dataCount: Int(readPadded(bytes: 3, at: record + 28)))
        let message = UInt32(bigEndian: record.loadUnaligned(fromByteOffset: 1, as: UInt32.self))
        guard Int(message) == headerSize - prefixSize + header.dataCount else { return nil }
        return header
    }

    private static func writePadded(
        _ value: UInt64, bytes: Int, at target: UnsafeMutableRawPointer
    ) {
        var rest = value
        for index in 0..<bytes - 1 {
            target.storeBytes(of: UInt8(rest & 0x7F) | 0x80, toByteOffset: index, as: UInt8.self)
            rest >>= 7
        }
        target.storeBytes(of: UInt8(rest & 0x7F), toByteOffset: bytes - 1, as: UInt8.self)
    }

    private static func readPadded(bytes: Int, at source: UnsafeRawPointer) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<bytes {
            let byte = source.load(fromByteOffset: index, as: UInt8.self)
            value |= UInt64(byte & 0x7F) << (7 * UInt64(index))
        }
        return value
    }
}
