// A descriptor's bytes as a sequence that is pulled.

import Glibc
import ProcgateClient

/// Reads when asked, what is there, at most `pieceBytes`; ends at end-of-file.
struct DescriptorInput: AsyncSequence, Sendable {
    static let pieceBytes = 256 << 10
    static let standard = DescriptorInput(descriptor: STDIN_FILENO)

    let descriptor: Int32

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(descriptor: descriptor) }

    /// What one read came to.
    enum Reading: Sendable {
        case bytes([UInt8])
        case end
        /// Nothing came in the time that was given.
        case nothing
        case failed(code: Int32)
    }

    struct AsyncIterator: AsyncIteratorProtocol {
        let descriptor: Int32

        mutating func next() async throws -> [UInt8]? {
            let descriptor = descriptor
            switch await Blocking.run({ DescriptorInput.read(descriptor, within: nil) }) {
            case .bytes(let bytes): return bytes
            case .end, .nothing: return nil
            case .failed(let code):
                throw procgate.Failure("cannot read: \(String(cString: strerror(code)))")
            }
        }

        /// - Parameter milliseconds: The longest wait; `nil` is none.
        func read(within milliseconds: Int32?) async -> Reading {
            let descriptor = descriptor
            return await Blocking.run { DescriptorInput.read(descriptor, within: milliseconds) }
        }
    }

    private static func read(_ descriptor: Int32, within milliseconds: Int32?) -> Reading {
        if let milliseconds {
            var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            if poll(&waiting, 1, milliseconds) == 0 { return .nothing }
        }
        var count = 0
        var code: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: pieceBytes) { buffer, filled in
            repeat {
                count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
                code = errno
                if count < 0 && code == EAGAIN {
                    // Somebody who shares the descriptor made it non-blocking.
                    var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                    poll(&waiting, 1, -1)
                }
            } while count < 0 && (code == EINTR || code == EAGAIN)
            filled = Swift.max(0, count)
        }
        guard count >= 0 else { return .failed(code: code) }
        return bytes.isEmpty ? .end : .bytes(bytes)
    }
}
