// Input: bounded writes that wait until the process has taken them.

import CLinux
import Glibc
import LinuxIO

extension Supervisor {
    /// So long the place of a write that was asked for again is kept.
    private static let longestAsking: Duration = .seconds(5)

    /// A writer that has sent so much sends more.
    private static let largeInputBytes: UInt64 = 1 << 20

    /// What ends the input of a terminal, where its line is empty.
    private static let endOfTransmission: UInt8 = 4
    private static let lineFeed: UInt8 = 10

    /// Answered once the process has taken every byte, and after the close.
    public func write(_ write: StdinWrite, to id: String, by call: CallID) {
        do {
            try accept(write, to: process(id: id), by: call)
        } catch {
            reply(call, .failure(error))
        }
    }

    private func accept(
        _ write: StdinWrite, to process: SupervisedProcess, by call: CallID
    ) throws(Refusal) {
        guard process.phase != .ended, process.commandEndedAt == nil else {
            let placement = process.stdin.window.place(
                offset: write.offset, count: write.data.count, eof: write.eof)
            guard placement == .repeated || isWholly(write, in: placement) else {
                throw .notRunning
            }
            return reply(call, .stdin(bytes: process.stdin.window.accepted))
        }
        if process.isTerminal, write.eof, write.refusesTerminalEOF {
            throw Refusal(
                .stdinClosed, "a terminal has no end to close: send its end-of-file character")
        }
        let pending = StdinFeed.PendingWrite(
            call: call, data: write.data, eof: write.eof, offset: write.offset,
            isSession: write.refusesTerminalEOF)
        let asked = CallID(link: call.link, call: write.resumes)
        if let first = process.stdin.pending.first, first.isAsked, first.call == asked {
            waitingCalls[asked] = nil
            cancelTimer(process, \.asked)
            process.stdin.pending[0] = pending
        } else {
            process.stdin.pending.append(pending)
        }
        waitingCalls[call] = process.serial
        if process.phase == .running { feed(process) }
        keepWrite(of: process, by: call)
    }

    /// Charges a write that came now for the bytes that wait. Where the budget has no room for
    /// them they are dropped, and asked for again once it is their turn.
    private func keepWrite(of process: SupervisedProcess, by call: CallID) {
        // Its own place is the first or the last, whatever else waits.
        let indices = [0, process.stdin.pending.count - 1]
        guard
            let index = indices.first(where: { index in
                process.stdin.pending.indices.contains(index)
                    && process.stdin.pending[index].call == call
            })
        else { return }
        let pending = process.stdin.pending[index]
        guard let data = pending.data, !data.isEmpty, pending.charged == 0 else { return }
        if input.take(data.count, owner: process.record.owner) {
            process.stdin.pending[index].charged = data.count
        } else {
            process.stdin.pending[index].data = nil
        }
    }

    /// Every byte of it was accepted before, and it asks for no end.
    private func isWholly(_ write: StdinWrite, in placement: StdinWindow.Placement) -> Bool {
        guard case .write(let skip) = placement else { return false }
        return write.offset != nil && skip == write.data.count && !write.eof
    }

    /// Writes the bytes that the process takes now; to be called again when its pipe has room.
    func feed(_ process: SupervisedProcess) {
        while var write = process.stdin.pending.first {
            guard let data = write.data else {
                if !write.isAsked { askAgain(process) }
                return
            }
            guard let start = start(of: write, data, process) else { continue }
            switch take(data[start...], process) {
            case .bytes(let count):
                process.stdin.window.accept(count)
                if count > 0 {
                    process.stdin.lineIsOpen = data[start + count - 1] != Self.lineFeed
                }
                write.done = start + count
                process.stdin.pending[0] = write
                if start + count == data.count { finishFirst(process, eof: write.eof) }
            case .later:
                write.done = start
                process.stdin.pending[0] = write
                return waitForReader(process)
            case .failed:
                abandonStdin(of: process, .stdinClosed)
            }
        }
    }

    /// Where the first write goes on. `nil`: it was answered, and is no longer the first.
    private func start(
        of write: StdinFeed.PendingWrite, _ data: [UInt8], _ process: SupervisedProcess
    ) -> Int? {
        if let done = write.done { return done }
        switch process.stdin.window.place(
            offset: write.offset, count: data.count, eof: write.eof)
        {
        case .write(let skip):
            return skip
        case .repeated:
            answerFirst(process, nil)
        case .gap:
            let accepted = process.stdin.window.accepted
            let refusal = Refusal(
                .stdinGap, "stdin has \(accepted) bytes, the write begins behind them")
            answerFirst(process, refusal)
        case .closed:
            // A session's end of input, where there is none to end.
            let isIdle = write.isSession && write.eof && data.isEmpty
            answerFirst(process, isIdle ? nil : .stdinClosed)
        }
        return nil
    }

