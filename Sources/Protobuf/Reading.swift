// From what protobuf-c unpacked to Swift values. Knows no particular message: the generated code
// calls these for each field.
package import CProtobufC

/// A list as protobuf-c has it: an array of pointers, with its length beside it.
package typealias CList<Element> = UnsafeMutablePointer<UnsafeMutablePointer<Element>?>

extension Arena {
    package func string(_ data: ProtobufCBinaryData) throws(ProtobufError) -> String {
        guard data.len > 0 else { return "" }
        let codeUnits = UnsafeBufferPointer(start: data.data, count: data.len)
        guard let string = String(validating: codeUnits, as: UTF8.self) else {
            throw .invalidUTF8
        }
        return string
    }

    package func bytes(_ data: ProtobufCBinaryData) -> [UInt8] {
        guard data.len > 0, let start = data.data else { return [] }
        if data.len >= Arena.largeBytes, let array = array(at: start, count: data.len) {
            return array
        }
        return [UInt8](UnsafeBufferPointer(start: start, count: data.len))
    }

    static var largeBytes: Int { arrayBytes - 7 }

    func array(at start: UnsafePointer<UInt8>, count: Int) -> [UInt8]? {
        state.pointee.array(at: start, count: count)
    }

    /// nil where the field is not set.
    package func message<Message: CMessage>(
        _ struct: UnsafeMutablePointer<Message.CStruct>?
    ) throws(ProtobufError) -> Message? {
        guard let `struct` else { return nil }
        return try Message(reading: `struct`, in: self)
    }

    package func strings(
        _ list: UnsafeMutablePointer<ProtobufCBinaryData>?, _ count: Int
    ) throws(ProtobufError) -> [String] {
        guard count > 0, let list else { return [] }
        var strings: [String] = []
        strings.reserveCapacity(count)
        for index in 0..<count { strings.append(try string(list[index])) }
        return strings
    }

    package func byteStrings(
        _ list: UnsafeMutablePointer<ProtobufCBinaryData>?, _ count: Int
    ) -> [[UInt8]] {
        UnsafeBufferPointer(start: list, count: count).map(bytes)
    }

    package func messages<Message: CMessage>(
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
    package func numbers<CNumber: BitwiseCopyable, Number: BitwiseCopyable>(
        _ list: UnsafeMutablePointer<CNumber>?, _ count: Int
    ) -> [Number] {
        guard count > 0, let list else { return [] }
        let elements = UnsafeRawBufferPointer(
            start: list, count: count * MemoryLayout<Number>.stride)
        return [Number](elements.assumingMemoryBound(to: Number.self))
    }

    package func bools(
        _ list: UnsafeMutablePointer<UInt64>?, _ count: Int
    ) -> [Bool] {
        UnsafeBufferPointer(start: list, count: count).map { $0 != 0 }
    }

    package func enums<Enum: ProtobufEnum>(
        _ list: UnsafeMutablePointer<Int32>?, _ count: Int
    ) -> [Enum] {
        UnsafeBufferPointer(start: list, count: count).map { Enum(rawValue: $0) }
    }

    /// A map from its entries; of several with the same key the last counts.
    package func map<Entry, Key: Hashable, Value>(
        _ list: CList<Entry>?, _ count: Int,
        _ read: (UnsafeMutablePointer<Entry>) throws(ProtobufError) -> (Key, Value)
    ) throws(ProtobufError) -> [Key: Value] {
        guard count > 0, let list else { return [:] }
        var map: [Key: Value] = [:]
        for index in 0..<count {
            guard let entry = list[index] else { throw .malformed }
            let (key, value) = try read(entry)
            map[key] = value
        }
        return map
    }
}
