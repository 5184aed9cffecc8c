// A session with a process in this program's terminal, or over its pipes: `exec -t` and `attach`.

import ArgumentParser
import Glibc
import ProcgateClient
import Synchronization

struct TerminalSession {
    private let session: AttachSession
    private let isTerminal: Bool
    private let isCommand: Bool
    private let json: Bool
    private let keys: DetachKeysArgument

    /// - Parameters:
    ///   - isTerminal: The process has a terminal, not pipes.
    ///   - isCommand: The process is this program's command, not one that it joined.
    init(
        _ session: AttachSession, isTerminal: Bool, isCommand: Bool, json: Bool,
        keys: DetachKeysArgument
    ) {
        self.session = session
        self.isTerminal = isTerminal
        self.isCommand = isCommand
        self.json = json
        self.keys = keys
    }

    /// - Parameter reading: Give the process this program's input.
    /// - Returns: As the process ended; 0 where the session was left.
    func run(reading: Bool, signals: SignalRelay) async throws -> ExitCode {
        let hasTerminal = reading && Terminal.isInput
        let isRaw = hasTerminal && isTerminal
        begin(signals, isRaw: isRaw)
        if isRaw {
            try Terminal.makeRaw()
        } else if hasTerminal, let last = keys.bytes.last {
            try Terminal.handOver(at: last)
        }
        defer { Terminal.restore() }
        let typing = Typing(session, isTerminal: isTerminal, isRaw: isRaw, signals: signals)
        let typed =
            reading
            ? Task { await typing.run(leavingBy: hasTerminal ? keys.bytes : nil) } : nil
        defer { typed?.cancel() }
        let ended = try await follow(EventPrinter(json: json, isRaw: isRaw), typing)
        Terminal.restore()
        if let ended { return try Outcome.exitCode(ended.process) }
        let isKnown = await typed?.value ?? true
        if hasTerminal { sayGoodbye(isKnown: isKnown) }
        return .success
    }

    private func begin(_ signals: SignalRelay, isRaw: Bool) {
        let session = session
        let kind: SignalPlan.Session =
            switch (isCommand, isRaw) {
            case (true, false): .command
            case (true, true): .commandInTerminal
            case (false, false): .joined
            case (false, true): .joinedInTerminal
            }
        var resize: (@Sendable () async -> Void)?
        if isTerminal {
            // Refused where there is no terminal, and that ends the session.
            resize = { try? await session.resize(Terminal.size) }
        }
        signals.begin(kind, resize: resize)
        signals.joined(session.process)
    }

    /// Prints what happens up to the exit; `nil` where the session was left before it.
    private func follow(
        _ printer: EventPrinter, _ typing: Typing
    ) async throws -> ProcessResult? {
        if !isCommand { try await printer.joined(session.process.summary) }
        for try await event in session.events {
            typing.heard()
            var ended: ProcessResult?
            if case .output(.exit(let result)) = event { ended = result }
            do {
                try await printer.print(event)
            } catch {
                guard isCommand else { throw error }
                throw await UnwrittenOutput.outcome(
                    after: error, ended, of: session.process, rest: session.events)
            }
            if let ended { return ended }
        }
        return nil
    }

    private func sayGoodbye(isKnown: Bool) {
        let id = session.process.id
        standardError("\r\ndetached from \(id)")
        guard !isKnown else { return }
        standardError(
            "procgate: the gateway does not answer: it may stop process \(id) when it goes on; see "
                + "procgate show \(id)")
    }
}

/// What is typed at this program's terminal, or comes from its input, for a session.
private final class Typing: Sendable {
    /// ^C.
    private static let interruptKey: UInt8 = 0x03
    /// So many without a sign of the process raise the question whether the gateway answers.
    private static let mostInterrupts = 3
    /// How long the beginning of the detach keys is kept back: it reaches the command within 500 ms.
    private static let keyMilliseconds: Int32 = 250

    private let session: AttachSession
    private let isTerminal: Bool
    private let isRaw: Bool
    private let signals: SignalRelay
    private let input: TypedInput
    /// Else what is typed is read for the keys that leave alone.
    private let takesInput: Bool
    /// ^C that were typed since the process was heard of.
    private let interrupts = Atomic(0)

    init(_ session: AttachSession, isTerminal: Bool, isRaw: Bool, signals: SignalRelay) {
        self.session = session
        self.isTerminal = isTerminal
        self.isRaw = isRaw
        self.signals = signals
        takesInput = !session.process.stdinClosed
        input = TypedInput(session)
    }

    /// Something came from the process.
    func heard() {
        interrupts.store(0, ordering: .relaxed)
    }

    /// Until the detach keys, or the end of the input, which ends the process's.
    /// - Parameter keys: `nil` where no keys leave the session.
    /// - Returns: After the detach keys, whether the gateway knows that the process is to go on.
    func run(leavingBy keys: [UInt8]?) async -> Bool {
        do {
            return try await read(leavingBy: keys)
        } catch {
            // The process is gone, or the gateway: the output's reader says so.
            return true
        }
    }

    private func read(leavingBy keys: [UInt8]?) async throws -> Bool {
        let reader = DescriptorInput.standard.makeAsyncIterator()
        var detachKeys = keys.map { DetachKeys($0) }
        var last: UInt8?
        func pass(_ bytes: [UInt8]) async throws {
            guard takesInput else { return }
            try await input.write(bytes)
            last = bytes.last ?? last
        }
        while true {
            let isHolding = detachKeys?.holdsBack ?? false
            switch await reader.read(within: isHolding ? Self.keyMilliseconds : nil) {
            case .bytes(let typed):
                if isRaw, await isInterrupted(by: typed) { continue }
                let (passed, detaches) = detachKeys?.take(typed) ?? (typed, false)
                try await pass(passed)
                if detaches { return await leave() }
            case .nothing:
                try await pass(detachKeys?.rest() ?? [])
            case .end, .failed:
                try await pass(detachKeys?.rest() ?? [])
                if takesInput { try await endInput(after: last) }
                return true
            }
        }
    }

    private func leave() async -> Bool {
        await Farewell.flush(session, after: input)
        return await Farewell.leave(session)
    }

    /// A process that is queued has no terminal yet that would make a signal of ^C: the signal is sent
    /// here, and the process never starts. Where the gateway does not answer, this program leaves.
    /// - Returns: Whether ^C did its work. As on a terminal, what was typed with it is dropped.
    private func isInterrupted(by typed: [UInt8]) async -> Bool {
        let count = typed.count { $0 == Self.interruptKey }
        guard count > 0 else { return false }
        let process = session.process
        let typedSince = interrupts.add(count, ordering: .relaxed).newValue
        let isPatient = typedSince < Self.mostInterrupts
        guard !isPatient || process.status == .queued else { return false }
        guard await Farewell.answers(for: process) else {
            if !isPatient { await signals.leave(SIGINT) }
            return false
        }
        heard()
        // Nobody tells a session that joined when its process starts: it was asked.
        guard process.status == .queued else { return false }
        return (try? await process.signal(.int)) ?? false
    }

    /// A terminal has no end of its own: there ^D is typed. Within a line the first hands over
    /// what stands there; only one at a line's beginning is the end.
    private func endInput(after last: UInt8?) async throws {
        try await input.drain()
        guard isTerminal else { return try await session.closeStdin() }
        let isWithinLine = last.map { $0 != 0x0A && $0 != 0x0D } ?? false
        try await session.write(isWithinLine ? [0x04, 0x04] : [0x04])
    }
}
