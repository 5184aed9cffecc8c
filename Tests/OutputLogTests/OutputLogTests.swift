import Testing

@testable import OutputLog

/// What a reader made of the bytes that it was given: whole records, in order.
private struct Transcript {
    var bytes: [UInt8] = []
    var data: [UInt8] = []
    var seqs: [UInt64] = []

    mutating func parse() {
        bytes.withUnsafeBytes { raw in
            var offset = 0
            while offset < raw.count, let base = raw.baseAddress,
                let header = RecordLayout.read(at: base + offset)
            {
                let start = offset + RecordLayout.headerSize
                data += raw[start..<start + header.dataCount]
                seqs.append(header.seq)
                offset += header.recordSize
            }
            #expect(offset == raw.count)
        }
        bytes = []
    }
}

@Suite struct RecordLayoutTests {
    @Test func aHeaderIsReadAsItWasWritten() {
        let header = RecordHeader(
            seq: 123_456_789_012, stream: .stderr, timestamp: 1_795_000_123_456, dataCount: 262_113)
        var bytes = [UInt8](repeating: 0xEE, count: RecordLayout.headerSize)
        bytes.withUnsafeMutableBytes { RecordLayout.write(header, at: $0.baseAddress!) }
        #expect(bytes.withUnsafeBytes { RecordLayout.read(at: $0.baseAddress!) } == header)
    }

    /// Made with `protoc --encode=procgate.v1.ProcessEvent`, then padded by hand: what
    /// `protoc --decode` gives for these bytes is seq 5, STDERR, time 1700000000000, "ab".
    @Test func aHeaderIsThePaddedFormOfWhatProtocDecodes() {
        let header = RecordHeader(
            seq: 5, stream: .stderr, timestamp: 1_700_000_000_000, dataCount: 2)
        var bytes = [UInt8](repeating: 0, count: RecordLayout.headerSize)
        bytes.withUnsafeMutableBytes { RecordLayout.write(header, at: $0.baseAddress!) }
        let golden: [UInt8] = [
            0x00, 0x00, 0x00, 0x00, 0x1C,
            0x12, 0x97, 0x80, 0x80, 0x00,
            0x08, 0x85, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00,
            0x10, 0x02,
            0x18, 0x80, 0xD0, 0x95, 0xFF, 0xBC, 0x31,
            0x22, 0x82, 0x80, 0x00,
        ]
        #expect(bytes == golden)
    }

    @Test func bytesThatAreNoRecordAreRefused() {
        let zeros = [UInt8](repeating: 0, count: RecordLayout.headerSize)
        #expect(zeros.withUnsafeBytes { RecordLayout.read(at: $0.baseAddress!) } == nil)
    }
}

@Suite struct SegmentAllocatorTests {
    @Test func theBlockFreedLastIsUsedFirst() {
        var allocator = SegmentAllocator(segmentCount: 4)
        let blocks = [allocator.allocate(.large), allocator.allocate(.large)].compactMap { $0 }
        blocks.forEach { allocator.free($0) }
        let next = allocator.allocate(.large)
        #expect(next == blocks.last)
    }

    @Test func randomBlocksNeverOverlapAndAllComeBack() {
        var random = SeededGenerator(seed: 7)
        var allocator = SegmentAllocator(segmentCount: 8)
        var held: [Block] = []
        for _ in 0..<4_000 {
            if Bool.random(using: &random),
                let block = allocator.allocate(BlockSize.allCases.randomElement(using: &random)!)
            {
                let range = block.offset..<block.offset + block.size.rawValue
                #expect(range.upperBound <= 8 * SegmentAllocator.segmentBytes)
                #expect(!held.contains { range.overlaps($0.offset..<$0.offset + $0.size.rawValue) })
                held.append(block)
            } else if !held.isEmpty {
                allocator.free(held.remove(at: Int.random(in: 0..<held.count, using: &random)))
            }
        }
        held.forEach { allocator.free($0) }
        #expect(allocator.bytesInUse == 0)
    }

    @Test func onlyWhatExceedsThePoolIsCooled() {
        var allocator = SegmentAllocator(segmentCount: 8)
        let blocks = (0..<6).compactMap { _ in allocator.allocate(.large) }
        blocks.forEach { allocator.free($0) }
        let cooled = allocator.cool(pooled: 4, max: 10)
        #expect(cooled.count == 2)
        #expect(allocator.warmSegments == 4)
        let again = (0..<9).compactMap { _ in allocator.allocate(.large) }
        #expect(again.count == 8)
    }
}

