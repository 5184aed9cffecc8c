// A descriptor's bytes as a sequence that is pulled.

import Glibc
import ProcgateClient

/// Reads when asked, what is there, at most `pieceBytes`; ends at end-of-file.
struct DescriptorInput: AsyncSequence, Sendable {
    static let pieceBytes = 256 << 10
    static let standard = DescriptorInput(descriptor: STDIN_FILENO)

    let descriptor: Int32

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(descriptor: descriptor) }

    struct AsyncIterator: AsyncIteratorProtocol {
        let descriptor: Int32

        mutating func next() async throws -> [UInt8]? {
            let descriptor = descriptor
            let outcome = await Blocking.run { () -> Result<[UInt8], procgate.Failure> in
                var count = 0
                var code: Int32 = 0
                let bytes = [UInt8](unsafeUninitializedCapacity: DescriptorInput.pieceBytes) {
                    buffer, filled in
                    repeat {
                        count = read(descriptor, buffer.baseAddress, buffer.count)
                        code = errno
                        if count < 0 && code == EAGAIN {
                            // Somebody who shares the descriptor made it non-blocking.
                            var waiting = pollfd(
                                fd: descriptor, events: Int16(POLLIN), revents: 0)
                            poll(&waiting, 1, -1)
                        }
                    } while count < 0 && (code == EINTR || code == EAGAIN)
                    filled = Swift.max(0, count)
                }
                guard count >= 0 else {
                    return .failure(
                        procgate.Failure("cannot read: \(String(cString: strerror(code)))"))
                }
                return .success(bytes)
            }
            let bytes = try outcome.get()
            return bytes.isEmpty ? nil : bytes
        }
    }
}
