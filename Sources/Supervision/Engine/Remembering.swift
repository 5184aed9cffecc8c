// What is kept of output and of ended processes, and how it goes.

import LinuxIO
import OutputLog

extension Supervisor {
    /// After so long without a need the free pages are given back, so many at a time.
    private static let idleTime: Duration = .seconds(1)
    private static let trimmedAtOnce = 16
    /// A log that gives way to others keeps this much.
    private static let leastRetainedBytes = 64 << 10

    // MARK: Segments

    /// The log gave these segments up.
    func retire(_ ordinals: [UInt64], of process: SupervisedProcess) {
        guard !ordinals.isEmpty else { return }
        var freed: [UInt64] = []
        for ordinal in ordinals {
            for link in process.followers.keys {
                tell(link, .retired(serial: process.serial, ordinal: ordinal))
            }
            let ghosts = process.ghosts.filter { ordinal < $0.value }.keys
            let readers = Set(process.followers.keys).union(ghosts)
            if process.retired.retire(ordinal, followers: readers) {
                freed.append(ordinal)
            }
        }
        free(freed, of: process)
    }

    func free(_ ordinals: [UInt64], of process: SupervisedProcess) {
        guard !ordinals.isEmpty else { return }
        for ordinal in ordinals { process.log.free(ordinal: ordinal) }
        if process.retired.isEmpty { departed[process.serial] = nil }
        scheduleHousekeeping(in: Self.idleTime)
        let waiting = waitingForRoom
        waitingForRoom.removeAll()
        for serial in waiting { processes[serial].map { readHeld($0) } }
    }

    /// Makes room in a full arena: whoever ended first loses its output, then `process` itself
    /// keeps less. Returns whether there may be room now.
    func makeRoom(for process: SupervisedProcess) -> Bool {
        let before = arena.bytesInUse
        while arena.bytesInUse == before, let serial = ledger.popOldestTrim() {
            trim(serial)
        }
        while arena.bytesInUse == before, let serial = ledger.popOldestOutput() {
            dropOutput(of: serial)
        }
        if arena.bytesInUse < before { return true }
        giveWay(process)
        if arena.bytesInUse < before { return true }
        let largest = processes.values.max { $0.log.retainedBytes < $1.log.retainedBytes }
        if let largest { giveWay(largest) }
        return arena.bytesInUse < before
    }

    /// Keeps half as much from now on, of a held process what was released.
    private func giveWay(_ process: SupervisedProcess) {
        guard process.log.retainedBytes > Self.leastRetainedBytes else { return }
        let share = max(Self.leastRetainedBytes, process.log.retainedBytes / 2)
        retire(process.log.retain(atMost: share), of: process)
        tellOutputChanged(of: process)
    }

    /// Keeps all output together under its limit: the oldest ended give way first. Their results
    /// stay, until those alone take half of it.
    func limitOutputMemory(for process: SupervisedProcess) {
        var excess = arena.bytesInUse + ledger.recordBytes - configuration.maxOutputMemory
        while excess > 0, let serial = ledger.popOldestTrim() {
            let before = arena.bytesInUse
            trim(serial)
            excess -= before - arena.bytesInUse
        }
        while excess > 0, let serial = ledger.popOldestOutput() {
            excess -= processes[serial]?.log.bytesInUse ?? 0
            dropOutput(of: serial)
        }
        while excess > 0, ledger.recordBytes > configuration.maxOutputMemory / 2,
            let serial = ledger.popOldest()
        {
            excess -= processes[serial]?.recordBytes ?? 0
            forget(serial)
        }
        guard excess > 0 else { return }
        // Nobody has ended: who prints keeps no more than its share.
        let share = configuration.maxOutputMemory / max(1, admission.runningCount)
        let bytes = max(Self.leastRetainedBytes, share)
        if bytes < process.log.retainBytes {
            retire(process.log.retain(atMost: bytes), of: process)
        }
    }

    // MARK: Ended processes

    /// Output that is kept of a process whose caller went away.
    private static let abandonedBytes = 1 << 20
    /// Before memory that was freed goes back to the kernel.
    private static let trimDelay: Duration = .milliseconds(200)

