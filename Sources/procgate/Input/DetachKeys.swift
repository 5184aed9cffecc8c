// The keys that leave a session, found in what is typed. Bytes alone.

struct DetachKeys {
    private let keys: [UInt8]
    /// The beginning of the keys came last: it is kept back until it is known what follows.
    private var held: [UInt8] = []

    /// - Parameter keys: At least one.
    init(_ keys: [UInt8] = DetachKeysArgument.usual.bytes) {
        self.keys = keys
    }

    var holdsBack: Bool { !held.isEmpty }

    /// What is to be passed on of what was typed, and whether the keys came; what follows them is
    /// lost.
    mutating func take(_ typed: [UInt8]) -> (pass: [UInt8], detach: Bool) {
        var pass: [UInt8] = []
        for byte in typed {
            held.append(byte)
            while !keys.starts(with: held) { pass.append(held.removeFirst()) }
            if held.count == keys.count {
                held.removeAll()
                return (pass, true)
            }
        }
        return (pass, false)
    }

    /// What was kept back, where nothing follows any more.
    mutating func rest() -> [UInt8] {
        defer { held.removeAll() }
        return held
    }
}
