// Attach: one interactive session. What comes in is acted on while what the process
// does goes out.

import GRPCWire
import ProcgateInternal
import ProcgateV1
import Protobuf
import SupervisorLink

extension Worker {
    func attach(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        guard let first = try await call.next(AttachRequest.self) else {
            throw GRPCStatus(.invalidArgument, "the stream has no message")
        }
        switch first.message {
        case .start(let request):
            try await attachStarting(request, first.onDisconnect, call, caller)
        case .join(let request):
            try await attachJoining(request, first.onDisconnect, call)
        default:
            throw GRPCStatus(
                .invalidArgument, "the first message starts or joins a process")
        }
    }

    private func attachStarting(
        _ request: StartProcessRequest, _ policy: DisconnectPolicy, _ call: ServerCall,
        _ caller: Caller
    ) async throws(GRPCStatus) {
        var start = try startCommand(request, for: caller)
        start.held = true
        start.follow = true
        start.policy = policy == .keep ? .keep : .kill
        let owned = try await startOwned(start, from: 1, by: call)
        guard let id = owned.reader?.log.process.id else { throw Self.unexpectedReply }
        call.note = id
        try await withInput(of: call, to: id, onRefusal: { owned.callerStays() }) {
            () throws(GRPCStatus) in
            try await self.stream(owned, to: call)
        }
    }

    /// A caller that joins holds nothing back, and its going ends nothing unless it
    /// asked for that.
    private func attachJoining(
        _ request: StreamOutputRequest, _ policy: DisconnectPolicy, _ call: ServerCall
    ) async throws(GRPCStatus) {
        call.note = request.processId
        let (reader, options) = try await reader(for: request)
        defer { reader.close() }
        do throws(GRPCStatus) {
            try await withInput(of: call, to: request.processId) { () throws(GRPCStatus) in
                try await self.stream(reader, options, to: call)
            }
        } catch {
            if policy == .kill, call.cancellation != nil, let link, !link.isLost {
                let stop = Stop.with {
                    $0.processId = request.processId
                    $0.hasGrace = true
                    $0.callerGone = true
                }
                link.send(.stop(stop)) { _ in }
            }
            throw error
        }
    }

    /// Acts on the caller's messages while `output` runs. An input that is refused ends
    /// the call, unless the process has ended meanwhile; its caller has not gone.
    private func withInput(
        of call: ServerCall, to processID: String,
        onRefusal: @escaping @Sendable () -> Void = {},
        output: @escaping () async throws(GRPCStatus) -> Void
    ) async throws(GRPCStatus) {
        let stdin = SessionInput(eventLoop: call.eventLoop)
        let refuse: @Sendable (GRPCStatus) -> Void = { status in
            onRefusal()
            call.fail(status)
        }
        let writing = call.runBeside {
            do throws(GRPCStatus) {
                try await self.writeInput(stdin, to: processID)
            } catch {
                refuse(error)
            }
        }
        let input = call.runBeside {
            do throws(GRPCStatus) {
                try await self.takeInput(of: call, for: processID, into: stdin)
                stdin.finish()
            } catch {
                refuse(error)
            }
        }
        defer {
            input.cancel()
            writing.cancel()
            stdin.abandon()
        }
        try await output()
    }

    /// Takes the caller's messages: what is for stdin waits there for its turn.
    private func takeInput(
        of call: ServerCall, for processID: String, into stdin: SessionInput
    ) async throws(GRPCStatus) {
        while let request = try await call.next(AttachRequest.self) {
            switch request.message {
            case .stdinData(let data):
                await stdin.put(.data(data))
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
            throw GRPCStatus(
                .invalidArgument, "only the first message starts or joins")
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
                case .data(let data):
                    _ = try await write(data, eof: false, by: &writer)
                case .end where hasEnded:
                    continue
                case .end:
                    hasEnded = true
                    _ = try await write([], eof: true, by: &writer)
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

extension GRPCStatus {
    /// What input meets that crossed the process's end on its way: no failure, since
    /// `exited` follows.
    fileprivate var isAboutAnEndedProcess: Bool {
        reason == .processNotRunning
    }
}
