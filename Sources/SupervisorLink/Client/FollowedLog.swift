// A process's log as the calls of one event loop follow it: one index, any number of
// readers. A reader that stands still holds back nothing but the segment that it stands
// in. Knows no stream of a caller.

public import OutputLog
import ProcgateInternal
public import ProcgateV1

/// What the supervisor tells of one process, shared by its readers.
///
/// `@unchecked Sendable`, because it is confined to its link's event loop.
public final class FollowedLog: @unchecked Sendable {
    /// How far the process has come, as far as this link knows.
    public enum Stage {
        case queued
        case running
        case ended
        /// The supervisor is gone, and with it the process.
        case lost
    }

    public let serial: UInt64
    /// As it stood when its stage changed last.
    public private(set) var process: Process
    /// Nothing is an end while the link is lost: what can be read then is not known.
    public var stage: Stage { isInterrupted ? .running : known }
    /// As it stood when it started, or when it was followed, if that was later.
    public private(set) var startedProcess: Process

    var follows = 1
    /// How many follows the supervisor counts on the link.
    var announcedFollows = 1
    fileprivate var index: LogIndex
    private var known: Stage
    /// The link is lost, and what became of the supervisor is not known yet. If it lives, what
    /// was read from may be overwritten.
    fileprivate private(set) var isInterrupted = false
    // A cycle while the log is followed, which `unfollow` ends.
    private var link: SupervisorLink
    private var readers: [ObjectIdentifier: LogReader] = [:]
    /// Retired segments that a reader still stands in.
    private var unacknowledged: [UInt64] = []

    init(
        link: SupervisorLink, serial: UInt64, index: LogIndex, process: Process, hasEnded: Bool
    ) {
        self.link = link
        self.serial = serial
        self.index = index
        self.process = process
        startedProcess = process
        known = Self.stage(of: process, hasEnded: hasEnded)
    }

    private static func stage(of process: Process, hasEnded: Bool) -> Stage {
        hasEnded ? .ended : process.status == .queued ? .queued : .running
    }

    public var lastSeq: UInt64 { index.lastSeq }

    func append(_ appended: Appended) -> Bool {
        let taken = index.append(
            ordinal: appended.ordinal, offset: Int(appended.index) * LogIndex.blockUnit,
            firstSeq: appended.firstSeq, end: Int(appended.end), lastSeq: appended.lastSeq)
        if taken { wakeReaders() }
        return taken
    }

    func retire(through ordinal: UInt64) {
        for reader in readers.values { reader.beforeRetirement?() }
        index.retire(through: ordinal)
        unacknowledged.append(ordinal)
        acknowledgeRetired()
        wakeReaders()
    }

    func run(_ process: Process) {
        self.process = process
        startedProcess = process
        if known == .queued { known = .running }
        wakeReaders()
    }

    func end(_ process: Process) {
        self.process = process
        known = .ended
        wakeReaders()
    }

    // MARK: Losing the link

    /// The link is lost: nobody reads until it is known why.
    func interrupt() {
        isInterrupted = true
        // Who does not follow any more is not waited for.
        unacknowledged = []
    }

    /// Another link will take it up.
    func move(to link: SupervisorLink) {
        self.link = link
        announcedFollows = 0
    }

    /// The supervisor has lived on: as the log stands now, on the new link.
    func resume(index: LogIndex, process: Process, hasEnded: Bool) {
        let hadEnded = known == .ended
        self.index = index
        self.process = process
        if known == .queued { startedProcess = process }
        known = Self.stage(of: process, hasEnded: hasEnded)
        announcedFollows = 1
        goOn(owners: hadEnded)
    }

    /// The supervisor has lived on, and has forgotten the process meanwhile.
    func forget() {
        let hadEnded = known == .ended
        index.retire(through: .max)
        loseProcess()
        goOn(owners: hadEnded)
    }

    /// `owners`: those, too, whose call owned the process: it had ended before.
    private func goOn(owners: Bool) {
        isInterrupted = false
        for reader in readers.values { reader.goOn(asOwner: owners) }
        wakeReaders()
    }

    /// The supervisor is gone. What it wrote can be read to its end, since nobody writes there
    /// any more.
    func lose() {
        isInterrupted = false
        loseProcess()
        wakeReaders()
    }

    private func loseProcess() {
        if known != .ended {
            known = .lost
            process.status = .failed
            process.terminationReason = .lost
            process.outcome = .error("the supervisor is gone")
        }
    }

    fileprivate func add(_ reader: LogReader) {
        readers[ObjectIdentifier(reader)] = reader
    }

    fileprivate func remove(_ reader: LogReader) {
        readers[ObjectIdentifier(reader)] = nil
        acknowledgeRetired()
        if follows == 1 { index.letGoOfPages() }
        link.unfollow(self)
    }

