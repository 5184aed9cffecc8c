// The keys that leave a session: ^P^Q, as users of containers know them. Bytes alone.

struct DetachKeys {
    static let first: UInt8 = 0x10
    static let second: UInt8 = 0x11

    /// A ^P that came last is kept back until it is known what follows.
    private var holdsFirst = false

    /// What is to be passed on of what was typed, and whether ^P^Q came; what follows it is lost.
    mutating func take(_ typed: [UInt8]) -> (pass: [UInt8], detach: Bool) {
        var pass: [UInt8] = []
        for byte in typed {
            if holdsFirst {
                if byte == Self.second { return (pass, true) }
                pass.append(Self.first)
                holdsFirst = false
            }
            if byte == Self.first {
                holdsFirst = true
            } else {
                pass.append(byte)
            }
        }
        return (pass, false)
    }

    /// What was kept back, where nothing follows any more.
    mutating func rest() -> [UInt8] {
        defer { holdsFirst = false }
        return holdsFirst ? [Self.first] : []
    }
}
