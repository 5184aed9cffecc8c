// A received header block: its fields in one piece of memory, and the cache by which calls
// that carry the same fields share one block. Knows no meaning of any field.

/// The fields of one received HEADERS frame, in order, pseudo fields first.
///
/// Blocks of equal content on one connection are mostly the same object. Confined to the
/// connection's event loop but for its bytes, which never change.
public final class HeaderBlock {
    /// Length of the name (2 bytes, little endian), of the value (the same), name, value; repeated.
    let bytes: [UInt8]

    /// What the layer above made of these fields, so that it does so once. It must not hold this
    /// block, but may a ``copy()``.
    @exclusivity(unchecked) public var annotation: AnyObject?

    init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// Of the fields, and of what tells them apart.
    public var byteCount: Int { bytes.count }

    /// The same fields, without an annotation.
    public func copy() -> HeaderBlock { HeaderBlock(bytes: bytes) }

    /// Gives each field in order to `body`, until it answers false.
    public func forEach(
        _ body: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool
    ) {
        bytes.withUnsafeBytes { all in
            var position = 0
            while position + 4 <= all.count {
                let nameCount = Int(
                    all.loadUnaligned(fromByteOffset: position, as: UInt16.self))
                let valueCount = Int(
                    all.loadUnaligned(fromByteOffset: position + 2, as: UInt16.self))
                let name = position + 4
                let value = name + nameCount
                position = value + valueCount
                let goOn = body(
                    UnsafeRawBufferPointer(rebasing: all[name..<value]),
                    UnsafeRawBufferPointer(rebasing: all[value..<position]))
                if !goOn { return }
            }
        }
    }

    /// Calls `body` with the value of the first field of that name, nil where there is none.
    public func withValue<R>(
        of name: StaticString, _ body: (UnsafeRawBufferPointer?) -> R
    ) -> R {
        var found: UnsafeRawBufferPointer?
        var result: R?
        forEach { fieldName, value in
            guard fieldName.equals(name) else { return true }
            found = value
            result = body(found)
            return false
        }
        return result ?? body(nil)
    }

    /// The value of the first field of that name as text; invalid UTF-8 is repaired.
    public func string(_ name: StaticString) -> String? {
        withValue(of: name) { value in
            value.map { String(decoding: $0, as: UTF8.self) }
        }
    }
}

extension UnsafeRawBufferPointer {
    /// Whether these are the bytes of `text`.
    @inlinable
    public func equals(_ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount else { return false }
        guard count > 0, let base = baseAddress else { return true }
        return equalMemory(base, UnsafeRawPointer(text.utf8Start), count)
    }
}

@usableFromInline
func equalMemory(_ left: UnsafeRawPointer, _ right: UnsafeRawPointer, _ count: Int) -> Bool {
    var index = 0
    while index + 8 <= count {
        let a = left.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        let b = right.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        if a != b { return false }
        index += 8
    }
    while index < count {
        let a = left.load(fromByteOffset: index, as: UInt8.self)
        let b = right.load(fromByteOffset: index, as: UInt8.self)
        if a != b { return false }
        index += 1
    }
    return true
}

/// The value of the volatile field (``HTTP2Configuration/volatileField``): up to 16 bytes.
public struct ShortValue: Equatable, Sendable {
    private var low: UInt64 = 0
    private var high: UInt64 = 0
    /// Bytes of the value; above 16 they are not kept.
    public private(set) var count: Int

    init(_ bytes: UnsafeRawBufferPointer) {
        count = bytes.count
        guard count <= 16 else { return }
        withUnsafeMutableBytes(of: &self) { own in
            own.copyMemory(from: bytes)
        }
    }

    /// Calls `body` with the value's bytes; nil where it was too long to be kept.
    public func withBytes<R>(_ body: (UnsafeRawBufferPointer?) -> R) -> R {
        guard count <= 16 else { return body(nil) }
        return withUnsafeBytes(of: self) { own in
            body(UnsafeRawBufferPointer(rebasing: own[0..<count]))
        }
    }
}

/// Collects the fields of the block being received, and finds an equal one among the last few.
struct HeaderCollector {
    /// Blocks remembered. Calls of one connection rarely have more shapes than that at a time.
    private static let remembered = 8

    private let limitBytes: Int
    private let volatileName: [UInt8]
    private var scratch: UnsafeMutableRawBufferPointer
    private var used = 0
    private var listBytes = 0
    private var recent: [HeaderBlock] = []
    private var nextRecent = 0
    private(set) var volatileValue: ShortValue?

    init(limitBytes: Int, volatileName: String?) {
        self.limitBytes = min(limitBytes, 60 * 1024)
        self.volatileName = volatileName.map { Array($0.utf8) } ?? []
        scratch = .allocate(byteCount: 1024, alignment: 8)
    }

    func deallocate() {
        scratch.deallocate()
    }

    mutating func begin() {
        used = 0
        listBytes = 0
        volatileValue = nil
    }

    var isOverLimit: Bool { listBytes > limitBytes }
    /// So far over the limit that reading it to its end costs too much.
    var isBomb: Bool { listBytes > Self.bombBytes }

    /// Sixteen times the usual limit. Blocks that are merely too large get their answer.
    private static let bombBytes = 256 * 1024

    mutating func append(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
        listBytes += name.count + value.count + 32
        guard !isOverLimit else { return }
        if name.count == volatileName.count, !volatileName.isEmpty,
            volatileName.withUnsafeBytes({
                equalMemory($0.baseAddress!, name.baseAddress!, name.count)
            })
        {
            volatileValue = ShortValue(value)
            return
        }
        let needed = used + 4 + name.count + value.count
        if needed > scratch.count { grow(to: needed) }
        scratch.storeBytes(of: UInt16(name.count), toByteOffset: used, as: UInt16.self)
        scratch.storeBytes(of: UInt16(value.count), toByteOffset: used + 2, as: UInt16.self)
        let target = scratch.baseAddress! + used + 4
        if let source = name.baseAddress {
            target.copyMemory(from: source, byteCount: name.count)
        }
        if let source = value.baseAddress, value.count > 0 {
            (target + name.count).copyMemory(from: source, byteCount: value.count)
        }
        used = needed
    }

    /// The block just collected: one of the last few where the content is equal.
    mutating func finish() -> HeaderBlock {
        let current = UnsafeRawBufferPointer(rebasing: scratch[0..<used])
        for block in recent where block.bytes.count == used {
            let equal =
                used == 0
                || block.bytes.withUnsafeBytes {
                    equalMemory($0.baseAddress!, current.baseAddress!, used)
                }
            if equal { return block }
        }
        let block = HeaderBlock(bytes: [UInt8](current))
        // Very large ones would hold memory of an idle connection for little.
        guard used <= 2048 else { return block }
        if recent.count < Self.remembered {
            recent.append(block)
        } else {
            recent[nextRecent] = block
            nextRecent = (nextRecent + 1) % Self.remembered
        }
        return block
    }

    private mutating func grow(to needed: Int) {
        let larger = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(needed, scratch.count * 2), alignment: 8)
        larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: scratch[0..<used]))
        scratch.deallocate()
        scratch = larger
    }
}
