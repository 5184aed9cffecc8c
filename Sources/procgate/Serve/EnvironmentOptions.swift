// Options from the environment: `PROCGATE_LISTEN` is `--listen`. What stands on the
// command line has the last word.

import Glibc

enum EnvironmentOptions {
    private enum Form {
        case value
        /// Several values, separated by commas.
        case list
        /// Set by `1`, `true`, `yes` or `on`; not by `0`, `false`, `no`, `off` or nothing.
        case flag
    }

    private static let ofProcesses: [(String, Form)] = [
        ("state-directory", .value), ("node", .value), ("default-user", .value), ("shell", .value),
        ("max-running", .value), ("max-queued", .value), ("grace-period", .value),
        ("resume-window", .value), ("retain-bytes", .value), ("retain-time", .value),
        ("max-output-memory", .value), ("max-input-memory", .value),
    ]

    private static let ofGateway: [(String, Form)] = [
        ("listen", .list), ("token-file", .value), ("no-token", .flag),
        ("tls-certificate", .value), ("tls-key", .value), ("tls-client-ca", .value),
        ("allow-user", .list), ("max-message-bytes", .value), ("max-connections", .value),
        ("max-streams", .value), ("max-buffer-memory", .value), ("keep-alive", .value),
        ("drain-timeout", .value),
        ("keep-processes", .flag), ("metrics-listen", .value), ("log-level", .value),
        ("log-format", .value),
    ]

    /// `arguments` of the whole program, with those options of `serve` and `supervise`
    /// added that only the environment gives. Where only help is asked for, it gives none.
    /// - Throws: For a flag that is neither set nor not.
    static func added(
        to arguments: [String], from variable: (String) -> String? = environmentVariable
    ) throws(Failure) -> [String] {
        let isAsking = arguments.contains { ["--help", "-h", "-help", "--version"].contains($0) }
        guard !isAsking else { return arguments }
        let options: [(String, Form)]
        switch arguments.first {
        case "serve": options = ofProcesses + ofGateway
        case "supervise": options = ofProcesses
        default: return arguments
        }
        var arguments = arguments
        for (name, form) in options where !isGiven(name, in: arguments) {
            let key = "PROCGATE_" + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
            guard let value = variable(key), !value.isEmpty else { continue }
            // Who says both by different means meant the one on the command line.
            if name == "token-file", isGiven("no-token", in: arguments) { continue }
            if name == "no-token", isGiven("token-file", in: arguments) { continue }
            switch form {
            case .value: arguments += ["--\(name)", value]
            case .list:
                arguments += flagsJoined(values(value)).flatMap { ["--\(name)", $0] }
            case .flag: if try isSet(key, value) { arguments.append("--\(name)") }
            }
        }
        return arguments
    }

    private static func isGiven(_ name: String, in arguments: [String]) -> Bool {
        arguments.contains { $0 == "--\(name)" || $0.hasPrefix("--\(name)=") }
    }

    private static func values(_ list: String) -> [String] {
        list.split(separator: ",").compactMap { part in
            let isSpace = { (character: Character) in character.isWhitespace }
            let rest = part.drop(while: isSpace)
            let end = rest.lastIndex { !isSpace($0) }
            return end.map { String(rest[...$0]) }
        }
    }

    /// `unix:PATH,token` is one address: its comma parts no values.
    private static func flagsJoined(_ values: [String]) -> [String] {
        values.reduce(into: []) { joined, value in
            let flag = "," + value
            if flag == ListenArgument.tokenSuffix, let last = joined.last, last.hasPrefix("unix:"),
                !last.hasSuffix(flag)
            {
                joined[joined.count - 1] = last + flag
            } else {
                joined.append(value)
            }
        }
    }

    private static func isSet(_ key: String, _ value: String) throws(Failure) -> Bool {
        switch value.lowercased() {
        case "1", "true", "yes", "on": return true
        case "0", "false", "no", "off", "": return false
        default:
            throw Failure("\(key) is 1 or 0, not \(value)", status: .usage)
        }
    }
}

/// A variable of this process's environment.
func environmentVariable(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
}
