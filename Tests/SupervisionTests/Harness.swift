// A supervisor on the test's own thread, and its news as they come.

import Glibc
import LinuxIO
import OutputLog
import ProcgateV1
import Testing

@testable import Supervision

/// One supervisor at a time in this process: orphans and signals are the process's.
@Suite(.serialized)
enum WithProcesses {}

final class Harness {
    static let link: UInt64 = 7

    let supervisor: Supervisor
    let directory: String
    private var nextCall: UInt64 = 1
    private(set) var notices: [Notice] = []

    struct TimedOut: Error {}

    init(_ change: (inout SupervisorConfiguration) -> Void = { _ in }) throws {
        directory = "/tmp/procgate-tests-\(getpid())-\(UInt32.random(in: 0..<UInt32.max))"
        var configuration = SupervisorConfiguration(stateDirectory: directory)
        change(&configuration)
        supervisor = try Supervisor(configuration)
        supervisor.linkOpened(Self.link)
    }

    // MARK: Turning

    /// Turns the loop until `take` finds what it looks for in a notice.
    func wait<Found>(
        _ what: String = "a notice", seconds: Double = 20, _ take: (Notice) -> Found?
    ) throws -> Found {
        let deadline = Instant.now() + .milliseconds(Int(seconds * 1000))
        while true {
            notices += supervisor.takeNotices().map(\.notice)
            for (index, notice) in notices.enumerated() {
                guard let found = take(notice) else { continue }
                notices.remove(at: index)
                return found
            }
            guard Instant.now() < deadline else {
                Issue.record("waited too long for \(what); have \(notices)")
                throw TimedOut()
            }
            try turn()
        }
    }

    func turn(timeout: Duration = .milliseconds(100)) throws {
        try supervisor.turn(timeout: timeout) { _, _ in }
        notices += supervisor.takeNotices().map(\.notice)
    }

    /// Everything that came so far.
    func drainNotices() -> [Notice] {
        defer { notices = [] }
        return notices
    }

    func turn(for duration: Duration) throws {
        let deadline = Instant.now() + duration
        while Instant.now() < deadline { try turn(timeout: .milliseconds(5)) }
    }

    /// Turns the loop until `condition` holds.
    func turn(until condition: () -> Bool) throws {
        let deadline = Instant.now() + .seconds(20)
        while !condition() {
            guard Instant.now() < deadline else { throw TimedOut() }
            try turn(timeout: .milliseconds(5))
        }
    }

    func newCall() -> CallID {
        defer { nextCall += 1 }
        return CallID(link: Self.link, call: nextCall)
    }

    func answer(to call: CallID, seconds: Double = 20) throws -> Answer {
        try wait("the answer to \(call)", seconds: seconds) { notice in
            if case .reply(call.call, let answer) = notice { return answer }
            return nil
        }
    }

    // MARK: Commands

    func start(
        _ spec: ProcessSpec, _ change: (inout StartRequest) -> Void = { _ in }
    ) throws -> StartedAnswer {
        let (call, answer) = try tryStart(spec, change)
        guard case .started(let started) = answer else {
            Issue.record("call \(call) was answered \(answer)")
            throw TimedOut()
        }
        return started
    }

    func tryStart(
        _ spec: ProcessSpec, _ change: (inout StartRequest) -> Void = { _ in }
    ) throws -> (CallID, Answer) {
        var request = StartRequest(spec: spec)
        request.stdin = .null
        change(&request)
        let call = newCall()
        supervisor.start(request, by: call)
        return (call, try answer(to: call))
    }

    func refusal(of spec: ProcessSpec) throws -> ErrorReason? {
        if case (_, .failure(let refusal)) = try tryStart(spec) { return refusal.reason }
        return nil
    }

    func end(of id: String, seconds: Double = 20) throws -> Process {
        let call = newCall()
        supervisor.awaitEnd(of: id, by: call)
        guard case .started(let started) = try answer(to: call) else {
            Issue.record("no answer of an end")
            throw TimedOut()
        }
        supervisor.unfollow(started.serial, by: call.link)
        return started.process
    }

    func run(_ spec: ProcessSpec, _ change: (inout StartRequest) -> Void = { _ in }) throws
        -> Process
    {
        try end(of: start(spec, change).process.id)
    }

    /// Runs it, and gives what it printed to stdout as well.
    func output(
        of spec: ProcessSpec, _ change: (inout StartRequest) -> Void = { _ in }
    ) throws -> (Process, String) {
        let process = try run(spec, change)
        return (process, String(decoding: try bytes(of: process.id), as: UTF8.self))
    }

    func process(_ command: (CallID) -> Void) throws -> Process {
        let call = newCall()
        command(call)
        let answer = try answer(to: call)
        guard case .process(let process) = answer else {
            Issue.record("answered \(answer)")
            throw TimedOut()
        }
        return process
    }

    func failure(_ command: (CallID) -> Void) throws -> ErrorReason? {
        let call = newCall()
        command(call)
        if case .failure(let refusal) = try answer(to: call) { return refusal.reason }
        return nil
    }

    /// The retained output of one stream, as a follower reads it.
    func bytes(of id: String, _ stream: OutputStreamKind = .stdout) throws -> [UInt8] {
        let call = newCall()
        supervisor.follow(id, by: call)
        guard case .started(let started) = try answer(to: call), let log = started.log else {
            throw TimedOut()
        }
        defer { supervisor.unfollow(started.serial, by: Self.link) }
        let mapping = mmap(
            nil, supervisor.arena.capacityBytes, PROT_READ, MAP_SHARED,
            supervisor.arena.readerDescriptor, 0)
        guard let mapping else { throw TimedOut() }
        defer { munmap(mapping, supervisor.arena.capacityBytes) }
        var data: [UInt8] = []
        for (index, segment) in log.segments.enumerated() {
            var offset = index == 0 ? log.firstOffset : 0
            while offset < segment.end {
                let record = mapping + segment.block.offset + offset
                let header = try #require(RecordLayout.read(at: record))
                if header.stream == stream {
                    let start = record + RecordLayout.headerSize
                    data += UnsafeRawBufferPointer(start: start, count: header.dataCount)
                }
                offset += header.recordSize
            }
        }
        return data
    }

    /// Stops everything; nothing may be left.
    func shutDown() throws {
        let call = newCall()
        supervisor.shutDown(grace: .zero, by: call)
        _ = try answer(to: call)
        #expect(supervisor.isFinished)
        #expect(supervisor.lingering.isEmpty)
    }
}

/// A spec of a command line for the shell.
func shell(_ command: String, _ change: (inout ProcessSpec) -> Void = { _ in }) -> ProcessSpec {
    var spec = ProcessSpec()
    spec.command = command
    change(&spec)
    return spec
}

/// A spec of a program and its arguments.
func program(_ words: String..., change: (inout ProcessSpec) -> Void = { _ in }) -> ProcessSpec {
    var spec = ProcessSpec()
    spec.command = words[0]
    spec.args = Array(words.dropFirst())
    spec.shell = .none
    change(&spec)
    return spec
}
