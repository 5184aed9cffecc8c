// The fuzzer's bytes, read as choices and chunks. An input that ends early reads as zeros and
// empty chunks, so that every prefix of an input is an input.

struct FuzzInput {
    private(set) var rest: UnsafeRawBufferPointer.SubSequence

    init(_ bytes: UnsafeRawBufferPointer) {
        rest = bytes[...]
    }

    var isEmpty: Bool { rest.isEmpty }

    mutating func byte() -> UInt8 {
        rest.popFirst() ?? 0
    }

    /// A number below `bound`.
    mutating func choice(_ bound: Int) -> Int {
        Int(byte()) % bound
    }

    mutating func flag() -> Bool {
        byte() & 1 == 1
    }

    /// Two bytes, the lower one first.
    mutating func number16() -> Int {
        Int(byte()) | Int(byte()) << 8
    }

    /// Small numbers mostly, and now and then one at the edges of 64 bits.
    mutating func number64() -> UInt64 {
        let low = byte()
        guard low >= 0xF0 else { return UInt64(low) }
        let shift = UInt64(low & 0x0F) * 4
        return (UInt64(byte()) << shift) &- (low & 1 == 1 ? 1 : 0)
    }

    /// The next bytes: as many as one byte says, or two where that is 255.
    mutating func chunk() -> [UInt8] {
        let short = Int(byte())
        return take(short == 255 ? number16() : short)
    }

    mutating func take(_ count: Int) -> [UInt8] {
        let taken = Array(rest.prefix(count))
        rest = rest.dropFirst(count)
        return taken
    }

    mutating func remaining() -> [UInt8] {
        take(rest.count)
    }
}

/// Ends the run as a crash: what was found is wrong.
func check(_ condition: Bool, _ message: @autoclosure () -> String) {
    if !condition { fatalError(message()) }
}
