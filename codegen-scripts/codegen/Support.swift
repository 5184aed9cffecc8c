// The generic part of decoding and encoding. A copy of it is in every generated module, as the
// compiler makes fast code of generic functions within a module alone. Knows no particular
// message.

/// A list as protobuf-c has it: an array of pointers, with its length beside it.
typealias CList<Element> = UnsafeMutablePointer<UnsafeMutablePointer<Element>?>

extension CMessage {
    static func decode(
        _ bytes: UnsafeRawBufferPointer, memoryLimit: Int
    ) throws(ProtobufError) -> Self {
        guard bytes.count > 0 else { return Self() }
        if isUnboundedlyDeep { try checkDepth(of: bytes, as: layout) }
        return try withUnsafeTemporaryAllocation(byteCount: Arena.stackBytes, alignment: 16) {
            block throws(ProtobufError) in
            var state = ArenaState(block: block, limit: memoryLimit)
            defer { state.freeBlocks() }
            return try withUnsafeMutablePointer(to: &state) { state throws(ProtobufError) in
                let arena = Arena(state: state)
                let message = try arena.unpack(bytes, as: layout)
                return try Self(reading: message.assumingMemoryBound(to: CStruct.self), in: arena)
            }
        }
    }

    func encode(_ body: (borrowing MessageEncoder) -> Void) {
        defer { withExtendedLifetime(self) {} }
        withUnsafeTemporaryAllocation(byteCount: Arena.stackBytes, alignment: 16) { block in
            var state = ArenaState(block: block, limit: .max)
            defer { state.freeBlocks() }
            withUnsafeMutablePointer(to: &state) { state in
                let arena = Arena(state: state)
                body(MessageEncoder(arena.message(self), in: arena))
            }
        }
    }
}

// From C.
extension Arena {
    /// nil where the field is not set.
    func message<Message: CMessage>(
        _ fields: UnsafeMutablePointer<Message.CStruct>?
    ) throws(ProtobufError) -> Message? {
        guard let fields else { return nil }
        return try Message(reading: fields, in: self)
    }

    func messages<Message: CMessage>(
        _ list: CList<Message.CStruct>?, _ count: Int
    ) throws(ProtobufError) -> [Message] {
        guard count > 0, let list else { return [] }
        var messages: [Message] = []
        messages.reserveCapacity(count)
        for index in 0..<count {
            guard let element = list[index] else { throw .malformed }
            messages.append(try Message(reading: element, in: self))
        }
        return messages
    }

    /// Numbers of which Swift has the same representation; a floating-point number lies in an
    /// integer of its size.
    func numbers<CNumber: BitwiseCopyable, Number: BitwiseCopyable>(
        _ list: UnsafeMutablePointer<CNumber>?, _ count: Int
    ) -> [Number] {
        guard count > 0, let list else { return [] }
        let elements = UnsafeRawBufferPointer(
            start: list, count: count * MemoryLayout<Number>.stride)
        return [Number](elements.assumingMemoryBound(to: Number.self))
    }

    func enums<Enum: ProtobufEnum>(_ list: UnsafeMutablePointer<Int32>?, _ count: Int) -> [Enum] {
        UnsafeBufferPointer(start: list, count: count).map { Enum(rawValue: $0) }
    }

    /// A map from its entries; of several with the same key the last counts.
    func map<Entry, Key: Hashable, Value>(
        _ list: CList<Entry>?, _ count: Int,
        _ read: (UnsafeMutablePointer<Entry>) throws(ProtobufError) -> (Key, Value)
    ) throws(ProtobufError) -> [Key: Value] {
        guard count > 0, let list else { return [:] }
        var map = [Key: Value](minimumCapacity: min(count, 64))
        for index in 0..<count {
            guard let entry = list[index] else { throw .malformed }
            let (key, value) = try read(entry)
            map[key] = value
        }
        return map
    }
}

// To C. What is returned lives as long as the arena and the message do.
extension Arena {
    func message<Message: CMessage>(
        _ message: borrowing Message
    ) -> UnsafeMutablePointer<Message.CStruct> {
        let pointer = zeroed(MemoryLayout<Message.CStruct>.size, layout: Message.layout)
            .assumingMemoryBound(to: Message.CStruct.self)
        message.write(to: pointer, in: self)
        return pointer
    }

    func optional<Message: CMessage>(
        _ value: Message?
    ) -> UnsafeMutablePointer<Message.CStruct>? {
        guard let value else { return nil }
        return message(value)
    }

    func list<Message: CMessage>(_ messages: [Message]) -> (CList<Message.CStruct>?, Int) {
        let list = list(of: UnsafeMutablePointer<Message.CStruct>?.self, messages.count)
        for index in messages.indices { list?[index] = message(messages[index]) }
        return (list, messages.count)
    }

    /// The array's own elements: they stay in their place while the message holds the array.
    func numbers<Number: BitwiseCopyable, CNumber: BitwiseCopyable>(
        _ numbers: [Number]
    ) -> (UnsafeMutablePointer<CNumber>?, Int) {
        guard numbers.count > 0 else { return (nil, 0) }
        let start = numbers.withUnsafeBufferPointer { UnsafeRawPointer($0.baseAddress) }
        let list = UnsafeMutableRawPointer(mutating: start)?
            .assumingMemoryBound(to: CNumber.self)
        return (list, numbers.count)
    }

    func enums<Enum: ProtobufEnum>(_ enums: [Enum]) -> (UnsafeMutablePointer<Int32>?, Int) {
        let list = list(of: Int32.self, enums.count)
        for index in enums.indices { list?[index] = enums[index].rawValue }
        return (list, enums.count)
    }

    /// A map as its entries, in no particular order.
    func map<Entry, Key: Hashable, Value>(
        _ map: [Key: Value], layout: UnsafePointer<ProtobufCMessageDescriptor>,
        _ write: (UnsafeMutablePointer<Entry>, Key, Value) -> Void
    ) -> (CList<Entry>?, Int) {
        guard map.count > 0 else { return (nil, 0) }
        let list = list(of: UnsafeMutablePointer<Entry>?.self, map.count)
        var index = 0
        for (key, value) in map {
            let entry = zeroed(MemoryLayout<Entry>.size, layout: layout)
                .assumingMemoryBound(to: Entry.self)
            write(entry, key, value)
            list?[index] = entry
            index += 1
        }
        return (list, map.count)
    }

    private func list<Element>(
        of type: Element.Type, _ count: Int
    ) -> UnsafeMutablePointer<Element>? {
        guard count > 0 else { return nil }
        return allocateOrTrap(count * MemoryLayout<Element>.stride)
            .bindMemory(to: Element.self, capacity: count)
    }
}
