// An open descriptor that has one owner. Knows nothing of what is behind it.

import CLinux
import Glibc

/// A system call failed.
public struct SystemError: Error, Equatable, CustomStringConvertible {
    public let call: String
    public let code: Int32

    public init(_ call: String, code: Int32) {
        self.call = call
        self.code = code
    }

    /// Takes the code from `errno`.
    public init(_ call: String) {
        self.init(call, code: errno)
    }

    public var description: String { "\(call): \(Self.text(of: code))" }

    /// "No such file or directory" for ENOENT.
    public static func text(of code: Int32) -> String {
        String(cString: strerror(code))
    }
}

/// Closed once, when it goes. Close-on-exec from birth: whoever makes one sees to that.
public struct FileDescriptor: ~Copyable {
    public let raw: Int32

    /// Takes ownership of `raw`, which is open.
    public init(owning raw: Int32) {
        self.raw = raw
    }

    deinit {
        close(raw)
    }

    /// Gives ownership away.
    public consuming func release() -> Int32 {
        let raw = self.raw
        discard self
        return raw
    }

    /// What can be read from a pipe or a terminal at once; 0 where that is not known.
    public var readableBytes: Int {
        var count: Int32 = 0
        return ioctl(raw, UInt(FIONREAD), &count) == 0 ? Int(count) : 0
    }

    /// Reads at most `buffer.count` bytes.
    public func read(into buffer: UnsafeMutableRawBufferPointer) -> ReadResult {
        while true {
            let count = Glibc.read(raw, buffer.baseAddress, buffer.count)
            if count > 0 { return .bytes(count) }
            if count == 0 { return .end }
            switch errno {
            case EINTR: continue
            case EAGAIN: return .later
            default: return .failed(errno)
            }
        }
    }

    /// Writes as many of `bytes` as are taken now.
    public func write(_ bytes: UnsafeRawBufferPointer) -> WriteResult {
        while true {
            let count = Glibc.write(raw, bytes.baseAddress, bytes.count)
            if count >= 0 { return .bytes(count) }
            switch errno {
            case EINTR: continue
            case EAGAIN: return .later
            default: return .failed(errno)
            }
        }
    }
}

public enum ReadResult: Equatable {
    case bytes(Int)
    case end
    /// Nothing there now.
    case later
    /// With the errno.
    case failed(Int32)
}

public enum WriteResult: Equatable {
    case bytes(Int)
    /// No room now.
    case later
    /// With the errno.
    case failed(Int32)
}

/// The two ends of a pipe.
public struct Pipe: ~Copyable {
    public let reader: FileDescriptor
    public let writer: FileDescriptor

    /// Non-blocking at the ends that are said to be.
    public init(nonblockingReader: Bool, nonblockingWriter: Bool) throws(SystemError) {
        var ends: (Int32, Int32) = (-1, -1)
        let status = withUnsafeMutableBytes(of: &ends) { bytes in
            clinux_pipe(
                bytes.assumingMemoryBound(to: Int32.self).baseAddress, nonblockingReader,
                nonblockingWriter)
        }
        guard status == 0 else { throw SystemError("pipe2") }
        reader = FileDescriptor(owning: ends.0)
        writer = FileDescriptor(owning: ends.1)
    }

    /// Takes the pipe apart.
    public consuming func ends() -> (reader: Int32, writer: Int32) {
        (reader.release(), writer.release())
    }
}
