// What accompanies a call beside its messages: names and values, in order.

/// An ordered multimap. Keys are lower case; those ending in `-bin` hold bytes, others text.
public struct Metadata: Sendable, Equatable {
    public enum Value: Sendable, Equatable {
        case text(String)
        case bytes([UInt8])
    }

    public struct Entry: Sendable, Equatable {
        public let key: String
        public let value: Value
    }

    public private(set) var entries: [Entry] = []

    public init() {}

    public init(_ pairs: KeyValuePairs<String, String>) {
        for (key, value) in pairs { append(key, value) }
    }

    public var isEmpty: Bool { entries.isEmpty }

    /// Appends text. What is not printable ASCII is dropped from the value.
    /// - Precondition: `key` is made of `0-9 a-z A-Z _ - .` and does not end in `-bin`.
    public mutating func append(_ key: String, _ value: String) {
        let key = Self.checked(key)
        precondition(!key.hasSuffix("-bin"), "text for a -bin key")
        if value.utf8.allSatisfy({ $0 >= 0x20 && $0 <= 0x7e }) {
            entries.append(Entry(key: key, value: .text(value)))
        } else {
            let printable = value.utf8.filter { $0 >= 0x20 && $0 <= 0x7e }
            entries.append(
                Entry(key: key, value: .text(String(decoding: printable, as: UTF8.self))))
        }
    }

    /// Appends bytes.
    /// - Precondition: `key` ends in `-bin`.
    public mutating func append(_ key: String, bytes: [UInt8]) {
        let key = Self.checked(key)
        precondition(key.hasSuffix("-bin"), "bytes for a key that does not end in -bin")
        entries.append(Entry(key: key, value: .bytes(bytes)))
    }

    public mutating func append(contentsOf other: Metadata) {
        entries.append(contentsOf: other.entries)
    }

    public mutating func removeAll(_ key: String) {
        entries.removeAll { $0.key == key }
    }

    /// The first text of that (lower case) key.
    public func first(_ key: String) -> String? {
        for entry in entries where entry.key == key {
            if case .text(let text) = entry.value { return text }
        }
        return nil
    }

    /// The first bytes of that (lower case) key.
    public func firstBytes(_ key: String) -> [UInt8]? {
        for entry in entries where entry.key == key {
            if case .bytes(let bytes) = entry.value { return bytes }
        }
        return nil
    }

    /// All texts of that (lower case) key, in order.
    public func all(_ key: String) -> [String] {
        entries.compactMap { entry in
            guard entry.key == key, case .text(let text) = entry.value else { return nil }
            return text
        }
    }

    /// All bytes of that (lower case) key, in order.
    public func allBytes(_ key: String) -> [[UInt8]] {
        entries.compactMap { entry in
            guard entry.key == key, case .bytes(let bytes) = entry.value else { return nil }
            return bytes
        }
    }

    private static func checked(_ key: String) -> String {
        precondition(
            !key.isEmpty
                && key.utf8.allSatisfy { byte in
                    switch byte {
                    case UInt8(ascii: "a")...UInt8(ascii: "z"),
                        UInt8(ascii: "A")...UInt8(ascii: "Z"),
                        UInt8(ascii: "0")...UInt8(ascii: "9"),
                        UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."):
                        true
                    default: false
                    }
                }, "a metadata key of other characters than 0-9 a-z _ - .")
        return key.utf8.contains { $0 >= 65 && $0 <= 90 } ? key.lowercased() : key
    }

    /// Appends a field as received. Values of `-bin` keys are base64, several joined by commas.
    mutating func appendReceived(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
        let key = String(decoding: name, as: UTF8.self)
        guard key.hasSuffix("-bin") else {
            entries.append(Entry(key: key, value: .text(String(decoding: value, as: UTF8.self))))
            return
        }
        for part in value.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) {
            // What is not base64 is dropped, as there is nobody to tell.
            if let bytes = Base64.decode(part) {
                entries.append(Entry(key: key, value: .bytes(bytes)))
            }
        }
    }

    /// The value as it stands in a header field.
    static func encoded(_ value: Value) -> String {
        switch value {
        case .text(let text): text
        case .bytes(let bytes): Base64.encode(bytes)
        }
    }
}
