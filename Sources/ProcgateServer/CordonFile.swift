// The file of the state directory that says that new processes are refused. Its presence is all
// that counts; the supervisor looks for it when it starts.

import Glibc

struct CordonFile: Sendable {
    let path: String

    init(stateDirectory: String) {
        path = stateDirectory + "/cordoned"
    }

    func keep(_ isOn: Bool) throws(GatewayError) {
        guard isOn else {
            guard unlink(path) == 0 || errno == ENOENT else { throw failure() }
            return
        }
        let raw = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard raw >= 0 else { throw failure() }
        close(raw)
    }

    private func failure() -> GatewayError {
        GatewayError("\(path): \(String(cString: strerror(errno)))")
    }
}
