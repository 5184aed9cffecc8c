// Attach: one interactive session. What comes in is acted on while what the process
// does goes out.

import GRPCWire
import NIOCore
import ProcgateInternal
import ProcgateV1
import Protobuf
import SupervisorLink

extension Worker {
    func attach(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let message = try await call.next(AttachRequest.self) { bytes throws(GRPCStatus) in
            try Self.checkArguments(of: bytes, at: [2, 1])
        }
        guard let first = message else {
            throw .refusal(.requestInvalid, "the stream ended without a message")
        }
        let input = SessionTasks(SessionInput(eventLoop: call.eventLoop))
        input.atEnd = try fence.begin(call, of: caller) { await self.endInput(input) }
        do throws(GRPCStatus) {
            switch first.message {
            case .start(let request):
                try await attachStarting(request, first.onDisconnect, call, caller, input)
            case .join(let request):
                try await attachJoining(request, first.onDisconnect, call, input)
            default:
                throw .refusal(
                    .requestInvalid,
                    "the first message of the stream must have `start` or `join`")
            }
        } catch {
            input.end()
            throw error
        }
    }

    private func attachStarting(
        _ request: StartProcessRequest, _ policy: DisconnectPolicy, _ call: ServerCall,
        _ caller: Caller, _ input: SessionTasks
    ) async throws(GRPCStatus) {
        var start = try startCommand(request, for: caller)
        start.held = true
        start.follow = true
        start.policy = policy == .keep ? .keep : .kill
        let owned = try await startOwned(start, from: 1, by: call)
        guard let id = owned.reader?.log.process.id else { throw Self.unexpectedReply }
        call.note = id
        begin(input, of: call, to: id)
        try stream(owned, to: call, whenOver: input.end)
    }

    /// A caller that joins holds nothing back, and its going ends nothing unless it
    /// asked for that.
    private func attachJoining(
        _ request: StreamOutputRequest, _ policy: DisconnectPolicy, _ call: ServerCall,
        _ input: SessionTasks
    ) async throws(GRPCStatus) {
        call.note = request.processId
        let following = try await follow(request.processId)
        call.hold(following)
        let (reader, options) = try reader(of: following, for: request)
        begin(input, of: call, to: request.processId)
        stream(reader, options, to: call) { _ in
            input.end()
            reader.close()
            guard policy == .kill, call.cancellation != nil, let link = self.link, !link.isLost
            else { return }
            let stop = Stop.with {
                $0.processId = request.processId
                $0.hasGrace = true
                $0.callerGone = true
            }
            link.send(.stop(stop)) { _ in }
        }
    }

    /// Acts on the caller's messages from now on. An input that is refused ends the call, and
    /// with it what depends on the call, unless the process has ended meanwhile.
    private func begin(_ input: SessionTasks, of call: ServerCall, to processID: String) {
        input.writing = call.runBeside {
            do throws(GRPCStatus) {
                try await self.writeInput(input.stdin, to: processID)
            } catch {
                if !input.isFenced { call.fail(error) }
            }
        }
        input.taking = call.runBeside {
            do throws(GRPCStatus) {
                try await self.takeInput(of: call, for: processID, into: input)
                input.stdin.finish()
            } catch {
                call.fail(error)
            }
        }
    }

    /// The caller has come back, and goes on by other calls: what still comes by this one is
    /// dropped. It goes on otherwise, until its connection is found to be lost.
    private func endInput(_ input: SessionTasks) async {
        let writing = eventLoop.submit { input.fence() }
        await (try? writing.get())??.value
        await barrier()
    }

    /// Takes the caller's messages: what is for stdin waits there for its turn.
    private func takeInput(
        of call: ServerCall, for processID: String, into input: SessionTasks
    ) async throws(GRPCStatus) {
        let stdin = input.stdin
        while let request = try await call.next(AttachRequest.self) {
            if input.isFenced { continue }
            switch request.message {
            case .stdinData(let data):
                await stdin.put(.data(data, charge: call.messageCharge))
            case .eof(let eof):
                if eof { await stdin.put(.end) }
            default:
                await stdin.settle()
                do throws(GRPCStatus) {
                    try await act(on: request, for: processID)
                } catch {
                    guard error.isAboutAnEndedProcess else { throw error }
                }
            }
        }
    }

    private func act(
        on request: AttachRequest, for processID: String
    ) async throws(GRPCStatus) {
        switch request.message {
        case .resize(let size):
            try await resize(processID, to: size)
        case .signal(let name):
            _ = try await send(name, to: processID, .unspecified)
        case .start, .join:
            throw .refusal(
                .requestInvalid,
                "only the first message of the stream may have `start` or `join`")
        case .stdinData, .eof, nil:
            break
        }
    }

    /// Writes what comes to `stdin`, piece by piece, in order.
    private func writeInput(
        _ stdin: SessionInput, to processID: String
    ) async throws(GRPCStatus) {
        var writer = StdinWriter(processID: processID)
        writer.refusesTerminalEnd = true
        var hasEnded = false
        while let piece = await stdin.next() {
            do throws(GRPCStatus) {
                switch piece {
                case .data(let data, let charge):
                    _ = try await write(
                        ByteBuffer(bytes: data), eof: false, by: &writer, keeping: charge)
                case .end where hasEnded:
                    continue
                case .end:
                    hasEnded = true
                    _ = try await write(ByteBuffer(), eof: true, by: &writer, keeping: nil)
                }
            } catch
                where error.isAboutAnEndedProcess
                // Input that the process does not read any more: its end may be on its way.
                || (!hasEnded && error.reason == .stdinClosed)
            {
                continue
            }
        }
    }
}

/// What acts on the caller's messages, beside the output.
///
/// `@unchecked Sendable`, because it is confined to the call's event loop.
private final class SessionTasks: @unchecked Sendable {
    let stdin: SessionInput
    var taking: Task<Void, Never>?
    var writing: Task<Void, Never>?
    var atEnd: (@Sendable () -> Void)?
    /// Nothing that comes reaches the process any more.
    private(set) var isFenced = false

    init(_ stdin: SessionInput) {
        self.stdin = stdin
    }

    func end() {
        taking?.cancel()
        writing?.cancel()
        stdin.abandon()
        atEnd?()
    }

    /// - Returns: What may be in the middle of a write, which is given up.
    func fence() -> Task<Void, Never>? {
        isFenced = true
        stdin.abandon()
        writing?.cancel()
        return writing
    }
}

extension GRPCStatus {
    /// What input meets that crossed the process's end on its way: no failure, since
    /// `exited` follows.
    fileprivate var isAboutAnEndedProcess: Bool {
        reason == .processNotRunning
    }
}
