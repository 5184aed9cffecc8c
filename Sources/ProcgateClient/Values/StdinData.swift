// What can be written to a process.

/// Bytes to write to a process's stdin, or text, which is written as UTF-8.
public protocol StdinData: Sendable {
    /// The bytes, as the process reads them.
    var stdinBytes: [UInt8] { get }
}

extension String: StdinData {
    public var stdinBytes: [UInt8] { Array(utf8) }
}

extension Substring: StdinData {
    public var stdinBytes: [UInt8] { Array(utf8) }
}

extension Array: StdinData where Element == UInt8 {
    public var stdinBytes: [UInt8] { self }
}

extension ArraySlice: StdinData where Element == UInt8 {
    public var stdinBytes: [UInt8] { Array(self) }
}
