// Output: from the pipes into the log, and the news of it.

import CLinux
import Glibc
import LinuxIO
import OutputLog

extension Supervisor {
    /// What a pipe grows to at its first full read; it halves the CPU of a stream.
    static let grownPipeBytes: Int32 = 1 << 20

    func outputIsReady(
        _ process: SupervisedProcess, _ stream: OutputStreamKind, _ readiness: Readiness
    ) {
        guard let pipe = process.output(stream) else { return }
        if readiness.contains(.hangUp) { pipe.sawHangUp = true }
        if process.isTerminal, readiness.contains(.output) { feed(process) }
        switch pipe.state {
        case .queued, .held: return
        case .paced where !pipe.sawHangUp: return mute(pipe, of: process)
        case .idle, .paced: break
        }
        if !pipe.sawHangUp, let later = pipe.pacing.delay(now: now) {
            pipe.state = .paced
            _ = timers.add(.pace(process.serial, stream), at: later)
        } else {
            enqueue(process, pipe)
        }
    }

    /// Each write into a pipe that is waiting for its time anyway would wake the loop: it is
    /// looked at by the timer alone, until it is found empty.
    private func mute(_ pipe: OutputPipe, of process: SupervisedProcess) {
        guard !pipe.isMuted, !pipe.isTerminal else { return }
        pipe.isMuted = poll(pipe, [.edges], process)
    }

    private func unmute(_ pipe: OutputPipe, of process: SupervisedProcess) {
        guard pipe.isMuted else { return }
        pipe.isMuted = !poll(pipe, [.input, .edges], process)
    }

    private func poll(
        _ pipe: OutputPipe, _ interest: Readiness, _ process: SupervisedProcess
    ) -> Bool {
        let source = pipe.stream == .stdout ? EventSource.stdout : .stderr
        let token = source.token(process.serial)
        return (try? poller.modify(pipe.descriptor.raw, interest, token: token)) != nil
    }

    func enqueue(_ process: SupervisedProcess, _ pipe: OutputPipe) {
        guard pipe.state != .queued else { return }
        pipe.state = .queued
        runQueue.append((process.serial, pipe.stream))
    }

    /// One read for each pipe in the queue, so that none waits for another's stream.
    func readQueued() {
        for _ in 0..<runQueue.count {
            guard let (serial, stream) = runQueue.popFirst() else { return }
            guard let process = processes[serial], let pipe = process.output(stream) else {
                dropOutput(serial, stream)
                continue
            }
            read(process, pipe)
            // Also while there is more: who prints without end is to be timed.
            if process.commandEndedAt != nil,
                pipe.state != .queued || process.timers.drain == nil
            {
                settle(process)
            }
        }
    }

    private func read(_ process: SupervisedProcess, _ pipe: OutputPipe) {
        pipe.state = .idle
        if isHeldBack(process) {
            pipe.state = .held
            if memoryIsScarce { waitingForRoom.insert(process.serial) }
            return
        }
        if !pipe.stash.isEmpty, !commitStash(process, pipe) { return }
        guard let room = reserve(process) else { return waitForRoom(process, pipe) }
        switch pipe.descriptor.read(into: room) {
        case .bytes(let count):
            let isFull = count == room.count
            keep(process, pipe, count: count, from: room)
            process.lastOutputAt = now
            if let end = process.commandEndedAt, now < end + Drain.longestTime {
                process.hasLookedLate = false
            }
            process.unreadAtEnd = max(0, process.unreadAtEnd - count)
            pipe.pacing.didRead(count, at: now)
            if count >= ReadPacing.fullReadBytes, !pipe.hasGrown, !pipe.isTerminal {
                pipe.hasGrown = true
                _ = clinux_grow_pipe(pipe.descriptor.raw, Self.grownPipeBytes)
            }
            guard pipe.state == .idle else { return }
            readOn(process, pipe, isFull: isFull || count >= ReadPacing.fullReadBytes)
        case .later:
            process.log.abandonReservation()
            unmute(pipe, of: process)
        case .end, .failed:
            if process.outputs.count == 1 { process.unreadAtEnd = 0 }
            process.log.abandonReservation()
            // A terminal that nobody has open gives EIO, and may be opened again. It is not
            // closed under a command that lives: that would hang up on one which has only
            // closed its descriptors before it exits, as cat does.
            if !pipe.isTerminal || process.commandEndedAt != nil { closeOutput(process, pipe) }
        }
    }

