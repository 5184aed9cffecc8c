// Files of /proc and of cgroups: small, read and written whole.

import Glibc
import LinuxIO

enum SmallFile {
    private static let largestBytes = 1 << 20

    /// `nil` where it cannot be read. `path` is relative to `directory` where one is given.
    static func read(_ path: String, in directory: Int32 = AT_FDCWD) -> String? {
        let raw = openat(directory, path, O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else { return nil }
        let file = FileDescriptor(owning: raw)
        return contents(of: file.raw)
    }

    /// Of an open descriptor, from its start.
    static func contents(of descriptor: Int32) -> String? {
        var text: String?
        withUnsafeTemporaryAllocation(byteCount: 8192, alignment: 16) { buffer in
            let count = pread(descriptor, buffer.baseAddress, buffer.count, 0)
            guard count >= 0 else { return }
            if count < buffer.count {
                text = String(decoding: buffer.prefix(count), as: UTF8.self)
            } else {
                text = longContents(of: descriptor)
            }
        }
        return text
    }

    /// Returns whether it was taken.
    @discardableResult
    static func write(_ text: String, to path: String, in directory: Int32 = AT_FDCWD) -> Bool {
        let raw = openat(directory, path, O_WRONLY | O_CLOEXEC)
        guard raw >= 0 else { return false }
        let file = FileDescriptor(owning: raw)
        var text = text
        return text.withUTF8 { bytes in
            file.write(UnsafeRawBufferPointer(bytes)) == .bytes(bytes.count)
        }
    }

    private static func longContents(of descriptor: Int32) -> String? {
        longBytes(of: descriptor).map { String(decoding: $0, as: UTF8.self) }
    }

    /// A file that is no text.
    static func bytes(of path: String) -> [UInt8]? {
        let raw = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard raw >= 0 else { return nil }
        let file = FileDescriptor(owning: raw)
        return longBytes(of: file.raw)
    }

    private static func longBytes(of descriptor: Int32) -> [UInt8]? {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while bytes.count < largestBytes {
            let count = pread(descriptor, &chunk, chunk.count, off_t(bytes.count))
            guard count >= 0 else { return nil }
            if count == 0 { break }
            bytes += chunk.prefix(count)
        }
        return bytes
    }
}
