// UTF-8 in pieces.

import Testing

@testable import ProcgateClient

@Suite("Text of chunks")
struct TextTests {
    /// What the pieces' texts join to, and what the last piece leaves open.
    private func join(_ pieces: [[UInt8]]) -> String {
        var cut = TextCut()
        var text = ""
        for piece in pieces {
            let (lead, end) = cut.next(piece)
            text += String(decoding: lead + piece[..<end], as: UTF8.self)
        }
        return text + String(decoding: cut.open, as: UTF8.self)
    }

    @Test("A character that a chunk's end cuts is whole in the next")
    func cutCharacter() {
        var cut = TextCut()
        let euro = Array("€".utf8)
        #expect(cut.next(Array("a".utf8) + euro[..<1]) == ([], 1))
        #expect(cut.next(Array(euro[1..<2])) == ([], 0))
        #expect(cut.next(Array(euro[2...])) == (Array(euro[..<2]), 1))
        #expect(cut.open.isEmpty)
    }

    @Test("However bytes are cut, the joined texts are the text of the whole")
    func anyCut() {
        var random = SystemRandomNumberGenerator()
        let alphabet: [[UInt8]] = [
            Array("a".utf8), Array("ß".utf8), Array("€".utf8), Array("😀".utf8), [0xFF], [0xC3],
            [0xE2, 0x82], [0xF0, 0x9F], [0x80], [0xE0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90],
        ]
        for _ in 0..<2000 {
            let whole = (0..<Int.random(in: 0...12, using: &random)).flatMap { _ in
                alphabet.randomElement(using: &random) ?? []
            }
            var pieces: [[UInt8]] = []
            var rest = whole[...]
            while !rest.isEmpty {
                let piece = rest.prefix(Int.random(in: 0...5, using: &random))
                pieces.append(Array(piece))
                rest = rest.dropFirst(piece.count)
            }
            let expected = String(decoding: whole, as: UTF8.self)
            #expect(join(pieces).unicodeScalars.elementsEqual(expected.unicodeScalars))
        }
    }
}

private func == (left: ([UInt8], Int), right: ([UInt8], Int)) -> Bool {
    left.0 == right.0 && left.1 == right.1
}