    /// An ended process that no call owns is remembered for its time.
    func rememberWhereLetGo(_ process: SupervisedProcess) {
        guard process.phase == .ended, process.owners.isEmpty,
            process.owners.orphanedPolicy == nil, !process.isRemembered
        else { return }
        process.isRemembered = true
        // What nobody has read of a process that holds back is kept: it is bounded by its window.
        process.log.isHeld = process.holdsWhenFull && process.stopPlan.cause != .callerGone
        if process.stopPlan.cause == .callerGone {
            // Nobody is known to want it; its newest output may tell somebody why.
            let kept = min(process.log.retainBytes, process.retainBytes, Self.abandonedBytes)
            retire(process.log.retain(atMost: kept), of: process)
            scheduleHousekeeping(in: Self.trimDelay)
        }
        // From now on its record counts with those of the other ended processes.
        reduceInput(of: process, to: 0)
        let isForgotten = lingering[process.serial] == nil
        ledger.add(
            process.serial, expiresAt: isForgotten ? now + configuration.retainTime : nil,
            bytes: process.recordBytes)
        // Its caller may come back for what was on its way; a reader of what holds back, later too.
        if process.log.retainedBytes > process.retainBytes, !process.holdsWhenFull {
            ledger.keepsMore(process.serial, until: now + configuration.resumeWindow)
            scheduleHousekeeping(in: configuration.resumeWindow)
        }
        limitOutputMemory(for: process)
        scheduleHousekeeping(in: configuration.retainTime)
    }

    /// An ended process keeps no more output than it was asked to.
    private func trim(_ serial: UInt64) {
        guard let process = processes[serial] else { return }
        let kept = min(process.log.retainBytes, process.retainBytes)
        retire(process.log.retain(atMost: kept), of: process)
        tellOutputChanged(of: process)
    }

    /// What gateways remember of an ended process does not hold any more.
    private func tellOutputChanged(of process: SupervisedProcess) {
        guard process.phase == .ended else { return }
        for link in links {
            tell(link, .outputForgotten(id: process.id, serial: process.serial))
        }
    }

    /// An ended process keeps its result alone.
    private func dropOutput(of serial: UInt64) {
        guard let process = processes[serial], process.log.bytesInUse > 0 else { return }
        retire(process.log.dropAll(), of: process)
        tellOutputChanged(of: process)
    }

    func forget(_ serial: UInt64) {
        guard let process = processes[serial] else { return }
        retire(process.log.dropAll(), of: process)
        ledger.remove(serial)
        erase(process)
        if !process.retired.isEmpty { departed[serial] = process }
        for link in links { tell(link, .forgotten(id: process.id, serial: serial)) }
    }

    /// Takes the process out of every list.
    func erase(_ process: SupervisedProcess) {
        processes[process.serial] = nil
        serials[process.id] = nil
        waitingForRoom.remove(process.serial)
        for call in process.owners.calls { owningCalls[call] = nil }
        if let key = process.key { keys[key] = nil }
        reduceInput(of: process, to: 0)
        cancelTimer(process, \.resume)
        if serialsInOrder.count > 2 * processes.count + 64 {
            serialsInOrder.removeAll { processes[$0] == nil }
        }
    }

    // MARK: Housekeeping

    func scheduleHousekeeping(in delay: Duration) {
        let deadline = now + delay
        if let timer = housekeepingTimer {
            guard let planned = housekeepingDeadline, deadline < planned else { return }
            timers.cancel(timer)
        }
        housekeepingDeadline = deadline
        housekeepingTimer = timers.add(.housekeeping, at: deadline)
    }

    func keepHouse() {
        while let serial = ledger.popExpired(at: now) { forget(serial) }
        while let serial = ledger.popTrim(at: now) { trim(serial) }
        if runQueue.isEmpty, arena.trim(max: Self.trimmedAtOnce) > 0 {
            scheduleHousekeeping(in: .milliseconds(20))
        }
        for case let deadline? in [ledger.nextExpiry(), ledger.nextTrim()] {
            scheduleHousekeeping(in: max(.milliseconds(1), deadline - now))
        }
    }
}
