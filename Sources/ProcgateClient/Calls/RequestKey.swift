// What makes a repeated request the same request.

/// 128 random bits, in hexadecimal.
func makeRequestKey() -> String {
    var random = SystemRandomNumberGenerator()
    return (0..<2).map { _ in
        let word = String(UInt64.random(in: .min ... .max, using: &random), radix: 16)
        return String(repeating: "0", count: 16 - word.count) + word
    }.joined()
}
