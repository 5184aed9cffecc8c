// `KEY=VALUE`, as environment variables and labels are written on the command line.

import ArgumentParser

struct KeyValueArgument: ExpressibleByArgument, Equatable, Sendable {
    let key: String
    let value: String

    /// Cut at the first `=`; `nil` where there is none or nothing before it.
    init?(argument: String) {
        guard let cut = argument.firstIndex(of: "="), cut != argument.startIndex else { return nil }
        key = String(argument[..<cut])
        value = String(argument[argument.index(after: cut)...])
    }
}

extension [KeyValueArgument] {
    /// The later of two with the same key holds, as in a shell.
    var dictionary: [String: String] {
        Dictionary(map { ($0.key, $0.value) }, uniquingKeysWith: { _, later in later })
    }
}
