// Who may connect to a unix socket: its owner and its group.

import Glibc

enum SocketMode {
    /// Makes the socket at `path` 0660.
    static func restrict(_ path: String) {
        // A failure leaves it to its owner alone.
        _ = chmod(path, 0o660)
    }
}
