// The supervisor's end of the link: bytes of a gateway become commands, and these the
// supervisor's own values. No command is carried out.

import CLinux
import Glibc
import LinuxIO
import ProcgateInternal
import Protobuf

@testable import Supervision
@testable import SupervisorLink

private let scratchBytes = 256 << 10
nonisolated(unsafe) private let scratch = UnsafeMutableRawBufferPointer.allocate(
    byteCount: scratchBytes, alignment: 16)

func fuzzLinkServer(_ bytes: UnsafeRawBufferPointer) {
    var input = FuzzInput(bytes)
    var ends: (Int32, Int32) = (-1, -1)
    let made = withUnsafeMutableBytes(of: &ends) {
        clinux_pipe($0.assumingMemoryBound(to: Int32.self).baseAddress, true, true)
    }
    check(made == 0, "pipe2")
    let writer = LinuxIO.FileDescriptor(owning: ends.1)
    let link = LinkConnection(number: 1, LinuxIO.FileDescriptor(owning: ends.0))
    link.isGreeted = input.flag()
    var fed = 0
    var attached = 0
    while !input.isEmpty {
        let chunk = input.flag() ? frame(&input) : input.chunk()
        guard !chunk.isEmpty else { continue }
        let written = chunk.withUnsafeBytes { writer.write($0) }
        guard case .bytes(chunk.count) = written else { return }
        fed += chunk.count
        // The pipe holds less than what one read takes at most.
        for _ in 0..<1 + chunk.count / 1024 {
            let reading = link.receive(through: scratch) { command, attachment in
                attached += attachment.count
                return take(command, attachment, link)
            }
            guard case .open = reading else { return }
        }
        check(attached <= fed, "an attachment is longer than what came")
    }
    reply(link)
}

/// A message with the length that belongs to it, and now and then an attachment.
private func frame(_ input: inout FuzzInput) -> [UInt8] {
    if input.flag() {
        let command = Command.with {
            $0.call = input.number64()
            $0.kind = .writeStdin(
                .with {
                    $0.processId = "p"
                    $0.attachedBytes = UInt32(truncatingIfNeeded: input.number64())
                    $0.eof = input.flag()
                })
        }
        return LinkFrame.encoded(command) + input.chunk()
    }
    let body = input.chunk()
    return (0..<4).map { UInt8(truncatingIfNeeded: body.count >> (8 * $0)) } + body
}

/// As the server does it, up to the supervisor.
private func take(_ command: Command, _ attachment: [UInt8], _ link: LinkConnection) -> Bool {
    guard let kind = command.kind else { return link.isGreeted }
    if case .hello = kind {
        guard !link.isGreeted else { return false }
        link.isGreeted = true
        return true
    }
    switch kind {
    case .start(let start):
        let request = StartRequest(start)
        check(request.requestKey == start.requestKey, "a request key changes on its way")
    case .list(let list):
        check(ListFilter(list).limit > 0, "a list of nothing")
    case .writeStdin(let write):
        check(attachment.count == Int(write.attachedBytes), "another attachment's length")
        _ = StdinWrite(write, attachment)
    case .stop(let stop):
        _ = Duration.milliseconds(clamping: stop.graceMs)
    case .abandon(let abandon):
        _ = Supervision.AbandonReason(abandon.reason)
    default: break
    }
    return true
}

/// What is queued for a gateway is what its own reader reads.
private func reply(_ link: LinkConnection) {
    link.append(.with { $0.kind = .reply(.with { $0.kind = .done(Done()) }) })
    check(link.hasOutput && !link.isOverfull, "a reply was not queued")
}
