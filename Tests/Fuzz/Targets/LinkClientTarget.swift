// The gateway's end of the link: what a supervisor says, in order or not, with the logs in an
// arena that may hold anything, read by the source that answers a call.

import Glibc
import NIOCore
import NIOEmbedded
import ProcgateInternal
import ProcgateV1
import Protobuf

@testable import OutputLog
@testable import ProcgateServer
@testable import SupervisorLink

func fuzzLinkClient(_ bytes: UnsafeRawBufferPointer) {
    var input = FuzzInput(bytes)
    guard let gateway = try? LinkedGateway() else { return }
    while !input.isEmpty { gateway.act(&input) }
    gateway.end()
}

/// The supervisor's memory, which the fuzzer writes, and the gateway's view of it.
private struct FuzzArena {
    private let arena: OutputLog.Arena
    let mapping: ArenaMapping
    var base: UnsafeMutableRawPointer { arena.base }

    init() throws {
        arena = try OutputLog.Arena(capacityBytes: 512 << 10, pooledSegments: 1)
        mapping = try ArenaMapping(
            descriptor: arena.readerDescriptor, byteCount: arena.capacityBytes)
    }
}

nonisolated(unsafe) private let arena: FuzzArena = {
    guard let arena = try? FuzzArena() else { fatalError("no arena") }
    return arena
}()

/// Links, what is followed over them, and the calls that read it.
private final class LinkedGateway {
    private let loop = EmbeddedEventLoop()
    private var channel: EmbeddedChannel
    private var link: SupervisorLink
    /// The number of the command that was sent last.
    private var call: UInt64 = 0
    private var followed: [Following] = []
    private var readers: [(reader: LogReader, source: OutputSource)] = []
    private var losses = 0
    private var completions = 0
    private var commands = 0

    init() throws {
        memset(arena.base, 0, 80 << 10)
        channel = EmbeddedChannel(loop: loop)
        link = try Self.attach(to: channel, instance: 0)
    }

