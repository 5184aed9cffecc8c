// How a generated message is decoded and encoded by way of protobuf-c. Knows no particular
// message.
//
// Of protobuf-c 1.4.1: CVE-2022-33070 (a shift of a negative number) and CVE-2022-48468 (an
// overflow of a length) are fixed in it. It counts a field's elements in 32 bits, so no more than
// 2 GiB are handed to it. It takes any wire type for a bool, cuts strings at a zero byte and
// drops the sign of -0.0; the generated C structs therefore have integers and `bytes` in their
// places, and what they mean is decided here.
package import CProtobufC

/// A message that has a C struct, written by protoc-c.
package protocol CMessage: ProtobufMessage {
    associatedtype CStruct
    static var layout: UnsafePointer<ProtobufCMessageDescriptor> { get }
    /// A message of this type may contain, at some depth, a type that contains itself, so that
    /// the bytes alone say how deep it goes.
    static var isUnboundedlyDeep: Bool { get }
    init(reading struct: UnsafePointer<CStruct>, in arena: Arena) throws(ProtobufError)
    /// - Parameter struct: With every field at its default.
    func write(to struct: UnsafeMutablePointer<CStruct>, in arena: Arena)
}

extension CMessage {
    package static var isUnboundedlyDeep: Bool { false }
}

extension Arena {
    package func unpack(
        _ bytes: UnsafeRawBufferPointer, as layout: UnsafePointer<ProtobufCMessageDescriptor>
    ) throws(ProtobufError) -> UnsafeRawPointer {
        guard bytes.count <= Int(Int32.max) else { throw .tooLarge }
        if let message = unpackKnown(bytes, as: layout) { return message }
        if state.pointee.isExhausted { throw .tooLarge }
        // It may be as another version of its type has it.
        var known = KnownFields()
        try known.append(bytes, as: layout)
        guard known.hasDropped else { throw .malformed }
        let message = known.bytes.withUnsafeBytes { unpackKnown($0, as: layout) }
        guard let message else { throw state.pointee.isExhausted ? .tooLarge : .malformed }
        return message
    }

    private func unpackKnown(
        _ bytes: UnsafeRawBufferPointer, as layout: UnsafePointer<ProtobufCMessageDescriptor>
    ) -> UnsafeRawPointer? {
        var allocator = allocator
        let message = protobuf_c_message_unpack(
            layout, &allocator,
            bytes.count,
            bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
        return message.map { UnsafeRawPointer($0) }
    }
}

/// A message that is about to be encoded. Valid during the call that it was handed to.
public struct MessageEncoder: ~Copyable {
    private let message: UnsafePointer<ProtobufCMessage>
    private let arena: Arena
    /// Of the encoding.
    public let byteCount: Int

    /// - Parameter message: A C struct, which begins with a ProtobufCMessage.
    package init(_ message: UnsafeRawPointer, in arena: Arena) {
        self.message = message.assumingMemoryBound(to: ProtobufCMessage.self)
        self.arena = arena
        byteCount = protobuf_c_message_get_packed_size(self.message)
    }

    /// Writes the encoding to the beginning of `destination`.
    /// - Precondition: `destination` has room for `byteCount` bytes.
    public func write(into destination: UnsafeMutableRawBufferPointer) {
        precondition(destination.count >= byteCount, "too little room for the message")
        guard byteCount > 0, let start = destination.baseAddress else { return }
        // protobuf_c_message_pack moves every nested message of 128 bytes or more once it knows
        // its length; the other function, slower for small messages, copies each byte once.
        if byteCount < 4 << 10 {
            let end = protobuf_c_message_pack(message, start.assumingMemoryBound(to: UInt8.self))
            precondition(end == byteCount)
        } else {
            var output = Output(
                base: ProtobufCBuffer(append: Output.append), cursor: start,
                end: start + byteCount)
            withUnsafeMutableBytes(of: &output) { output in
                let buffer = output.assumingMemoryBound(to: ProtobufCBuffer.self)
                _ = protobuf_c_message_pack_to_buffer(message, buffer.baseAddress)
            }
            precondition(output.cursor == output.end)
        }
    }

    /// The encoding in memory of its own, valid as long as the encoder is.
    public func bytes() -> UnsafeRawBufferPointer {
        let bytes = UnsafeMutableRawBufferPointer(
            start: arena.allocateOrTrap(byteCount), count: byteCount)
        write(into: bytes)
        return UnsafeRawBufferPointer(bytes)
    }
}

/// What protobuf-c appends an encoding to, piece by piece.
private struct Output {
    /// First, as protobuf-c knows this alone.
    var base: ProtobufCBuffer
    var cursor: UnsafeMutableRawPointer
    let end: UnsafeMutableRawPointer

    static let append:
        @convention(c) (
            UnsafeMutablePointer<ProtobufCBuffer>?, Int, UnsafePointer<UInt8>?
        ) -> Void = { buffer, count, data in
            guard count > 0, let buffer, let data else { return }
            let output = UnsafeMutableRawPointer(buffer).assumingMemoryBound(to: Output.self)
            precondition(count <= output.pointee.end - output.pointee.cursor)
            output.pointee.cursor.copyMemory(from: data, byteCount: count)
            output.pointee.cursor += count
        }
}
