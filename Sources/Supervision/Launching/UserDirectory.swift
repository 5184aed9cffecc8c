// Users of the host by name or number, with their groups. Looks them up by Glibc, and
// remembers an answer for a moment. Knows no policy.

import Glibc
import LinuxIO

/// A user as a process becomes it.
struct UserRecord: Equatable {
    var name: String
    var uid: uid_t
    var gid: gid_t
    var home: String
    /// The login shell.
    var shell: String
    /// Supplementary groups, the primary one among them.
    var groups: [gid_t]
}

struct UserDirectory {
    /// How long an answer is taken for true. A spawn rate of a thousand a second then
    /// costs one look-up.
    private static let lifetime: Duration = .seconds(1)
    private static let mostRemembered = 256

    private struct Answer {
        let user: UserRecord?
        let until: Instant
    }

    private var answers: [String: Answer] = [:]

    /// The user of that name, or else of that number; empty is who runs this. A number
    /// that nobody has is a user without a home and groups.
    mutating func user(_ text: String, now: Instant) -> UserRecord? {
        if let answer = answers[text], answer.until > now { return answer.user }
        if answers.count >= Self.mostRemembered { answers.removeAll() }
        let user = Self.lookUp(text)
        answers[text] = Answer(user: user, until: now + Self.lifetime)
        return user
    }

    private static func lookUp(_ text: String) -> UserRecord? {
        guard !text.utf8.contains(0) else { return nil }
        if text.isEmpty { return entry(uid: geteuid()) ?? nameless(geteuid(), getegid()) }
        if let user = entry(name: text) { return user }
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let uid = uid_t(text),
            uid != uid_t.max
        else { return nil }
        return entry(uid: uid) ?? nameless(uid, gid_t(uid))
    }

    private static func nameless(_ uid: uid_t, _ gid: gid_t) -> UserRecord {
        UserRecord(
            name: String(uid), uid: uid, gid: gid, home: "/", shell: "/bin/sh", groups: [gid])
    }

    private static func entry(name: String) -> UserRecord? {
        withBuffer { entry, buffer, size, result in
            getpwnam_r(name, entry, buffer, size, result)
        }
    }

    private static func entry(uid: uid_t) -> UserRecord? {
        withBuffer { entry, buffer, size, result in
            getpwuid_r(uid, entry, buffer, size, result)
        }
    }

    private typealias LookUp = (
        UnsafeMutablePointer<passwd>, UnsafeMutablePointer<CChar>, Int,
        UnsafeMutablePointer<UnsafeMutablePointer<passwd>?>
    ) -> Int32

    private static func withBuffer(_ lookUp: LookUp) -> UserRecord? {
        var size = 4096
        while size <= 1 << 20 {
            var entry = passwd()
            var result: UnsafeMutablePointer<passwd>?
            let buffer = UnsafeMutablePointer<CChar>.allocate(capacity: size)
            defer { buffer.deallocate() }
            let status = lookUp(&entry, buffer, size, &result)
            if status == ERANGE {
                size *= 4
                continue
            }
            guard status == 0, result != nil else { return nil }
            return record(entry)
        }
        return nil
    }

    private static func record(_ entry: passwd) -> UserRecord {
        let name = String(cString: entry.pw_name)
        let home = String(cString: entry.pw_dir)
        let shell = String(cString: entry.pw_shell)
        return UserRecord(
            name: name, uid: entry.pw_uid, gid: entry.pw_gid, home: home.isEmpty ? "/" : home,
            shell: shell.isEmpty ? "/bin/sh" : shell, groups: groups(of: name, gid: entry.pw_gid))
    }

    private static func groups(of name: String, gid: gid_t) -> [gid_t] {
        var count: Int32 = 64
        while true {
            let capacity = count
            var groups = [gid_t](repeating: 0, count: Int(capacity))
            if getgrouplist(name, gid, &groups, &count) >= 0 {
                return Array(groups.prefix(Int(count)))
            }
            guard count > capacity, count <= 65_536 else { return [gid] }
        }
    }
}