    fileprivate func release(through seq: UInt64, for call: UInt64, canWait: Bool) {
        var release = Release()
        release.serial = serial
        release.seq = seq
        link.send(.release(release), for: call, canWait: canWait)
    }

    /// Answers the retirements that no reader stands in the way of: one that stands still holds
    /// its own segment, and none of those behind it.
    fileprivate func acknowledgeRetired() {
        if unacknowledged.isEmpty { return }
        let pinned = readers.values.compactMap(\.pinned)
        for ordinal in unacknowledged where !pinned.contains(ordinal) {
            link.acknowledge(serial: serial, ordinal: ordinal)
        }
        unacknowledged.removeAll { !pinned.contains($0) }
    }

    private func wakeReaders() {
        for reader in readers.values { reader.onChange?() }
    }
}

/// One reader of a followed log. To be closed by its owner.
public final class LogReader {
    public let log: FollowedLog
    /// Called on the loop whenever the log or its stage changed.
    public var onChange: (() -> Void)?
    /// Called before the oldest segments leave the log. What they hold can be read a last time.
    public var beforeRetirement: (() -> Void)?

    private var cursor: LogCursor
    /// On behalf of which owning call what is read counts as taken; 0 is a follower, `nil` is
    /// somebody whose reading does not count.
    private let owner: UInt64?
    private var releasedSeq: UInt64 = 0
    private var unreleasedBytes = 0
    private var isClosed = false
    /// The link was lost, and this reader cannot go on over the new one: it stood in a record,
    /// or its call owned the process and is taken to be gone.
    public private(set) var isCutOff = false

    /// Releases are told in steps of this many bytes: each is a message.
    private static let releaseStep = 524_288

    /// - Parameter owner: the call that owns the process: its reading makes room in a held
    ///   process's window. 0: none, whose reading does where no call owns the process. `nil`:
    ///   reading makes no room.
    public init(_ log: FollowedLog, from seq: UInt64, owner: UInt64? = 0) {
        self.log = log
        self.owner = owner
        cursor = LogCursor(at: seq)
        releasedSeq = max(1, seq) - 1
        log.add(self)
    }

    deinit { assert(isClosed, "a reader was dropped without being closed") }

    /// The number of the next record.
    public var nextSeq: UInt64 { cursor.nextSeq }
    public var isBetweenRecords: Bool { cursor.isBetweenRecords }
    /// The log holds what is no record: nothing more of it can be read.
    public var isCorrupt: Bool { cursor.isCorrupt }
    fileprivate var pinned: UInt64? { cursor.pinned }

    /// Bytes up to the end of the record at the cursor, or of the one that it stands in.
    /// Valid after `place` said `.bytes`.
    public var restOfRecord: Int {
        cursor.isBetweenRecords ? header()?.recordSize ?? 0 : cursor.restOfRecord
    }

    /// While the link is lost this is the end.
    public func place() -> LogCursor.Place {
        log.isInterrupted || isCutOff ? .end : cursor.place(in: log.index)
    }

    /// The bytes at the cursor, valid after `place` said `.bytes` and until `advance`.
    public func bytes() -> UnsafeRawBufferPointer { cursor.bytes(in: log.index) }

    /// The header of the record at the cursor, which is between records.
    public func header() -> RecordHeader? { cursor.header(in: log.index) }

    /// `count` bytes were handed on.
    public func advance(_ count: Int) {
        cursor.advance(count, in: log.index)
        if cursor.pinned == nil { log.acknowledgeRetired() }
        unreleasedBytes += count
        if unreleasedBytes >= Self.releaseStep { release() }
    }

    /// Tells what was read so far; to be called when the reader has caught up, too.
    public func release() {
        guard let owner, !isClosed, cursor.nextSeq - 1 > releasedSeq else { return }
        unreleasedBytes = 0
        releasedSeq = cursor.nextSeq - 1
        log.release(through: releasedSeq, for: owner, canWait: log.stage == .ended)
    }

    /// The log is followed over another link.
    fileprivate func goOn(asOwner: Bool) {
        guard cursor.isBetweenRecords, asOwner || (owner ?? 0) == 0 else {
            isCutOff = true
            return
        }
        // What was told over the link that was lost may not have been heard.
        releasedSeq = 0
        release()
    }

    /// Goes on at the record `seq`, past what was dropped.
    public func skip(to seq: UInt64) {
        cursor.skip(to: seq)
    }

    public func close() {
        guard !isClosed else { return }
        release()
        isClosed = true
        onChange = nil
        beforeRetirement = nil
        log.remove(self)
    }
}