@Suite struct OutputLogTests {
    @Test(arguments: 1...12) func readersInAnotherMappingSeeEveryByteOnce(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let log = try LogHarness(retainBytes: 1 << 30)
        var written: [UInt8] = []
        var cursors = (0..<4).map { _ in LogCursor(at: 1) }
        var transcripts = [Transcript](repeating: Transcript(), count: 4)
        for _ in 0..<200 {
            let size = Int.random(
                in: 1...[20, 900, 70_000, 300_000].randomElement(using: &random)!, using: &random)
            let data = [UInt8](repeating: UInt8.random(in: 0...255, using: &random), count: size)
            #expect(log.write(data))
            written += data
            for reader in cursors.indices where Bool.random(using: &random) {
                read(from: log, &cursors[reader], &transcripts[reader], pieces: 40, &random)
            }
        }
        for reader in cursors.indices {
            read(from: log, &cursors[reader], &transcripts[reader], pieces: .max, &random)
            transcripts[reader].parse()
            #expect(transcripts[reader].data == written)
            #expect(transcripts[reader].seqs == Array(1...log.writer.lastSeq))
        }
    }

    @Test(arguments: 1...8) func aReaderThatFallsBehindIsToldAndNobodyElse(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed &+ 100)
        let log = try LogHarness(retainBytes: 100_000, capacityBytes: 4 << 20)
        var prompt = LogCursor(at: 1)
        var prompted = Transcript()
        var slow = LogCursor(at: 1)
        var slowed = Transcript()
        var written: [UInt8] = []
        var gaps = 0
        for round in 0..<400 {
            let data = (0..<Int.random(in: 1...60_000, using: &random)).map {
                UInt8(truncatingIfNeeded: $0 ^ round)
            }
            #expect(log.write(data))
            written += data
            read(from: log, &prompt, &prompted, pieces: .max, &random)
            if round % 9 == 0 {
                read(from: log, &slow, &slowed, pieces: 2, &random)
                if slow.isBetweenRecords, case .dropped(let first) = slow.place(in: log.index) {
                    gaps += 1
                    slow.skip(to: first)
                }
            }
            log.acknowledgeRetired(pinnedBy: [prompt, slow])
        }
        prompted.parse()
        #expect(prompted.data == written)
        #expect(gaps > 0)
        #expect(log.arena.bytesInUse <= 5 * SegmentAllocator.segmentBytes)
    }

    @Test func retentionIsExactToTheRecord() throws {
        let log = try LogHarness(retainBytes: 1_000)
        for _ in 0..<50 { #expect(log.write([UInt8](repeating: 1, count: 100))) }
        #expect(log.writer.retainedBytes == 1_000)
        #expect(log.writer.firstRetainedSeq == 41)
    }

    @Test func theNewestRecordIsKeptWhateverItsSize() throws {
        let log = try LogHarness(retainBytes: 10)
        #expect(log.write([UInt8](repeating: 1, count: 5_000)))
        #expect(log.writer.firstRetainedSeq == 1)
        #expect(log.write([UInt8](repeating: 2, count: 5_000)))
        #expect(log.writer.firstRetainedSeq == 2)
    }

    @Test func aHeldLogDropsNothingThatWasNotReleased() throws {
        let log = try LogHarness(retainBytes: 1_000)
        log.writer.isHeld = true
        for _ in 0..<50 { #expect(log.write([UInt8](repeating: 1, count: 100))) }
        #expect(log.writer.firstRetainedSeq == 1)
        #expect(log.writer.unreleasedBytes == 5_000)
        log.writer.release(through: 30)
        #expect(log.writer.unreleasedBytes == 2_000)
        _ = log.writer.enforceRetention()
        #expect(log.writer.firstRetainedSeq == 31)
        log.writer.release(through: 1_000)
        #expect(log.writer.unreleasedBytes == 0)
    }

    @Test func releasesGoOnPastARetiredSegment() throws {
        let log = try LogHarness(retainBytes: 100_000)
        log.writer.isHeld = true
        for _ in 0..<200 {
            // All is released at the end of a block, before there is another one.
            #expect(log.write([UInt8](repeating: 1, count: 60_000)))
            log.writer.release(through: log.writer.lastSeq)
            #expect(log.writer.unreleasedBytes == 0)
            log.retired += log.writer.enforceRetention()
            log.acknowledgeRetired(pinnedBy: [])
        }
        #expect(log.writer.retainedBytes <= 120_000)
    }

    @Test func aFullArenaRefusesAndGoesOnWhenThereIsRoom() throws {
        let log = try LogHarness(retainBytes: 1 << 30, capacityBytes: 1 << 20)
        let data = [UInt8](repeating: 3, count: 200_000)
        var writes = 0
        while log.write(data) { writes += 1 }
        #expect(writes >= 3)
        for ordinal in log.writer.dropAll() { log.writer.free(ordinal: ordinal) }
        #expect(log.writer.firstRetainedSeq == log.writer.lastSeq + 1)
        #expect(log.arena.bytesInUse <= SegmentAllocator.segmentBytes)
        #expect(log.write(data))
    }

    @Test func smallLogsTakeSmallBlocks() throws {
        let arena = try Arena(capacityBytes: 1 << 20, pooledSegments: 1)
        let logs = (0..<500).map { _ in LogWriter(arena: arena, retainBytes: 1 << 20) }
        for log in logs {
            let room = try #require(log.reserve())
            room[0] = 65
            _ = try #require(log.commit(count: 1, stream: .stdout, timestamp: 0))
        }
        #expect(arena.bytesInUse == 500 * 1_024)
    }

    @Test func aCursorPastTheEndWaitsForItsRecord() throws {
        let log = try LogHarness(retainBytes: 1 << 20)
        var cursor = LogCursor(at: 3)
        #expect(place(&cursor, log) == .end)
        for byte in 1...3 { #expect(log.write([UInt8(byte)])) }
        #expect(place(&cursor, log) == .bytes(RecordLayout.headerSize + 1))
        #expect(cursor.header(in: log.index)?.seq == 3)
    }

    @Test func anIndexRefusesWhatIsNotInTheArena() throws {
        let log = try LogHarness(retainBytes: 1 << 20, capacityBytes: 1 << 20)
        for (offset, end) in [(1 << 20, 1), (-1, 1), (0, 1 << 20), (Int.max, 1)] {
            let taken = log.index.append(
                ordinal: 0, offset: offset, firstSeq: 1, end: end, lastSeq: 1)
            #expect(!taken)
        }
    }

    @Test func anIndexRefusesNumbersThatCannotBe() throws {
        let most: UInt64 = .max
        for (ordinal, firstSeq, lastSeq): (UInt64, UInt64, UInt64) in [
            (0, 0, 1), (0, most, most), (0, 1, most), (most, 1, 1),
        ] {
            let log = try LogHarness(retainBytes: 1 << 20, capacityBytes: 1 << 20)
            let taken = log.index.append(
                ordinal: ordinal, offset: 0, firstSeq: firstSeq, end: 40, lastSeq: lastSeq)
            #expect(!taken, "\(ordinal) \(firstSeq) \(lastSeq)")
        }
        let log = try LogHarness(retainBytes: 1 << 20, capacityBytes: 1 << 20)
        let first = log.index.append(ordinal: 0, offset: 0, firstSeq: 5, end: 40, lastSeq: 5)
        #expect(first)
        let second = log.index.append(
            ordinal: 1, offset: 1024, firstSeq: 5, end: 40, lastSeq: 6)
        #expect(!second)
    }

    @Test(arguments: [0, 1, 5, 28, 30]) func aCursorStopsAtADamagedRecord(byte: Int) throws {
        let log = try LogHarness(retainBytes: 1 << 20)
        for data in [[1, 2, 3], [4, 5, 6]] as [[UInt8]] { #expect(log.write(data)) }
        let first = RecordLayout.headerSize + 3
        let segment = try #require(log.index.segments.first)
        // Of the second record: another length, or what is no header at all.
        log.arena.base.storeBytes(
            of: 0xFF, toByteOffset: segment.offset + first + byte, as: UInt8.self)
        var cursor = LogCursor(at: 1)
        #expect(place(&cursor, log) == .bytes(first + first))
        cursor.advance(first, in: log.index)
        #expect(cursor.header(in: log.index) == nil)
        cursor.advance(first, in: log.index)
        #expect(cursor.isCorrupt)
        #expect(place(&cursor, log) == .end)
        var later = LogCursor(at: 3)
        #expect(log.write([7]))
        #expect(place(&later, log) == .end)
        #expect(later.isCorrupt)
    }

    private func place(_ cursor: inout LogCursor, _ log: LogHarness) -> LogCursor.Place {
        cursor.place(in: log.index)
    }

    /// Reads random pieces until nothing is left or `pieces` are read.
    private func read(
        from log: LogHarness, _ cursor: inout LogCursor, _ transcript: inout Transcript,
        pieces: Int, _ random: inout SeededGenerator
    ) {
        var left = pieces
        while left > 0, case .bytes(let count) = cursor.place(in: log.index) {
            let taken = Int.random(in: 1...count, using: &random)
            transcript.bytes += cursor.bytes(in: log.index).prefix(taken)
            cursor.advance(taken, in: log.index)
            left -= 1
        }
    }
}
