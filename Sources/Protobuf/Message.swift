// What every generated message and enum can do. Knows no particular message, and neither
// gRPC nor a socket.

/// A message: a value with its encoding.
public protocol ProtobufMessage: Sendable, Equatable {
    /// As the proto file has it: "procgate.v1.ProcessSpec".
    static var fullName: String { get }

    /// Every field at its default.
    init()

    /// Decodes `bytes`, which are copied.
    ///
    /// Unknown fields are dropped, those with another wire type than theirs among them; unknown
    /// values of enums are kept.
    /// - Parameter memoryLimit: The most bytes of C structs that may be built on the way: what a
    ///   few hostile bytes can cost. The values that result take about as much again.
    /// - Throws: `ProtobufError`, whatever the bytes are; never traps.
    init(decoding bytes: UnsafeRawBufferPointer, memoryLimit: Int) throws(ProtobufError)

    /// Calls `body` once with an encoder of this value, valid during the call alone.
    func withEncoder(_ body: (borrowing MessageEncoder) -> Void)
}

/// Why bytes were refused.
public enum ProtobufError: Error, Hashable, Sendable {
    /// Not an encoding of a message: cut off, or with what no field can have.
    case malformed
    /// A string field is not UTF-8.
    case invalidUTF8
    /// Would take more memory than was allowed.
    case tooLarge
    /// Messages within messages, more than `ProtobufLimits.nestedMessages` deep.
    case tooDeep
}

/// What decoding takes at the most.
public enum ProtobufLimits {
    /// Of C structs, unless the caller says otherwise: four times the largest message that the
    /// gateway accepts, so that ordinary messages of that size pass.
    public static let memoryBytes = 64 << 20
    /// As deep as Google's own parsers go. Each level takes about 1.5 KiB of the stack.
    public static let nestedMessages = 100
}

extension ProtobufMessage {
    /// Decodes with the default limit of memory.
    public init(decoding bytes: UnsafeRawBufferPointer) throws(ProtobufError) {
        try self.init(decoding: bytes, memoryLimit: ProtobufLimits.memoryBytes)
    }

    /// Decodes with the default limit of memory.
    public init(decoding bytes: [UInt8]) throws(ProtobufError) {
        self = try bytes.withUnsafeBufferPointer { buffer throws(ProtobufError) in
            try Self(decoding: UnsafeRawBufferPointer(buffer))
        }
    }

    /// The encoding as an array.
    public func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        withEncoder { encoder in
            bytes = [UInt8](unsafeUninitializedCapacity: encoder.byteCount) { buffer, count in
                encoder.write(into: UnsafeMutableRawBufferPointer(buffer))
                count = encoder.byteCount
            }
        }
        return bytes
    }

    /// Calls `body` with the encoding, which is valid during the call alone.
    @inlinable public func withEncoded<Value, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Value
    ) throws(Failure) -> Value {
        var result: Result<Value, Failure>?
        withEncoder { encoder in
            do throws(Failure) {
                result = .success(try body(encoder.bytes()))
            } catch {
                result = .failure(error)
            }
        }
        guard let result else { fatalError("an encoder that was not called") }
        return try result.get()
    }

    /// A new message, as `fill` leaves it.
    public static func with(_ fill: (inout Self) throws -> Void) rethrows -> Self {
        var message = Self()
        try fill(&message)
        return message
    }
}

/// An enum of a proto file: the values that are known, and a case for those that are not.
public protocol ProtobufEnum: RawRepresentable, Hashable, Sendable, CaseIterable
where RawValue == Int32 {
    init(rawValue: Int32)
}
