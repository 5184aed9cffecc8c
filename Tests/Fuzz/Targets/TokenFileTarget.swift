// The file of tokens: whatever it holds, each token that it names is known, and what is not a
// word of it is not.

@testable import ProcgateServer

func fuzzTokenFile(_ bytes: UnsafeRawBufferPointer) {
    let text = String(decoding: bytes, as: UTF8.self)
    guard let file = try? TokenFile(parsing: text, path: "tokens") else { return }
    check(file.owner(of: "") == nil, "the empty token is one")
    let words = text.split { $0 == "\n" || $0 == "\r" || $0 == "\r\n" || $0 == " " || $0 == "\t" }
    var known = 0
    for word in words where file.owner(of: word) != nil {
        known += 1
        check(file.owner(of: word + "x") == nil || words.contains(word + "x"), "\(word)x is known")
        check(
            file.owner(of: word.dropLast()) == nil || words.contains(word.dropLast()),
            "a token's beginning is known")
    }
}