    /// It is the turn of a write whose bytes were not kept: asks for them once the process has
    /// room for some. Until they come their place is kept, and later writes wait behind it.
    private func askAgain(_ process: SupervisedProcess) {
        guard let write = process.stdin.pending.first, let call = write.call else { return }
        guard hasRoom(process) else { return waitForReader(process) }
        process.stdin.pending[0].isAsked = true
        let deadline = now + Self.longestAsking
        setTimer(process, \.asked, .asked(process.serial), at: deadline)
        let accepted = process.stdin.window.accepted
        reply(call, .stdinAgain(bytes: accepted, taken: write.done ?? 0))
    }

    /// Nobody has sent what was asked for: others go on.
    func askedInVain(_ process: SupervisedProcess) {
        guard let call = process.stdin.pending.first?.call else { return }
        waitingCalls[call] = nil
        abandonWrite(call, of: process)
    }

    /// The process's stdin takes a byte now, or is gone, as a write will tell.
    private func hasRoom(_ process: SupervisedProcess) -> Bool {
        let terminal = process.isTerminal ? process.stdout?.descriptor.raw : nil
        guard let raw = terminal ?? process.stdin.pipe?.raw else { return true }
        var descriptor = pollfd(fd: raw, events: Int16(POLLOUT), revents: 0)
        return poll(&descriptor, 1, 0) != 0
    }

    private func take(_ data: ArraySlice<UInt8>, _ process: SupervisedProcess) -> WriteResult {
        if data.isEmpty { return .bytes(0) }
        return data.withUnsafeBytes { bytes in
            if process.isTerminal {
                return process.stdout?.descriptor.write(bytes) ?? .failed(EPIPE)
            }
            return process.stdin.pipe?.write(bytes) ?? .failed(EPIPE)
        }
    }

    private func finishFirst(_ process: SupervisedProcess, eof: Bool) {
        if eof {
            if process.isTerminal {
                // Within a line the first one only hands over what is there.
                let count = process.stdin.lineIsOpen ? 2 : 1
                let end = [UInt8](repeating: Self.endOfTransmission, count: count)
                _ = take(end[...], process)
            }
            closeStdin(of: process, byWriter: true)
        }
        answerFirst(process, nil)
    }

    private func answerFirst(_ process: SupervisedProcess, _ refusal: Refusal?) {
        guard let write = process.stdin.pending.popFirst() else { return }
        input.giveBack(write.charged, owner: process.record.owner)
        guard let call = write.call else {
            reduceInput(of: process, to: process.recordBytes)
            return
        }
        waitingCalls[call] = nil
        // One that was asked for again has its reply.
        if write.isAsked { return cancelTimer(process, \.asked) }
        if let refusal {
            reply(call, .failure(refusal))
        } else {
            reply(call, .stdin(bytes: process.stdin.window.accepted))
        }
    }

    private func waitForReader(_ process: SupervisedProcess) {
        // A terminal's master is polled for both directions from the start.
        guard let raw = process.stdin.pipe?.raw else { return }
        if !process.stdin.hasGrown, process.stdin.window.accepted >= Self.largeInputBytes {
            // Fewer, larger writes from now on.
            process.stdin.hasGrown = true
            _ = clinux_grow_pipe(raw, Self.grownPipeBytes)
        }
        guard !process.stdin.isPolled else { return }
        process.stdin.isPolled = true
        try? poller.add(
            raw, [.output, .edges], token: EventSource.stdin.token(process.serial))
    }

    func closeStdin(of process: SupervisedProcess, byWriter: Bool) {
        if process.stdin.isPolled, let raw = process.stdin.pipe?.raw { poller.remove(raw) }
        process.stdin.isPolled = false
        process.stdin.pipe = nil
        process.stdin.window.close(byWriter: byWriter)
    }

    /// The reader has gone: what waits is refused.
    func abandonStdin(of process: SupervisedProcess, _ refusal: Refusal) {
        closeStdin(of: process, byWriter: false)
        while !process.stdin.pending.isEmpty { answerFirst(process, refusal) }
    }

    /// The caller of a write is gone: what the process has not taken is dropped.
    func abandonWrite(_ call: CallID, of process: SupervisedProcess) {
        for write in process.stdin.pending where write.call == call {
            input.giveBack(write.charged, owner: process.record.owner)
            if write.isAsked { cancelTimer(process, \.asked) }
        }
        process.stdin.pending.removeAll { $0.call == call }
        if process.phase == .running { feed(process) }
    }
}
