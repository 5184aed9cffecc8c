// The file of a unix socket that was bound here, told from one that has taken its place since.

package import NIOCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// A socket's file, to be removed when its listener ends.
public struct SocketFile: Sendable {
    private let path: String
    private let device: UInt64
    private let inode: UInt64

    /// Of a socket's path: Linux's `sun_path` without the zero at its end.
    package static let longestPathBytes = 107

    /// What is at `path` now; nil: nothing.
    public init?(at path: String) {
        var facts = stat()
        guard lstat(path, &facts) == 0 else { return nil }
        self.path = path
        device = UInt64(facts.st_dev)
        inode = UInt64(facts.st_ino)
    }

    /// Lets nobody but its owner connect to the socket that is about to be bound, until the file's
    /// mode is changed. Linux makes the file with the mode of the socket; where that cannot be
    /// changed, the umask alone counts.
    package static func restrictToOwner(
        _ pipeline: ChannelPipeline.SynchronousOperations
    ) throws {
        try pipeline.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { handle in
            _ = fchmod(handle, 0o600)
        }
    }

    /// Removes the file, unless another one is there by now. To be called while the socket is
    /// bound: as long as it is no other file can have its number.
    public func remove() {
        guard let now = SocketFile(at: path), now.device == device, now.inode == inode else {
            return
        }
        unlink(path)
    }
}
