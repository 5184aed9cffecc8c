// Segments that a log has given up, and the links that may still read them. Pure.

struct RetiredSegments {
    private var readers: [UInt64: Set<UInt64>] = [:]

    var isEmpty: Bool { readers.isEmpty }

    /// A segment was retired while these links follow the log. Returns whether it is
    /// free at once.
    mutating func retire(_ ordinal: UInt64, followers: some Sequence<UInt64>) -> Bool {
        let links = Set(followers)
        if links.isEmpty { return true }
        readers[ordinal] = links
        return false
    }

    /// A link has left the segment. Returns whether it is free now.
    mutating func acknowledge(_ ordinal: UInt64, by link: UInt64) -> Bool {
        guard readers[ordinal]?.remove(link) != nil, readers[ordinal]?.isEmpty == true else {
            return false
        }
        readers[ordinal] = nil
        return true
    }

    /// A link follows the log no more. Returns the segments that are free now.
    mutating func drop(_ link: UInt64) -> [UInt64] {
        readers.keys.filter { acknowledge($0, by: link) }
    }
}
