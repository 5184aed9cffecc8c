// The file of tokens: whatever it holds, each token that it names is known, and what is not a
// word of it is not.

@testable import ProcgateServer

private let mostWords = 64

func fuzzTokenFile(_ bytes: UnsafeRawBufferPointer) {
    let text = String(decoding: bytes, as: UTF8.self)
    guard let file = try? TokenFile(parsing: text, path: "tokens") else { return }
    check(file.owner(of: "") == nil, "the empty token is one")
    let words = text.split { $0 == "\n" || $0 == "\r" || $0 == "\r\n" || $0 == " " || $0 == "\t" }
    let all = Set(words)
    // Each look-up goes through all entries: some of them stand for the others.
    for word in words.prefix(mostWords) where file.owner(of: word) != nil {
        check(file.owner(of: word + "x") == nil || all.contains(word + "x"), "\(word)x is known")
        check(
            file.owner(of: word.dropLast()) == nil || all.contains(word.dropLast()),
            "a token's beginning is known")
    }
}
