// A call's requests as messages: decoded, or with one field left as it came.

public import NIOCore
public import Protobuf

extension ServerCall {
    /// Looks at a message before it is decoded.
    public typealias Check = (UnsafeRawBufferPointer) throws(GRPCStatus) -> Void

    /// The next message; nil: the caller has half-closed.
    nonisolated(nonsending) public func next<M: ProtobufMessage>(
        _ type: M.Type, checking check: Check = { _ in }
    ) async throws(GRPCStatus) -> M? {
        guard let bytes = try await nextMessage() else { return nil }
        try bytes.withUnsafeReadableBytes { raw throws(GRPCStatus) in try check(raw) }
        return try decode(bytes, as: type)
    }

    /// The only message of a unary or server-streaming call.
    nonisolated(nonsending) public func request<M: ProtobufMessage>(
        _ type: M.Type, checking check: Check = { _ in }
    ) async throws(GRPCStatus) -> M {
        let bytes = try await requestBytes()
        try bytes.withUnsafeReadableBytes { raw throws(GRPCStatus) in try check(raw) }
        return try decode(bytes, as: type)
    }

    nonisolated(nonsending) private func requestBytes() async throws(GRPCStatus) -> ByteBuffer {
        guard let bytes = try await nextMessage() else {
            throw GRPCStatus(.unimplemented, "the method takes one message, none came")
        }
        guard try await nextMessage() == nil else {
            throw GRPCStatus(.unimplemented, "the method takes one message, more came")
        }
        return bytes
    }

    /// The next message without its field `number`, which holds bytes, and these as they came:
    /// large ones are not to be decoded. Nil: the caller has half-closed.
    nonisolated(nonsending) public func next<M: ProtobufMessage>(
        _ type: M.Type, detaching number: UInt32
    ) async throws(GRPCStatus) -> (message: M, bytes: ByteBuffer)? {
        guard let bytes = try await nextMessage() else { return nil }
        return try decode(bytes, detaching: number)
    }

    /// The only message of a unary or server-streaming call, in the same way.
    nonisolated(nonsending) public func request<M: ProtobufMessage>(
        _ type: M.Type, detaching number: UInt32
    ) async throws(GRPCStatus) -> (message: M, bytes: ByteBuffer) {
        try decode(await requestBytes(), detaching: number)
    }

    private func decode<M: ProtobufMessage>(
        _ bytes: ByteBuffer, detaching number: UInt32
    ) throws(GRPCStatus) -> (message: M, bytes: ByteBuffer) {
        let detached: DetachedField
        do throws(ProtobufError) {
            detached = try bytes.withUnsafeReadableBytes { raw throws(ProtobufError) in
                try DetachedField(number, of: raw)
            }
        } catch {
            throw GRPCStatus(.internal, "a message is not a \(M.fullName): \(error)")
        }
        let content = bytes.getSlice(
            at: bytes.readerIndex + detached.content.lowerBound, length: detached.content.count)
        let message = try decode(ByteBuffer(bytes: detached.rest), as: M.self)
        return (message, content ?? ByteBuffer())
    }

    /// Without regard to any connection.
    static func decode<M: ProtobufMessage>(_ bytes: ByteBuffer) throws(GRPCStatus) -> M {
        do throws(ProtobufError) {
            return try M(decoding: bytes, memoryLimit: ProtobufLimits.memoryBytes)
        } catch {
            throw GRPCStatus(.internal, "a message is not a \(M.fullName): \(error)")
        }
    }
}

extension ProtobufMessage {
    init(decoding bytes: ByteBuffer, memoryLimit: Int) throws(ProtobufError) {
        self = try bytes.withUnsafeReadableBytes { raw throws(ProtobufError) in
            try Self(decoding: raw, memoryLimit: memoryLimit)
        }
    }
}
