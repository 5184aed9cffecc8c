// How much input the supervisor may hold: stdin that is not written yet, arguments, environments,
// labels and request keys. Pure.

/// Bytes that processes of each owner hold, against one limit for all.
///
/// One owner can fill at most three quarters of the limit, so that the others are served. A
/// sixteenth is kept for small requests, so that a caller who needs little is not refused because
/// of those who sent much.
struct InputBudget {
    /// A request of at most this many bytes is small.
    static let smallBytes = 64 << 10

    let limitBytes: Int
    private(set) var usedBytes = 0
    private var usedByOwner: [String: Int] = [:]

    init(limitBytes: Int) {
        self.limitBytes = limitBytes
    }

    /// Takes `bytes` for `owner`. Returns `false`, and takes nothing, where they exceed the limit.
    mutating func take(_ bytes: Int, owner: String) -> Bool {
        guard bytes > 0 else { return true }
        let reserve = limitBytes / 16
        let isSmall = bytes <= Self.smallBytes
        let mostOfAll = isSmall ? limitBytes : limitBytes - reserve
        let own = usedByOwner[owner] ?? 0
        let share = limitBytes / 4 * 3
        // The first request of an owner may be as large as the limit allows.
        let mostOfOne = own == 0 ? mostOfAll : isSmall ? share + reserve : share
        guard bytes <= mostOfAll - usedBytes, bytes <= mostOfOne - own else { return false }
        usedBytes += bytes
        usedByOwner[owner] = own + bytes
        return true
    }

    mutating func giveBack(_ bytes: Int, owner: String) {
        guard bytes > 0 else { return }
        usedBytes -= bytes
        let left = (usedByOwner[owner] ?? 0) - bytes
        usedByOwner[owner] = left > 0 ? left : nil
    }
}
