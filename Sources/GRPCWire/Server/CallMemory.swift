// What a call makes its connection hold, counted as it comes and goes: what its handler has not
// taken, the message that the handler works on, and what is queued for the caller.

import HTTP2
import NIOCore
public import Protobuf

extension ServerCall {
    /// What every call costs, whatever it sends: it counts from its header on, with small messages
    /// and what they are decoded to.
    static let fixedBytes = 8 * 1024
    /// Messages up to that, and what is buffered of them, are part of it.
    private static let uncountedBytes = 4 * 1024

    // MARK: Requests

    /// What has come and was not taken, and what may come because there is room for it.
    func settleBuffered() {
        let coming = window.isReserved ? reader.missingBytes : 0
        var due = isOver ? 0 : max(reader.bufferedBytes + coming, window.grownBytes)
        if due <= Self.uncountedBytes { due = 0 }
        let change = due - bufferedCharge
        bufferedCharge = due
        if change > 0 {
            connection.memory.hold(change)
        } else if change < 0 {
            connection.memory.release(-change)
        }
    }

    /// The handler has been given a message, in place of the one before. Its bytes were counted
    /// as buffered: they are moved, lest others take their place meanwhile.
    func moveToHandler(_ bytes: Int) {
        guard bytes > Self.uncountedBytes else {
            messageCharge = nil
            return
        }
        bufferedCharge -= bytes
        messageCharge = MemoryCharge(bytes, of: connection.memory, on: eventLoop)
    }

    /// The message that was taken last is not needed any more. It counts until then, until the
    /// next one is asked for or the call is over, and as long as its ``messageCharge`` is kept.
    public func releaseMessage() {
        messageCharge = nil
    }

    /// Counts `bytes` that the call makes its server hold besides, until it is over: because of
    /// what it was answered, for example.
    public func hold(_ bytes: Int) {
        guard bytes > Self.uncountedBytes, !isOver else { return }
        connection.memory.hold(bytes)
        otherCharges.append(MemoryCharge(bytes, of: connection.memory, on: eventLoop))
    }

    /// Counts `bytes` as long as what is returned is kept; nil where there is no room for them now.
    public func holdNow(_ bytes: Int) -> MemoryCharge? {
        guard connection.memory.takeNow(bytes, overtakes: true) else { return nil }
        return MemoryCharge(bytes, of: connection.memory, on: eventLoop)
    }

    /// The message, decompressed. There must be room for what it says that it has.
    func inflate(_ message: ByteBuffer) throws(GRPCStatus) -> ByteBuffer {
        // The last four bytes are the size, which may be a lie.
        let claimed = message.getInteger(
            at: message.writerIndex - 4, endianness: .little, as: UInt32.self)
        let likely = min(Int(claimed ?? 0), reader.limitBytes)
        if likely < reader.limitBytes, let inflated = try? inflate(message, atMost: likely) {
            return inflated
        }
        return try inflate(message, atMost: reader.limitBytes)
    }

    private func inflate(
        _ message: ByteBuffer, atMost limit: Int
    ) throws(GRPCStatus) -> ByteBuffer {
        try takeForHandler(limit)
        var kept = 0
        defer { connection.memory.release(limit - kept) }
        let inflated = try Gzip.inflate(message, limitBytes: limit)
        kept = inflated.readableBytes
        messageCharge = MemoryCharge(kept, of: connection.memory, on: eventLoop)
        return inflated
    }

    /// Decodes the message that was taken last. Where it becomes much larger by that, as lists of
    /// many small values do, there must be room for it, and it counts with that.
    func decode<M: ProtobufMessage>(
        _ bytes: ByteBuffer, as type: M.Type
    ) throws(GRPCStatus) -> M {
        let count = bytes.readableBytes
        do throws(ProtobufError) {
            return try M(decoding: bytes, memoryLimit: count + Self.uncountedBytes)
        } catch .tooLarge {
            // Once more, with more.
        } catch {
            throw failure(of: type, error)
        }
        let most = ProtobufLimits.memoryBytes
        for limit in [min(4 * count + 64 * 1024, most), most] {
            try takeForHandler(limit)
            let charge = MemoryCharge(limit, of: connection.memory, on: eventLoop)
            do throws(ProtobufError) {
                let message = try M(decoding: bytes, memoryLimit: limit)
                messageCharge = charge
                return message
            } catch .tooLarge where limit < most {
                continue
            } catch {
                throw failure(of: type, error)
            }
        }
        throw failure(of: type, .tooLarge)
    }

