// A session with a process in this program's terminal, or over its pipes: `exec -t` and `attach`.

import ArgumentParser
import Glibc
import ProcgateClient

struct TerminalSession {
    private let session: AttachSession
    private let json: Bool

    init(_ session: AttachSession, json: Bool) {
        self.session = session
        self.json = json
    }

    /// - Parameters:
    ///   - reading: Give the process this program's input.
    ///   - endsWithCaller: A signal that ends this program goes to the process too.
    /// - Returns: As the process ended; 0 after ^P^Q.
    func run(reading: Bool, endsWithCaller: Bool) async throws -> ExitCode {
        let hasTerminal = reading && Terminal.isInput
        let signals = try SignalSource.take(
            [SIGTERM, SIGHUP, SIGWINCH] + (hasTerminal || !endsWithCaller ? [] : [SIGINT, SIGQUIT]))
        if hasTerminal { try Terminal.makeRaw() }
        defer { Terminal.restore() }
        let relaying = relay(signals, endsWithCaller: endsWithCaller)
        let typing = reading ? type(isTerminal: hasTerminal) : nil
        defer {
            relaying.cancel()
            typing?.cancel()
        }
        let printer = EventPrinter(json: json)
        if json { await printer.started(session.process.summary) }
        for try await event in session {
            await printer.print(event)
            if case .exit(let result) = event {
                Terminal.restore()
                return try Outcome.exitCode(result.process)
            }
        }
        Terminal.restore()
        if hasTerminal { standardError("\r\ndetached from \(session.process.id)") }
        return .success
    }

    private func relay(_ signals: AsyncStream<Int32>, endsWithCaller: Bool) -> Task<Void, Never> {
        let session = session
        return Task {
            for await number in signals {
                if number == SIGWINCH {
                    try? await session.resize(Terminal.size)
                    continue
                }
                if endsWithCaller {
                    _ = try? await session.process.signal(SignalSource.name(number))
                    if number == SIGINT || number == SIGQUIT { continue }
                }
                Terminal.restore()
                exit(128 + number)
            }
        }
    }

    /// Until ^P^Q or the end of the input, which closes the process's.
    private func type(isTerminal: Bool) -> Task<Void, Never> {
        let session = session
        return Task {
            var keys = DetachKeys()
            do {
                for try await typed in DescriptorInput.standard {
                    let (pass, detach) = isTerminal ? keys.take(typed) : (typed, false)
                    if !pass.isEmpty { try await session.write(pass) }
                    if detach { return session.detach() }
                }
                try await endInput()
            } catch {
                // The process is gone, or the gateway: the output's reader says so.
            }
        }
    }

    /// A terminal has no end of its own: there ^D is typed.
    private func endInput() async throws {
        do {
            try await session.closeStdin()
        } catch  where error.reason == .failedPrecondition {
            try await session.write([0x04])
        }
    }
}
