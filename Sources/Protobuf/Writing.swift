// From Swift values to what protobuf-c packs. Knows no particular message: the generated code
// calls these for each field. What they return lives as long as the arena and the message do.
package import CProtobufC

extension Arena {
    package func data(_ string: String) -> ProtobufCBinaryData {
        if let data = string.utf8.withContiguousStorageIfAvailable({ copy($0) }) { return data }
        return [UInt8](string.utf8).withUnsafeBufferPointer { copy($0) }
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

    /// A struct of protobuf-c with every field at its default. Each begins with a
    /// ProtobufCMessage, and that with its descriptor.
    package func zeroed(
        _ byteCount: Int, layout: UnsafePointer<ProtobufCMessageDescriptor>
    ) -> UnsafeMutableRawPointer {
        let memory = allocateOrTrap(byteCount)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        memory.storeBytes(of: layout, as: UnsafePointer<ProtobufCMessageDescriptor>.self)
        return memory
    }

    package func list(
        _ strings: [String]
    ) -> (UnsafeMutablePointer<ProtobufCBinaryData>?, Int) {
        guard let list = dataList(strings.count) else { return (nil, 0) }
        for index in strings.indices { list[index] = data(strings[index]) }
        return (list, strings.count)
    }

    package func list(
        _ byteStrings: [[UInt8]]
    ) -> (UnsafeMutablePointer<ProtobufCBinaryData>?, Int) {
        guard let list = dataList(byteStrings.count) else { return (nil, 0) }
        for index in byteStrings.indices { list[index] = data(byteStrings[index]) }
        return (list, byteStrings.count)
    }

    package func bools(_ bools: [Bool]) -> (UnsafeMutablePointer<UInt64>?, Int) {
        guard bools.count > 0 else { return (nil, 0) }
        let list = allocateOrTrap(bools.count * MemoryLayout<UInt64>.stride)
            .bindMemory(to: UInt64.self, capacity: bools.count)
        for index in bools.indices { list[index] = bools[index] ? 1 : 0 }
        return (list, bools.count)
    }

    private func dataList(_ count: Int) -> UnsafeMutablePointer<ProtobufCBinaryData>? {
        guard count > 0 else { return nil }
        return allocateOrTrap(count * MemoryLayout<ProtobufCBinaryData>.stride)
            .bindMemory(to: ProtobufCBinaryData.self, capacity: count)
    }

    private func copy(_ bytes: UnsafeBufferPointer<UInt8>) -> ProtobufCBinaryData {
        guard let start = bytes.baseAddress, bytes.count > 0 else { return ProtobufCBinaryData() }
        let memory = allocateOrTrap(bytes.count)
        memory.copyMemory(from: start, byteCount: bytes.count)
        return ProtobufCBinaryData(
            len: bytes.count, data: memory.assumingMemoryBound(to: UInt8.self))
    }
}
