// The supervisor's values as messages of the link, and back. Pure.

import LinuxIO
import OutputLog
import ProcgateInternal
import ProcgateV1
import Supervision

/// Blocks of the arena are told in units of this many bytes.
private let blockUnit = BlockSize.small.rawValue

extension Event {
    init(_ notice: Notice) {
        self.init()
        switch notice {
        case .reply(let call, let answer):
            kind = .reply(Reply(call: call, answer))
        case .appended(let serial, let commit):
            kind = .appended(Appended(serial: serial, commit))
        case .retired(let serial, let ordinal):
            kind = .retired(
                .with {
                    $0.serial = serial
                    $0.ordinal = ordinal
                })
        case .running(let serial, let process):
            kind = .running(
                .with {
                    $0.serial = serial
                    $0.process = process
                })
        case .ended(let serial, let process):
            kind = .ended(
                .with {
                    $0.serial = serial
                    $0.process = process
                })
        case .changed(let process):
            kind = .changed(.with { $0.process = process })
        case .admission(let state): kind = .admission(Admission(state))
        case .outputForgotten(let id, let serial):
            kind = .forgotten(
                .with {
                    $0.processId = id
                    $0.serial = serial
                    $0.outputOnly = true
                })
        case .forgotten(let id, let serial):
            kind = .forgotten(
                .with {
                    $0.processId = id
                    $0.serial = serial
                })
        }
    }
}

extension Admission {
    init(_ state: AdmissionState) {
        self.init()
        cordoned = state.isCordoned
        hasPlace = state.hasPlace
    }
}

extension Appended {
    fileprivate init(serial: UInt64, _ commit: LogCommit) {
        self.init()
        self.serial = serial
        ordinal = commit.segment.ordinal
        index = UInt32(commit.segment.block.offset / blockUnit)
        firstSeq = commit.startedSegment ? commit.segment.firstSeq : 0
        end = UInt32(commit.segment.end)
        lastSeq = commit.seq
    }
}

extension Reply {
    fileprivate init(call: UInt64, _ answer: Answer) {
        self.init()
        self.call = call
        switch answer {
        case .failure(let refusal):
            kind = .failure(
                .with {
                    $0.reason = refusal.reason.rawValue
                    $0.message = refusal.message
                })
        case .started(let started): kind = .started(Started(started))
        case .process(let process): kind = .process(.with { $0.process = process })
        case .list(let entries, let more):
            kind = .list(
                .with {
                    $0.entries = entries.map { entry in
                        .with {
                            $0.serial = entry.serial
                            $0.process = entry.process
                        }
                    }
                    $0.more = more
                })
        case .stdin(let bytes): kind = .stdin(.with { $0.stdinBytes = bytes })
        case .stdinAgain(let bytes, let taken):
            kind = .stdin(
                .with {
                    $0.stdinBytes = bytes
                    $0.again = true
                    $0.taken = UInt32(clamping: taken)
                })
        case .done: kind = .done(Done())
        case .shutDown(let pids):
            kind = .shutdown(.with { $0.uninterruptible = pids.map { UInt32(bitPattern: $0) } })
        case .census(let census):
            kind = .census(
                .with {
                    $0.processes = Dictionary(
                        uniqueKeysWithValues: census.processes.map {
                            (UInt32(bitPattern: $0.key.rawValue), UInt64($0.value))
                        })
                    $0.outputBytes = UInt64(census.outputBytes)
                    $0.spawned = census.spawned
                    $0.spawnUs = UInt64(census.spawnTime.nanoseconds / 1000)
                    $0.ended = Dictionary(
                        uniqueKeysWithValues: census.ended.map {
                            (UInt32(bitPattern: $0.key.rawValue), $0.value)
                        })
                })
        }
    }
}

extension Started {
    fileprivate init(_ answer: StartedAnswer) {
        self.init()
        process = answer.process
        serial = answer.serial
        joined = answer.joined
        ended = answer.ended
        log = answer.log.map { snapshot in
            .with {
                $0.segments = snapshot.segments.map { Segment($0) }
                $0.firstOffset = UInt32(snapshot.firstOffset)
                $0.firstSeq = snapshot.firstSeq
                $0.lastSeq = snapshot.lastSeq
            }
        }
    }
}

extension Segment {
    fileprivate init(_ segment: LogSegment) {
        self.init()
        ordinal = segment.ordinal
        index = UInt32(segment.block.offset / blockUnit)
        firstSeq = segment.firstSeq
        end = UInt32(segment.end)
    }
}

extension StartRequest {
    init(_ start: Start) {
        self.init(spec: start.spec ?? ProcessSpec())
        requestKey = start.requestKey
        owner = start.owner
        held = start.held
        joinsOnly = start.joinOnly
        instance = start.instance
        if start.expiresAtNs > 0 {
            expiresAt = Instant(nanoseconds: Int64(clamping: start.expiresAtNs))
        }
        follow = start.follow
        switch start.stdin {
        case .null: stdin = .null
        case .data: stdin = .bytes(start.stdinData)
        default: stdin = .pipe
        }
        switch start.policy {
        case .kill: policy = .kill
        case .keep: policy = .keep
        default: policy = Supervision.OwnerPolicy.none
        }
    }
}

extension StdinWrite {
    init(_ write: WriteStdin, _ attachment: [UInt8]) {
        self.init()
        data = attachment
        eof = write.eof
        offset = write.hasOffset ? write.offset : nil
        refusesTerminalEOF = write.refuseTerminalEof
        resumes = write.resumes
    }
}

extension ListFilter {
    init(_ list: List) {
        self.init()
        statuses = list.status
        limit = list.limit > 0 ? Int(list.limit) : 100
        beforeSerial = list.beforeSerial
        createdAfter = list.createdAfter
        createdBefore = list.createdBefore
        labels = list.labels
    }
}

extension Supervision.AbandonReason {
    init(_ reason: ProcgateInternal.AbandonReason) {
        switch reason {
        case .lost: self = .lost
        case .completed: self = .completed
        default: self = .cancelled
        }
    }
}
