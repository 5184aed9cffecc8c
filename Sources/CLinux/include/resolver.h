// The resolver: a process that asks the host for users and looks at directories, since that may
// block or abort. Its socket carries one request and one answer at a time.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    /// The longest name that is asked for, without its NUL.
    CLINUX_NAME_BYTES = 256,
    CLINUX_MOST_GROUPS = 16384,
    /// An answer: its head, the groups, and three texts.
    CLINUX_USER_BYTES = 96 * 1024,
};

/// The head of a request. A user's name follows, or the path of a directory; before the path, the
/// groups (gid_t) of the user who is to enter it.
struct clinux_resolver_request {
    uint64_t number;
    /// Not a user but a directory.
    uint32_t is_directory;
    uint32_t uid;
    uint32_t gid;
    uint32_t group_count;
};

/// The head of an answer. `group_count` groups (gid_t) follow, then the name, the home and the
/// login shell, without NULs.
struct clinux_user {
    /// That of the request; 0 in the message by which a resolver introduces itself.
    uint64_t number;
    /// 0; ENOENT where there is no such user; another errno where it cannot be told. Of a
    /// directory: 0, or why it cannot be entered; nothing else is set then.
    int32_t error;
    uint32_t uid;
    uint32_t gid;
    uint32_t group_count;
    uint32_t name_bytes;
    uint32_t home_bytes;
    uint32_t shell_bytes;
};

/// Has the launcher behind `control` fork a resolver. Its socket, non-blocking, or -1 with errno.
int clinux_resolver_start(int control);
/// Asks for the user of that name, or else of that number; an empty name is the own user.
int clinux_resolver_ask_user(int socket, uint64_t number, const char *name);
/// Asks whether a user can enter a directory.
int clinux_resolver_ask_directory(
    int socket, uint64_t number, const char *path, uid_t uid, gid_t gid, const gid_t *groups,
    size_t group_count);
/// The next message in `bytes`: its length, or -1 with errno, EAGAIN where there is none yet and
/// EPIPE where the resolver has gone. The first one brings the resolver's pidfd.
ssize_t clinux_resolver_answer(int socket, void *bytes, size_t size, int *pidfd);
