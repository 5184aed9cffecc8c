// The end of a call whose time has run out.

extension ServerCall: DeadlineHolder {
    func deadlineReached() {
        // An answer that waits for room in the caller's window is late, too.
        guard !isOver else { return abandonAnswer() }
        cancel(.deadline, GRPCStatus(.deadlineExceeded, "the deadline passed"))
    }
}
