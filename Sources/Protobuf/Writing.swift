// From Swift values to what protobuf-c packs. Knows no particular message: the generated code
// calls these for each field. What it returns lives as long as the arena and the message do.
package import CProtobufC

extension Arena {
    package func data(_ string: String) -> ProtobufCBinaryData {
        if let data = string.utf8.withContiguousStorageIfAvailable({ copy($0) }) { return data }
        return [UInt8](string.utf8).withUnsafeBufferPointer { copy($0) }
    }

    func copy(_ bytes: UnsafeBufferPointer<UInt8>) -> ProtobufCBinaryData {
        guard bytes.count > 0 else { return ProtobufCBinaryData() }
        let memory = allocateOrTrap(bytes.count)
        memory.copyMemory(from: UnsafeRawPointer(bytes.baseAddress!), byteCount: bytes.count)
        return ProtobufCBinaryData(
            len: bytes.count, data: memory.assumingMemoryBound(to: UInt8.self))
    }

    /// The array's own elements: they stay in their place while the message holds the array, and
    /// so for the whole encoding.
    package func data(_ bytes: [UInt8]) -> ProtobufCBinaryData {
        guard bytes.count > 0 else { return ProtobufCBinaryData() }
        return bytes.withUnsafeBufferPointer {
            ProtobufCBinaryData(
                len: $0.count, data: UnsafeMutablePointer(mutating: $0.baseAddress))
        }
    }

    package func message<Message: CMessage>(
        _ message: Message
    ) -> UnsafeMutablePointer<Message.CStruct> {
        let pointer = zeroed(Message.CStruct.self, layout: Message.layout)
        message.write(to: pointer, in: self)
        return pointer
    }

    package func optional<Message: CMessage>(
        _ value: Message?
    ) -> UnsafeMutablePointer<Message.CStruct>? {
        guard let value else { return nil }
        return message(value)
    }

    /// A struct of protobuf-c with every field at its default. Each begins with a
    /// ProtobufCMessage, and that with its descriptor.
    func zeroed<Struct>(
        _ type: Struct.Type, layout: UnsafePointer<ProtobufCMessageDescriptor>
    ) -> UnsafeMutablePointer<Struct> {
        let size = MemoryLayout<Struct>.size
        let memory = allocateOrTrap(size)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: size)
        memory.storeBytes(of: layout, as: UnsafePointer<ProtobufCMessageDescriptor>.self)
        return memory.assumingMemoryBound(to: Struct.self)
    }

    func list<Element>(
        of type: Element.Type, _ count: Int
    ) -> UnsafeMutablePointer<Element>? {
        guard count > 0 else { return nil }
        return allocateOrTrap(count * MemoryLayout<Element>.stride)
            .bindMemory(to: Element.self, capacity: count)
    }

    package func list(
        _ strings: [String]
    ) -> (UnsafeMutablePointer<ProtobufCBinaryData>?, Int) {
        let list = list(of: ProtobufCBinaryData.self, strings.count)
        for (index, string) in strings.enumerated() { list?[index] = data(string) }
        return (list, strings.count)
    }

    package func list(
        _ byteStrings: [[UInt8]]
    ) -> (UnsafeMutablePointer<ProtobufCBinaryData>?, Int) {
        let list = list(of: ProtobufCBinaryData.self, byteStrings.count)
        for (index, bytes) in byteStrings.enumerated() { list?[index] = data(bytes) }
        return (list, byteStrings.count)
    }

    package func list<Message: CMessage>(
        _ messages: [Message]
    ) -> (CList<Message.CStruct>?, Int) {
        let list = list(of: UnsafeMutablePointer<Message.CStruct>?.self, messages.count)
        for (index, element) in messages.enumerated() { list?[index] = message(element) }
        return (list, messages.count)
    }

    /// The array's own elements, as for `data`.
    package func numbers<Number: BitwiseCopyable, CNumber: BitwiseCopyable>(
        _ numbers: [Number]
    ) -> (UnsafeMutablePointer<CNumber>?, Int) {
        guard numbers.count > 0 else { return (nil, 0) }
        let start = numbers.withUnsafeBytes { $0.baseAddress }
        let list = UnsafeMutableRawPointer(mutating: start)?
            .assumingMemoryBound(to: CNumber.self)
        return (list, numbers.count)
    }

    package func bools(_ bools: [Bool]) -> (UnsafeMutablePointer<UInt64>?, Int) {
        let list = list(of: UInt64.self, bools.count)
        for (index, bool) in bools.enumerated() { list?[index] = bool ? 1 : 0 }
        return (list, bools.count)
    }

    package func enums<Enum: ProtobufEnum>(
        _ enums: [Enum]
    ) -> (UnsafeMutablePointer<Int32>?, Int) {
        let list = list(of: Int32.self, enums.count)
        for (index, value) in enums.enumerated() { list?[index] = value.rawValue }
        return (list, enums.count)
    }

    /// A map as its entries, in no particular order.
    package func map<Entry, Key: Hashable, Value>(
        _ map: [Key: Value], layout: UnsafePointer<ProtobufCMessageDescriptor>,
        _ write: (UnsafeMutablePointer<Entry>, Key, Value) -> Void
    ) -> (CList<Entry>?, Int) {
        let list = list(of: UnsafeMutablePointer<Entry>?.self, map.count)
        for (index, (key, value)) in map.enumerated() {
            let entry = zeroed(Entry.self, layout: layout)
            write(entry, key, value)
            list?[index] = entry
        }
        return (list, map.count)
    }
}
