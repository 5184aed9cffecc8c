// Texts of strangers, cut to a length. In bytes: a single character of Swift's may have a
// megabyte of combining marks.

extension String {
    /// The text, or as many of its first scalars as fit `limit` bytes of UTF-8.
    public func cut(toBytes limit: Int) -> String {
        guard utf8.count > limit else { return self }
        var end = utf8.index(startIndex, offsetBy: max(limit, 0))
        while end > startIndex, end.samePosition(in: unicodeScalars) == nil {
            end = utf8.index(before: end)
        }
        return String(unicodeScalars[..<end])
    }
}
