// gRPC's message framing: chunks of any size in, messages out, compared with the plain reading of
// the whole input.

import NIOCore

@testable import GRPCWire

private let limitBytes = 4096

func fuzzMessageReader(_ bytes: UnsafeRawBufferPointer) {
    var input = FuzzInput(bytes)
    var reader = MessageReader(limitBytes: limitBytes)
    var fed: [UInt8] = []
    var taken: [(flag: Bool, bytes: [UInt8])] = []
    var credited = 0
    while !input.isEmpty {
        switch input.choice(8) {
        case 0...3:
            let chunk = input.chunk()
            fed += chunk
            append(chunk, to: &reader, spare: input.choice(4) * 2048)
        case 4:
            do throws(GRPCStatus) {
                while case .message(let message) = try reader.next() {
                    taken.append((message.isCompressed, Array(message.bytes.readableBytesView)))
                }
            } catch {
                return expect(taken, from: fed, endsIn: error)
            }
            expect(taken, from: fed, endsIn: nil)
        case 5: reader.compact()
        case 6: reader.compactAll()
        default: credited += reader.credit(isWaiting: input.flag())
        }
        check(reader.totalBytes == fed.count, "bytes were lost")
        check(credited <= fed.count, "more was given back than came")
        check(reader.pendingBytes <= limitBytes, "a message beyond the limit is put together")
    }
    reader.discard()
    check(reader.isEmpty, "something is left after everything was discarded")
    credited += reader.credit(isWaiting: false)
    check(credited == fed.count, "\(fed.count) bytes came, \(credited) were given back")
}

/// As a slice of a larger read buffer, with `spare` bytes of other streams around it.
private func append(_ chunk: [UInt8], to reader: inout MessageReader, spare: Int) {
    var buffer = ByteBufferAllocator().buffer(capacity: chunk.count + spare)
    buffer.writeBytes(chunk)
    reader.append(buffer)
}

/// Compares what was taken with what `fed` holds.
private func expect(
    _ taken: [(flag: Bool, bytes: [UInt8])], from fed: [UInt8], endsIn failure: GRPCStatus?
) {
    var rest = fed[...]
    var expected: [(flag: Bool, bytes: [UInt8])] = []
    var expectedCode: GRPCCode?
    while rest.count >= 5 {
        let head = Array(rest.prefix(5))
        let length = head[1...].reduce(0) { $0 << 8 | Int($1) }
        if head[0] > 1 {
            expectedCode = .internal
            break
        }
        if length > limitBytes {
            expectedCode = .resourceExhausted
            break
        }
        guard rest.count >= 5 + length else { break }
        expected.append((head[0] == 1, Array(rest.dropFirst(5).prefix(length))))
        rest = rest.dropFirst(5 + length)
    }
    check(failure?.code == expectedCode, "\(String(describing: failure)) for \(fed)")
    check(
        taken.elementsEqual(expected) { $0.flag == $1.flag && $0.bytes == $1.bytes },
        "\(taken) were read from \(fed)")
}
