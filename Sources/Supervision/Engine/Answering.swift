// Questions: what there is, and what becomes of it.

import LinuxIO
import ProcgateV1

extension Supervisor {
    public func get(_ id: String, by call: CallID) {
        do {
            reply(call, .process(try process(id: id).snapshot))
        } catch {
            reply(call, .failure(error))
        }
    }

    /// Answered once the process has ended and its log is complete.
    public func awaitEnd(of id: String, by call: CallID) {
        do throws(Refusal) {
            let process = try process(id: id)
            if process.phase == .ended {
                reply(call, .process(process.snapshot))
            } else {
                process.awaiting.append(call)
                waitingCalls[call] = process.serial
            }
        } catch {
            reply(call, .failure(error))
        }
    }

    /// The newest first.
    public func list(_ filter: ListFilter, by call: CallID) {
        var entries: [(serial: UInt64, process: Process)] = []
        for serial in serialsInOrder.reversed() {
            if filter.beforeSerial > 0, serial >= filter.beforeSerial { continue }
            guard let process = processes[serial], process.isAnnounced,
                filter.matches(process.record)
            else { continue }
            if entries.count == filter.limit {
                reply(call, .list(entries, more: true))
                return
            }
            entries.append((serial, process.snapshot))
        }
        reply(call, .list(entries, more: false))
    }

    /// All processes as they stand, `done`, and then every change, until it is turned off.
    public func watch(_ isOn: Bool, by call: CallID) {
        guard isOn else {
            watchers.remove(call.link)
            reply(call, .done)
            return
        }
        for serial in serialsInOrder {
            guard let process = processes[serial], process.isAnnounced else { continue }
            tell(call.link, .changed(process.snapshot))
        }
        watchers.insert(call.link)
        reply(call, .done)
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
            forget(process.serial)
            reply(call, .done)
        } catch {
            reply(call, .failure(error))
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
