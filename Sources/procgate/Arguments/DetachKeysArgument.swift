// The keys that leave a session, as they are written on the command line: `ctrl-p,ctrl-q`.

import ArgumentParser

/// Keys separated by commas: `ctrl-` and a letter or one of `@[\]^_`, or one ASCII character.
struct DetachKeysArgument: ExpressibleByArgument, Equatable, Sendable, CustomStringConvertible {
    let description: String
    /// What a terminal sends for the keys; at least one.
    let bytes: [UInt8]

    static let usual = DetachKeysArgument(description: "ctrl-p,ctrl-q", bytes: [0x10, 0x11])

    private init(description: String, bytes: [UInt8]) {
        self.description = description
        self.bytes = bytes
    }

    /// `nil` where a key is missing, or is none that a terminal sends as one byte.
    init?(argument: String) {
        var bytes: [UInt8] = []
        for name in argument.split(separator: ",", omittingEmptySubsequences: false) {
            guard let byte = Self.byte(of: name) else { return nil }
            bytes.append(byte)
        }
        self.init(description: argument, bytes: bytes)
    }

    private static func byte(of name: Substring) -> UInt8? {
        let prefix = "ctrl-"
        guard name.count > prefix.count, name.lowercased().hasPrefix(prefix) else {
            guard name.count == 1, let byte = name.utf8.first, (0x20...0x7E).contains(byte) else {
                return nil
            }
            return byte
        }
        // ^@ to ^_ are the characters from @ to _ without their highest bits.
        guard let byte = name.dropFirst(prefix.count).uppercased().utf8.only,
            (0x40...0x5F).contains(byte)
        else { return nil }
        return byte & 0x1F
    }

    var defaultValueDescription: String { description }
}

extension Collection {
    /// The element of a collection that has just one.
    fileprivate var only: Element? { count == 1 ? first : nil }
}
