// A session with a process in this program's terminal, or over its pipes: `exec -t` and `attach`.

import ArgumentParser
import Glibc
import ProcgateClient

struct TerminalSession {
    private let session: AttachSession
    private let isTerminal: Bool
    private let json: Bool

    /// - Parameter isTerminal: The process has a terminal, not pipes.
    init(_ session: AttachSession, isTerminal: Bool, json: Bool) {
        self.session = session
        self.isTerminal = isTerminal
        self.json = json
    }

    /// - Parameters:
    ///   - reading: Give the process this program's input.
    ///   - endsWithCaller: A signal that ends this program goes to the process too.
    /// - Returns: As the process ended; 0 after ^P^Q.
    func run(reading: Bool, endsWithCaller: Bool) async throws -> ExitCode {
        let hasTerminal = reading && Terminal.isInput
        let isRaw = hasTerminal && isTerminal
        // ^C at a process without a terminal is a signal here, which is passed on. On a raw
        // terminal no key makes a signal: whoever sends one means this program.
        let passesInterrupts = !isRaw && (endsWithCaller || hasTerminal)
        let signals = try SignalSource.take(
            [SIGTERM, SIGHUP, SIGWINCH]
                + (isRaw || passesInterrupts ? [SIGINT, SIGQUIT] : []))
        if isRaw { try Terminal.makeRaw() } else if hasTerminal { try Terminal.passDetachKeys() }
        defer { Terminal.restore() }
        let relaying = relay(
            signals, endsWithCaller: endsWithCaller, passesInterrupts: passesInterrupts)
        let typing = reading ? type(canLeave: hasTerminal, isRaw: isRaw) : nil
        defer {
            relaying.cancel()
            typing?.cancel()
        }
        let ended: ProcessResult?
        do {
            ended = try await follow(
                EventPrinter(json: json, isRaw: isRaw), hasJoined: !endsWithCaller)
        } catch {
            // Nobody sees what it does: what was to end with this program does.
            if endsWithCaller && !(error is SandboxError) {
                await Farewell.kill(session.process)
            }
            throw error
        }
        Terminal.restore()
        if let ended { return try Outcome.exitCode(ended.process) }
        if hasTerminal { standardError("\r\ndetached from \(session.process.id)") }
        return .success
    }

    /// Prints what happens up to the exit; `nil` where the session was left before it.
    private func follow(
        _ printer: EventPrinter, hasJoined: Bool
    ) async throws -> ProcessResult? {
        if hasJoined { try await printer.joined(session.process.summary) }
        for try await event in session.events {
            try await printer.print(event)
            if case .output(.exit(let result)) = event { return result }
        }
        return nil
    }

    private func relay(
        _ signals: AsyncStream<Int32>, endsWithCaller: Bool, passesInterrupts: Bool
    ) -> Task<Void, Never> {
        let session = session
        let isTerminal = isTerminal
        return Task {
            for await number in signals {
                if number == SIGWINCH {
                    // Refused where there is no terminal, and that ends the session.
                    if isTerminal { try? await session.resize(Terminal.size) }
                    continue
                }
                if passesInterrupts, number == SIGINT || number == SIGQUIT {
                    _ = try? await session.process.signal(SignalSource.name(number))
                    continue
                }
                if endsWithCaller { await Farewell.pass(number, to: session.process) }
                Terminal.restore()
                exit(128 + number)
            }
        }
    }

    /// Until ^P^Q or the end of the input, which closes the process's.
    private func type(canLeave: Bool, isRaw: Bool) -> Task<Void, Never> {
        let session = session
        return Task {
            var keys = DetachKeys()
            var last: UInt8?
            do {
                for try await typed in DescriptorInput.standard {
                    if isRaw, typed.contains(Self.interruptKey), await interruptQueued() {
                        continue
                    }
                    let (pass, detach) = canLeave ? keys.take(typed) : (typed, false)
                    if !pass.isEmpty { try await session.write(pass) }
                    if detach {
                        await Farewell.flush(session)
                        return session.detach()
                    }
                    last = pass.last ?? last
                }
                let rest = keys.rest()
                if !rest.isEmpty { try await session.write(rest) }
                last = rest.last ?? last
                try await endInput(after: last)
            } catch {
                // The process is gone, or the gateway: the output's reader says so.
            }
        }
    }

    /// ^C.
    private static let interruptKey: UInt8 = 0x03

    /// A process that is queued has no terminal yet that would make a signal of the key: it is
    /// sent here, and the process never starts.
    /// - Returns: Whether it was. As on a terminal, what was typed with it is dropped.
    private func interruptQueued() async -> Bool {
        let process = session.process
        // Nobody tells a session that joined when its process starts: it is asked.
        guard process.status == .queued, (try? await process.refresh())?.status == .queued
        else { return false }
        return (try? await process.signal(.int)) ?? false
    }

    /// A terminal has no end of its own: there ^D is typed. Within a line the first hands over
    /// what stands there; only one at a line's beginning is the end.
    private func endInput(after last: UInt8?) async throws {
        guard isTerminal else { return try await session.closeStdin() }
        let isWithinLine = last.map { $0 != 0x0A && $0 != 0x0D } ?? false
        try await session.write(isWithinLine ? [0x04, 0x04] : [0x04])
    }
}
