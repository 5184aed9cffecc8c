// The words of the command line as they came: bytes, which have to be UTF-8. Knows no option.

import Glibc

enum GivenWords {
    /// What stands behind the program's name.
    /// - Throws: Where a word, or a variable of ours, is not UTF-8. The contract's strings are, and
    ///   what would stand in place of the bytes is another word than the one that was meant.
    static func read() throws(Failure) -> [String] {
        try checkVariables()
        var words: [String] = []
        for index in 1..<max(1, Int(CommandLine.argc)) {
            guard let bytes = CommandLine.unsafeArgv[index] else { break }
            guard let word = String(validatingCString: UnsafePointer(bytes)) else {
                throw Failure(
                    "argument \(index) is not UTF-8: '\(String(cString: bytes))'", status: .usage)
            }
            words.append(word)
        }
        return words
    }

    private static func checkVariables() throws(Failure) {
        var next = environ
        while let entry = next.pointee {
            next += 1
            let shown = String(cString: entry)
            guard shown.hasPrefix("PROCGATE_"),
                String(validatingCString: UnsafePointer(entry)) == nil
            else { continue }
            // Its value may be a token.
            let name = shown.prefix { $0 != "=" }
            throw Failure("the value of \(name) in the environment is not UTF-8", status: .usage)
        }
    }
}