    private static func attach(
        to channel: EmbeddedChannel, instance: Int
    ) throws -> SupervisorLink {
        channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1), promise: nil)
        let observer = SupervisorLink.Observer(
            changed: { _ in }, outputForgotten: { _ in }, forgotten: { _, _ in },
            admissionChanged: {}, responding: { _ in }, lost: { _ in })
        let facts = SupervisorFacts.with { $0.instanceId = "\(instance)" }
        return try SupervisorLink.attach(
            to: channel, facts: facts, arena: arena.mapping, observer: observer)
    }

    func act(_ input: inout FuzzInput) {
        switch input.choice(16) {
        case 0: receive(Self.framed(input.chunk()))
        case 1: receive(input.chunk())
        case 2, 3: follow()
        case 4: reply(started(&input), input.choice(3))
        case 5: reply(otherReply(&input), input.choice(3))
        case 6, 7: receive(.appended(appended(&input)))
        case 8:
            let retired = Retired.with {
                $0.serial = UInt64(input.choice(4))
                $0.ordinal = input.number64()
            }
            receive(.retired(retired))
        case 9: receive(news(&input))
        case 10: open(&input)
        case 11, 12: pull(&input)
        case 13: writeArena(&input)
        case 14: lose(&input)
        default: link.abandonWaiting(call)
        }
    }

    // MARK: The supervisor's words

    private static func framed(_ body: [UInt8]) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: body.count >> (8 * $0)) } + body
    }

    private func receive(_ kind: Event.Kind) {
        receive(LinkFrame.encoded(Event.with { $0.kind = kind }))
    }

    private func receive(_ bytes: [UInt8]) {
        guard channel.isActive, !bytes.isEmpty else { return }
        _ = try? channel.writeInbound(ByteBuffer(bytes: bytes))
        loop.run()
        readCommands()
    }

    /// What goes out can be read by the supervisor.
    private func readCommands() {
        while let piece = try? channel.readOutbound(as: ByteBuffer.self) {
            var piece = piece
            while let length = piece.readInteger(endianness: .little, as: UInt32.self) {
                guard let body = piece.readBytes(length: Int(length)),
                    let command = try? Command(decoding: body)
                else { fatalError("a command that cannot be read") }
                check(command.kind != nil, "an empty command")
            }
        }
    }

    private func reply(_ kind: Reply.Kind, _ age: Int) {
        let reply = Reply.with {
            $0.call = call >= UInt64(age) ? call - UInt64(age) : 0
            $0.kind = kind
        }
        receive(.reply(reply))
    }

    private func process(_ input: inout FuzzInput) -> ProcgateV1.Process {
        ProcgateV1.Process.with {
            $0.id = "p"
            $0.status = .init(rawValue: Int32(input.choice(8)))
            $0.startedAt = Int64(input.byte())
        }
    }

    private func started(_ input: inout FuzzInput) -> Reply.Kind {
        let started = Started.with {
            $0.serial = UInt64(input.choice(4))
            $0.process = process(&input)
            $0.ended = input.flag()
            guard input.choice(8) > 0 else { return }
            $0.log = LogState.with { log in
                for _ in 0..<input.choice(4) {
                    let segment = Segment.with {
                        $0.ordinal = input.number64()
                        $0.index = UInt32(truncatingIfNeeded: input.number64())
                        $0.firstSeq = input.number64()
                        $0.end = UInt32(input.number16()) << UInt32(input.choice(4))
                    }
                    log.segments.append(segment)
                }
                log.firstSeq = input.number64()
                log.lastSeq = input.number64()
            }
        }
        return .started(started)
    }

    private func otherReply(_ input: inout FuzzInput) -> Reply.Kind {
        switch input.choice(4) {
        case 0:
            return .failure(.with { $0.reason = String(decoding: input.chunk(), as: UTF8.self) })
        case 1: return .failure(.with { $0.reason = "PROCESS_NOT_FOUND" })
        case 2: return .process(.with { $0.process = process(&input) })
        default: return .done(Done())
        }
    }

    private func appended(_ input: inout FuzzInput) -> Appended {
        Appended.with {
            $0.serial = UInt64(input.choice(4))
            $0.ordinal = input.number64()
            $0.index = UInt32(truncatingIfNeeded: input.number64())
            $0.firstSeq = input.number64()
            $0.end = UInt32(input.number16())
            $0.lastSeq = input.number64()
        }
    }

    private func news(_ input: inout FuzzInput) -> Event.Kind {
        let serial = UInt64(input.choice(4))
        switch input.choice(4) {
        case 0:
            return .running(
                .with {
                    $0.serial = serial; $0.process = process(&input)
                })
        case 1:
            return .ended(
                .with {
                    $0.serial = serial; $0.process = process(&input)
                })
        case 2: return .changed(.with { $0.process = process(&input) })
        default:
            return .forgotten(
                .with {
                    $0.serial = serial; $0.outputOnly = input.flag()
                })
        }
    }

    /// Records as the supervisor writes them, or anything.
    private func writeArena(_ input: inout FuzzInput) {
        var offset = input.choice(64) * 1024
        guard input.choice(4) > 0 else {
            let bytes = input.take(512)
            bytes.withUnsafeBytes {
                UnsafeMutableRawBufferPointer(start: arena.base + offset, count: $0.count)
                    .copyMemory(from: $0)
            }
            return
        }
        for _ in 0..<1 + input.choice(8) {
            let header = RecordHeader(
                seq: input.number64(), stream: input.flag() ? .stdout : .stderr, timestamp: 1,
                dataCount: Int(input.byte()))
            RecordLayout.write(header, at: arena.base + offset)
            offset += header.recordSize
        }
    }

    // MARK: The gateway's calls

    private func follow() {
        commands += 1
        let follow = Command.Kind.follow(.with { $0.processId = "p" })
        call = max(
            call,
            link.follow(follow) { [self] result in
                completions += 1
                if case .success(let following) = result { followed.append(following) }
            })
        loop.run()
        readCommands()
    }

    private func open(_ input: inout FuzzInput) {
        guard let following = followed.popLast() else { return }
        let owners: [UInt64?] = [0, nil, call]
        let reader = LogReader(
            following.log, from: input.number64(), owner: owners[input.choice(3)])
        var options = OutputSource.Options()
        options.announcesStart = input.flag()
        options.lastSeq = input.flag() ? input.number64() : nil
        options.droppedBefore = max(1, input.number64())
        options.allowsGaps = input.flag()
        options.only = [nil, .stdout, .stderr][input.choice(3)]
        options.compresses = input.choice(4) == 0
        let source = OutputSource(
            reader: reader, options: options, wake: {}, encode: { Self.frameMessage($0) })
        readers.append((reader, source))
    }

    private static func frameMessage(_ message: ByteBuffer) -> ByteBuffer {
        var message = message
        var framed = ByteBuffer()
        framed.writeInteger(0 as UInt8)
        framed.writeInteger(UInt32(message.readableBytes))
        framed.writeBuffer(&message)
        return framed
    }

    /// As the session does it: asks what there is, and takes exactly that.
    private func pull(_ input: inout FuzzInput) {
        guard !readers.isEmpty else { return }
        let index = input.choice(readers.count)
        let (reader, source) = readers[index]
        let limit = 1 + input.number16()
        switch source.available(limit: limit) {
        case .bytes(let count), .lastBytes(let count):
            check(count <= limit, "\(count) bytes where \(limit) were asked for")
            if let lent = source.lend(count) {
                check(lent.count == count, "\(lent.count) bytes where \(count) were announced")
                touch(lent)
            } else {
                withUnsafeTemporaryAllocation(byteCount: count, alignment: 1) {
                    source.copy(into: $0)
                }
            }
        case .later: break
        case .end: return close(index)
        }
        if input.choice(16) == 0 {
            _ = source.rest()
            close(index)
        }
        check(reader.restOfRecord >= 0, "a record of a negative length")
    }

    private func touch(_ bytes: UnsafeRawBufferPointer) {
        var sum: UInt8 = 0
        for byte in bytes { sum &+= byte }
        withExtendedLifetime(sum) {}
    }

    private func close(_ index: Int) {
        readers.remove(at: index).reader.close()
        loop.run()
    }

    private func lose(_ input: inout FuzzInput) {
        losses += 1
        guard losses < 4 else { return }
        _ = try? channel.finish(acceptAlreadyClosed: true)
        loop.run()
        check(completions == commands, "a command is still waiting on a link that is lost")
        let next = EmbeddedChannel(loop: loop)
        guard let nextLink = try? Self.attach(to: next, instance: input.choice(4) / 3) else {
            return
        }
        if input.flag() { nextLink.adopt(logsOf: link) } else { link.giveUp() }
        channel = next
        link = nextLink
        call = 0
        loop.run()
        readCommands()
    }

    /// Everything is let go of.
    func end() {
        while !readers.isEmpty { close(readers.count - 1) }
        for following in followed {
            LogReader(following.log, from: 1).close()
        }
        followed = []
        _ = try? channel.finish(acceptAlreadyClosed: true)
        loop.run()
        link.giveUp()
        check(completions == commands, "\(commands) commands, \(completions) were answered")
    }
}
