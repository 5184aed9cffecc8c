// Where a gateway keeps its token and state unless it is told: one directory for each
// user, which nobody else can enter.

import Glibc

enum RuntimeDirectory {
    /// `$XDG_RUNTIME_DIR/procgate`, or `/run/procgate` for root. Throws where there is
    /// neither. A path that is not absolute is none, as the XDG specification has it.
    static func path() throws(Failure) -> String {
        if let directory = environment("XDG_RUNTIME_DIR"), directory.hasPrefix("/") {
            return directory + "/procgate"
        }
        guard geteuid() == 0 else {
            let isSet = environment("XDG_RUNTIME_DIR") != nil
            throw Failure(
                "XDG_RUNTIME_DIR is "
                    + (isSet ? "no absolute path: set it to one" : "not set: set it to a directory")
                    + ", or give --state-directory and --token-file")
        }
        return "/run/procgate"
    }

    /// Makes `path` and what is above it, 0700, where it is not there. Throws where it is
    /// another user's or open to others.
    /// - Parameter option: What names another one.
    static func make(_ path: String, option: String = "--state-directory") throws(Failure) {
        var facts = stat()
        if stat(path, &facts) != 0 {
            guard errno == ENOENT else { throw failure(path) }
            if let cut = path.lastIndex(of: "/"), cut != path.startIndex {
                try makeParents(String(path[..<cut]))
            }
            guard mkdir(path, 0o700) == 0 || errno == EEXIST else { throw failure(path) }
            guard stat(path, &facts) == 0 else { throw failure(path) }
        }
        guard facts.st_mode & S_IFMT == S_IFDIR else {
            throw Failure("\(path): not a directory")
        }
        guard facts.st_uid == geteuid() else {
            throw Failure("\(path): belongs to another user; name another by \(option)")
        }
        guard facts.st_mode & 0o077 == 0 else {
            throw Failure("\(path): open to other users; chmod 700 it")
        }
    }

    private static func makeParents(_ path: String) throws(Failure) {
        guard mkdir(path, 0o700) != 0, errno != EEXIST else { return }
        guard errno == ENOENT, let cut = path.lastIndex(of: "/"), cut != path.startIndex else {
            throw failure(path)
        }
        try makeParents(String(path[..<cut]))
        guard mkdir(path, 0o700) == 0 || errno == EEXIST else { throw failure(path) }
    }

    private static func failure(_ path: String) -> Failure {
        Failure("\(path): \(String(cString: strerror(errno)))")
    }
}

/// `path` as it is from the root: the supervisor has another working directory.
func absolute(_ path: String) -> String {
    guard !path.hasPrefix("/") else { return path }
    guard let directory = getcwd(nil, 0) else { return path }
    defer { free(directory) }
    return String(cString: directory) + "/" + path
}
