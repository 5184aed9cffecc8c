// From what protobuf-c unpacked to Swift values. Knows no particular message: the generated code
// calls these for each field.
package import CProtobufC

extension Arena {
    package func string(_ data: ProtobufCBinaryData) throws(ProtobufError) -> String {
        guard data.len > 0 else { return "" }
        let codeUnits = UnsafeBufferPointer(start: data.data, count: data.len)
        // `validating` costs five times as much, for the generic types that it looks up.
        if isASCII(codeUnits) { return String(decoding: codeUnits, as: UTF8.self) }
        guard let string = String(validating: codeUnits, as: UTF8.self) else {
            throw .invalidUTF8
        }
        return string
    }

    private func isASCII(_ codeUnits: UnsafeBufferPointer<UInt8>) -> Bool {
        let bytes = UnsafeRawBufferPointer(codeUnits)
        let wholeWords = bytes.count & ~7
        var bits: UInt64 = 0
        for offset in stride(from: 0, to: wholeWords, by: 8) {
            bits |= bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        }
        for index in wholeWords..<bytes.count { bits |= UInt64(bytes[index]) }
        return bits & 0x8080_8080_8080_8080 == 0
    }

    package func bytes(_ data: ProtobufCBinaryData) -> [UInt8] {
        guard data.len > 0, let start = data.data else { return [] }
        if let array = state.pointee.array(at: start, count: data.len) { return array }
        return [UInt8](UnsafeBufferPointer(start: start, count: data.len))
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

    package func bools(_ list: UnsafeMutablePointer<UInt64>?, _ count: Int) -> [Bool] {
        UnsafeBufferPointer(start: list, count: count).map { $0 != 0 }
    }
}
