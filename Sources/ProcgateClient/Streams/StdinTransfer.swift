// Writes a process's stdin, each byte once, over as many calls as it takes. Knows offsets; not
// where the bytes come from.

internal import GRPCWire
internal import ProcgateV1

/// Keeps what the gateway has not confirmed, at most `windowBytes`, to send it again after a lost
/// connection: it carries its offset, so what had been accepted is skipped there.
struct StdinTransfer {
    static let messageBytes = 256 << 10
    static let windowBytes = 4 << 20

    let calls: GatewayCalls
    let processID: String
    /// Confirmed: where the window begins in all of stdin.
    private(set) var offset: UInt64
    private var window: [ArraySlice<UInt8>] = []
    private var windowCount = 0
    private var sender: StdinSender?
    /// How many pieces of the window the call that is open has been given.
    private var sentPieces = 0

    /// - Parameter offset: What the process has accepted so far.
    init(calls: GatewayCalls, processID: String, offset: UInt64) {
        self.calls = calls
        self.processID = processID
        self.offset = offset
    }

    /// Returns when the bytes are on their way: flow control holds it back to what is read.
    mutating func send(_ bytes: [UInt8]) async throws(SandboxError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = rest.prefix(Self.messageBytes)
            rest = rest.dropFirst(piece.count)
            window.append(piece)
            windowCount += piece.count
            try await transmit(confirming: windowCount >= Self.windowBytes)
        }
    }

    /// Writes all of the bytes: in one call, with their end, where one message holds them.
    mutating func write(_ bytes: [UInt8], eof: Bool) async throws(SandboxError) -> UInt64 {
        guard bytes.count <= Self.messageBytes else {
            try await send(bytes)
            return try await finish(eof: eof)
        }
        window = bytes.isEmpty ? [] : [bytes[...]]
        windowCount = bytes.count
        return try await finish(eof: eof)
    }

    /// Returns when the process has taken everything, and its stdin is closed where `eof` is set.
    mutating func finish(eof: Bool) async throws(SandboxError) -> UInt64 {
        if eof || windowCount > 0 { try await transmit(confirming: true, eof: eof) }
        return offset
    }

    private mutating func transmit(
        confirming: Bool, eof: Bool = false
    ) async throws(SandboxError) {
        var retry = calls.newRetryState()
        while true {
            do {
                try await attempt(confirming: confirming, eof: eof)
                return
            } catch {
                sender = nil
                if confirming, try await wasTaken(error) { return confirmed() }
                try await calls.recover(&retry, from: error, processID: processID)
            }
        }
    }

    private mutating func attempt(confirming: Bool, eof: Bool) async throws(GRPCStatus) {
        let accepted: UInt64
        if confirming && sender == nil && window.count <= 1 {
            accepted = try await writeAtOnce(eof: eof)
        } else {
            let open = try await openSender()
            while sentPieces < window.count {
                var request = StreamStdinRequest()
                request.data = Array(window[sentPieces])
                try await open.send(request)
                sentPieces += 1
            }
            guard confirming else { return joinSent() }
            if eof {
                var last = StreamStdinRequest()
                last.eof = true
                try await open.send(last)
            }
            accepted = try await open.finish().stdinBytes
        }
        guard accepted >= windowEnd else {
            throw .transport(.unavailable, "the gateway confirmed less than was written")
        }
        sender = nil
        confirmed()
    }

    /// What is small enough needs no stream, and its end comes with it.
    private func writeAtOnce(eof: Bool) async throws(GRPCStatus) -> UInt64 {
        var request = WriteStdinRequest()
        request.processId = processID
        request.position = .offset(offset)
        request.data = window.first.map { Array($0) } ?? []
        request.eof = eof
        return try await calls.attempt(ProcessService.writeStdin, request).stdinBytes
    }

    private mutating func openSender() async throws(GRPCStatus) -> StdinSender {
        if let sender { return sender }
        let open = calls.streamStdin()
        sender = open
        sentPieces = 0
        var first = StreamStdinRequest()
        first.processId = processID
        first.position = .offset(offset)
        try await open.send(first)
        return open
    }

    /// Where the window ends in all of stdin. It wraps: the gateway says where it begins.
    private var windowEnd: UInt64 { offset &+ UInt64(windowCount) }

    /// Puts small pieces together once they are sent, so that two neighbours always hold more
    /// than one message: the window's pieces are few, however small they come.
    private mutating func joinSent() {
        guard window.count > 1, sentPieces == window.count else { return }
        let last = window[window.count - 1]
        guard window[window.count - 2].count + last.count <= Self.messageBytes else { return }
        window.removeLast()
        window[window.count - 1].append(contentsOf: last)
        sentPieces -= 1
    }

    private mutating func confirmed() {
        offset = windowEnd
        window.removeAll(keepingCapacity: true)
        windowCount = 0
        sentPieces = 0
    }

    /// A process that took every byte and then ended, or whose stdin is closed, before it was
    /// told of the end, or before a repeat: there is nothing left to do.
    private func wasTaken(_ status: GRPCStatus) async throws(SandboxError) -> Bool {
        let failure = calls.error(status, processID: processID)
        guard [.stdinClosed, .processNotRunning].contains(failure.reason) else { return false }
        return try await calls.process(processID).stdinBytes >= windowEnd
    }
}