    private func failure<M: ProtobufMessage>(of type: M.Type, _ error: ProtobufError) -> GRPCStatus
    {
        connection.services.configuration.decodingFailure?(M.fullName, error)
            ?? GRPCStatus(.internal, "a message is not a \(M.fullName): \(error)")
    }

    /// Room for what a message becomes, which must not wait: what it waits for may be what it has.
    private func takeForHandler(_ bytes: Int) throws(GRPCStatus) {
        guard connection.memory.takeNow(bytes, overtakes: true) else {
            throw GRPCStatus(
                .resourceExhausted,
                "the memory for requests is used up: send fewer large ones at once")
        }
    }

    // MARK: Responses

    /// Whether a message of that many bytes can be queued: what was reserved for it is used up by
    /// that, or given back.
    func takeQueued(_ bytes: Int) -> Bool {
        let reserved = reservedRoom
        reservedRoom = 0
        if bytes <= reserved {
            connection.memory.release(reserved - bytes)
        } else {
            if reserved > 0 { connection.memory.release(reserved) }
            if queuedCharge == 0, stream.queuedBytes + bytes <= Self.uncountedBytes { return true }
            guard connection.memory.takeNow(bytes) || replaceMessage(by: bytes) else {
                return false
            }
        }
        queuedCharge += bytes
        stream.wantsDrained = true
        return true
    }

    /// The answer of such a call takes its request's place: it must not wait for it.
    private func replaceMessage(by bytes: Int) -> Bool {
        guard takesOneMessage, let charge = messageCharge, charge.byteCount >= bytes else {
            return false
        }
        connection.memory.hold(bytes)
        messageCharge = nil
        return true
    }

    /// Waits for room for a response of that many bytes. Nothing of it should be held meanwhile,
    /// nor of the request.
    nonisolated(nonsending) func waitForMemory(_ bytes: Int) async throws(GRPCStatus) {
        if takesOneMessage { releaseMessage() }
        let isTaken = connection.memory.take(bytes, for: stream) { [unowned self] in
            reservedRoom = bytes
            wakeSender()
        }
        if isTaken {
            reservedRoom = bytes
            return
        }
        do throws(GRPCStatus) {
            while reservedRoom == 0 { try await waitToSend() }
        } catch {
            connection.memory.leave(stream)
            // It may have been granted since the call's end.
            releaseReserved()
            throw error
        }
    }

    /// What was sent since the last time is released.
    func settleQueued() {
        guard queuedCharge > 0 else { return }
        let due = min(queuedCharge, stream.queuedBytes)
        connection.memory.release(queuedCharge - due)
        queuedCharge = due
        if due > 0 { stream.wantsDrained = true }
    }

    /// Sends the message that `make` makes. While there is no room for it, nothing of it is kept:
    /// it is made again when there is.
    /// - Parameter likely: how many bytes it will have, where that is known and much: it is not
    ///   made before there is room.
    nonisolated(nonsending) public func send<M: ProtobufMessage>(
        expecting likely: Int = 0,
        remaking make: nonisolated(nonsending) () async throws(GRPCStatus) -> M
    ) async throws(GRPCStatus) {
        if likely > Self.uncountedBytes {
            try await waitForRoom()
            if connection.memory.takeNow(likely) {
                reservedRoom = likely
            } else {
                try await waitForMemory(likely)
            }
        }
        while let missing = try await trySending(make) { try await waitForMemory(missing) }
    }

    nonisolated(nonsending) private func trySending<M: ProtobufMessage>(
        _ make: nonisolated(nonsending) () async throws(GRPCStatus) -> M
    ) async throws(GRPCStatus) -> Int? {
        try await waitForRoom()
        return try enqueue(await make(), compress: true)
    }

    // MARK: The call's end

    /// The handler has no use for any of it.
    func releaseRequest() {
        settleBuffered()
        messageCharge = nil
        otherCharges.removeAll()
        releaseReserved()
    }

    private func releaseReserved() {
        guard reservedRoom > 0 else { return }
        connection.memory.release(reservedRoom)
        reservedRoom = 0
    }
}