    /// After a read: at once where there is more, or the end is to be found.
    private func readOn(_ process: SupervisedProcess, _ pipe: OutputPipe, isFull: Bool) {
        if isFull || pipe.sawHangUp || process.commandEndedAt != nil {
            enqueue(process, pipe)
        } else if pipe.isTerminal || pipe.isMuted {
            // A short read of a terminal is no sign that it is empty, and no edge follows; of
            // a muted pipe none is told.
            pipe.state = .paced
            _ = timers.add(.pace(process.serial, pipe.stream), at: now + ReadPacing.interval)
        }
    }

    func closeOutput(_ process: SupervisedProcess, _ pipe: OutputPipe) {
        poller.remove(pipe.descriptor.raw)
        if pipe.isTerminal { abandonStdin(of: process, .stdinClosed) }
        if pipe.stream == .stdout { process.stdout = nil } else { process.stderr = nil }
    }

    /// Held processes, which drop nothing, have taken more than their part of the arena.
    private var memoryIsScarce: Bool { arena.bytesInUse > configuration.maxOutputMemory }

    private func isHeldBack(_ process: SupervisedProcess) -> Bool {
        process.isHeldBack(memoryIsScarce: memoryIsScarce)
    }

    /// A reader, or memory that was freed, has made room: read what was held.
    func readHeld(_ process: SupervisedProcess) {
        guard !isHeldBack(process) else {
            // Without that it might have gone on: it is asked again when something is freed.
            if memoryIsScarce { waitingForRoom.insert(process.serial) }
            return
        }
        for pipe in process.outputs where pipe.state == .held { enqueue(process, pipe) }
    }

    // MARK: The log

    private func reserve(_ process: SupervisedProcess) -> UnsafeMutableRawBufferPointer? {
        while true {
            if let room = process.log.reserve(limit: process.recordLimit) { return room }
            if !makeRoom(for: process) { return nil }
        }
    }

    /// Makes a record of what was read. Where the arena is full, sets it aside.
    private func keep(
        _ process: SupervisedProcess, _ pipe: OutputPipe, count: Int,
        from room: UnsafeMutableRawBufferPointer
    ) {
        let time = wallClockMilliseconds()
        if let commit = process.log.commit(count: count, stream: pipe.stream, timestamp: time) {
            return announce(commit, of: process)
        }
        pipe.stash = Array(room.prefix(count))
        process.log.abandonReservation()
        if makeRoom(for: process) {
            enqueue(process, pipe)
        } else {
            waitForRoom(process, pipe)
        }
    }

    private func commitStash(_ process: SupervisedProcess, _ pipe: OutputPipe) -> Bool {
        while !pipe.stash.isEmpty {
            guard let room = reserve(process) else {
                waitForRoom(process, pipe)
                return false
            }
            let count = min(room.count, pipe.stash.count)
            room.copyBytes(from: pipe.stash[..<count])
            let time = wallClockMilliseconds()
            guard
                let commit = process.log.commit(count: count, stream: pipe.stream, timestamp: time)
            else {
                process.log.abandonReservation()
                if makeRoom(for: process) { continue }
                waitForRoom(process, pipe)
                return false
            }
            pipe.stash.removeFirst(count)
            announce(commit, of: process)
        }
        return true
    }

    private func waitForRoom(_ process: SupervisedProcess, _ pipe: OutputPipe) {
        pipe.state = .held
        waitingForRoom.insert(process.serial)
    }

    private func announce(_ commit: LogCommit, of process: SupervisedProcess) {
        for link in process.followers.keys {
            tell(link, .appended(serial: process.serial, commit))
        }
        if process.log.retainedBytes > process.log.retainBytes {
            retire(process.log.enforceRetention(), of: process)
        }
        if commit.startedSegment { limitOutputMemory(for: process) }
    }
}
