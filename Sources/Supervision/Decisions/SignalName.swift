// Signals by name: "TERM", "SIGTERM", "15", "RTMIN+3". Pure.

import CLinux

enum SignalName {
    static let terminate: Int32 = 15
    static let kill: Int32 = 9
    static let interrupt: Int32 = 2

    /// The signal's number; `nil` where there is none of that name. 0 is none.
    static func number(of text: String) -> Int32? {
        // Beyond ASCII some letters are others' capitals.
        guard text.utf8.allSatisfy({ $0 < 0x80 }) else { return nil }
        if let number = digits(text) {
            return number >= 1 && number <= clinux_last_realtime_signal() ? number : nil
        }
        var name = text.uppercased()
        if name.hasPrefix("SIG") { name.removeFirst(3) }
        if let realtime = realtimeNumber(of: name) { return realtime }
        if let alias = aliases[name] { return alias }
        return (1..<32).first { signal in
            clinux_signal_name(signal).map { String(cString: $0) == name } ?? false
        }
    }

    /// Second names that kill(1) and signal(7) have.
    private static let aliases: [String: Int32] = ["IOT": 6, "CLD": 17, "IO": 29, "POLL": 29]

    /// A number without a sign.
    private static func digits(_ text: some StringProtocol) -> Int32? {
        text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int32(text) : nil
    }

    /// "SIGTERM" for 15.
    static func name(of number: Int32) -> String {
        if let name = clinux_signal_name(number) { return "SIG" + String(cString: name) }
        let offset = number - clinux_first_realtime_signal()
        if offset == 0 { return "SIGRTMIN" }
        return offset > 0 ? "SIGRTMIN+\(offset)" : "SIG\(number)"
    }

    private static func realtimeNumber(of name: String) -> Int32? {
        let first = clinux_first_realtime_signal()
        let last = clinux_last_realtime_signal()
        let number: Int32?
        if name == "RTMIN" {
            number = first
        } else if name == "RTMAX" {
            number = last
        } else if name.hasPrefix("RTMIN+") {
            number = digits(name.dropFirst(6)).map { first &+ $0 }
        } else if name.hasPrefix("RTMAX-") {
            number = digits(name.dropFirst(6)).map { last &- $0 }
        } else {
            return nil
        }
        return number.flatMap { (first...last).contains($0) ? $0 : nil }
    }
}
