// Questions: what there is, and what becomes of it.

import LinuxIO
import ProcgateV1

extension Supervisor {
    public func get(_ id: String, by call: CallID) {
        do {
            let process = try process(id: id)
            lookAtDescendants(of: process)
            reply(call, .process(process.snapshot))
        } catch {
            reply(call, .failure(error))
        }
    }

    /// Answered once the process has ended and its log is complete.
    public func awaitEnd(of id: String, by call: CallID) {
        do throws(Refusal) {
            let process = try process(id: id)
            if process.phase == .ended {
                replyStarted(process, to: call, follow: true, joined: true)
            } else {
                process.awaiting.append(call)
                waitingCalls[call] = process.serial
            }
        } catch {
            reply(call, .failure(error))
        }
    }

    /// A page ends early where it would be larger than what gRPC clients take by default, 4 MiB.
    private static let pageBytes = 3 << 20

    /// The newest first.
    public func list(_ filter: ListFilter, by call: CallID) {
        var entries: [(serial: UInt64, process: Process)] = []
        var bytes = 0
        for serial in serialsInOrder.reversed() {
            if filter.beforeSerial > 0, serial >= filter.beforeSerial { continue }
            guard let process = processes[serial], process.isAnnounced,
                filter.matches(process.record)
            else { continue }
            bytes += process.record.approximateBytes
            if entries.count == filter.limit || (bytes > Self.pageBytes && !entries.isEmpty) {
                reply(call, .list(entries, more: true))
                return
            }
            entries.append((serial, process.snapshot))
        }
        reply(call, .list(entries, more: false))
    }

    /// Every change from now on, until it is turned off. How they stand, a list tells.
    public func watch(_ isOn: Bool, by call: CallID) {
        guard isOn else {
            watchers.remove(call.link)
            reply(call, .done)
            return
        }
        watchers.insert(call.link)
        reply(call, .done)
    }

    /// Shows that the loop turns.
    public func pong(_ call: CallID) { reply(call, .done) }

    /// Processes that run or wait.
    public var liveProcesses: Int {
        processes.values.count { $0.isAnnounced && $0.phase != .ended }
    }

    public func census(by call: CallID) {
        var census = census
        census.outputBytes = arena.bytesInUse
        for process in processes.values where process.isAnnounced {
            census.processes[process.record.status, default: 0] += 1
        }
        reply(call, .census(census))
    }

    /// Forgets an ended process.
    public func delete(_ id: String, by call: CallID) {
        do throws(Refusal) {
            let process = try process(id: id)
            guard process.phase == .ended else {
                throw Refusal(.processRunning, "the process has not ended")
            }
            lookAtDescendants(of: process)
            guard lingering[process.serial] == nil else {
                throw Refusal(.processRunning, "descendants of the ended command run")
            }
            forget(process.serial)
            reply(call, .done)
        } catch {
            reply(call, .failure(error))
        }
    }
}

extension Process {
    /// What it takes in memory, and no less than what it takes on the wire.
    var approximateBytes: Int {
        let texts = [command, cwd, runAs, owner]
        let fixed = 256 + texts.reduce(0) { $0 + $1.utf8.count }
        let arguments = args.reduce(0) { $0 + $1.utf8.count + 32 }
        return labels.reduce(fixed + arguments) {
            $0 + $1.key.utf8.count + $1.value.utf8.count + 64
        }
    }
}

extension ListFilter {
    fileprivate func matches(_ process: Process) -> Bool {
        (statuses.isEmpty || statuses.contains(process.status))
            && (createdAfter == 0 || process.createdAt >= createdAfter)
            && (createdBefore == 0 || process.createdAt < createdBefore)
            && labels.allSatisfy { process.labels[$0.key] == $0.value }
    }
}
