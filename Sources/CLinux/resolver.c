// The resolver: a process that looks users up, and looks at directories. NSS modules run code of the host's own, which may
// block for ever or abort the process, and a file system may not answer: here that costs one
// answer. Forked by the launcher, which has little memory and nobody's data. Knows no cache and no
// time limit.
#define _GNU_SOURCE
#include "resolver.h"

#include "launching.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    RESOLVER_SOCKET = 3,
    LARGEST_ENTRY_BYTES = 1 << 20,
    LARGEST_TEXT_BYTES = 4096,
};

static union {
    struct clinux_user head;
    char bytes[CLINUX_USER_BYTES];
} answer;

static union {
    struct clinux_resolver_request head;
    char bytes[CLINUX_USER_BYTES + 1];
} request;

static gid_t groups[CLINUX_MOST_GROUPS];

static int append(size_t *used, const void *bytes, size_t count) {
    if (count > sizeof answer.bytes - *used) return ERANGE;
    memcpy(answer.bytes + *used, bytes, count);
    *used += count;
    return 0;
}

/// Fills the answer in; 0 or an errno.
static int describe(
    const char *name, uid_t uid, gid_t gid, const char *home, const char *shell,
    int group_count, size_t *used) {
    if (home == NULL || home[0] == 0) home = "/";
    if (shell == NULL || shell[0] == 0) shell = "/bin/sh";
    if (strlen(name) > LARGEST_TEXT_BYTES || strlen(home) > LARGEST_TEXT_BYTES ||
        strlen(shell) > LARGEST_TEXT_BYTES)
        return ERANGE;
    answer.head.uid = uid;
    answer.head.gid = gid;
    answer.head.group_count = (uint32_t)group_count;
    answer.head.name_bytes = (uint32_t)strlen(name);
    answer.head.home_bytes = (uint32_t)strlen(home);
    answer.head.shell_bytes = (uint32_t)strlen(shell);
    int error = append(used, groups, sizeof(gid_t) * (size_t)group_count);
    if (error == 0) error = append(used, name, strlen(name));
    if (error == 0) error = append(used, home, strlen(home));
    if (error == 0) error = append(used, shell, strlen(shell));
    return error;
}

/// A number that no user has: a user without a home and with one group.
static int describe_number(uid_t uid, gid_t gid, size_t *used) {
    char name[16];
    snprintf(name, sizeof name, "%u", (unsigned)uid);
    groups[0] = gid;
    return describe(name, uid, gid, NULL, NULL, 1, used);
}

static int describe_entry(const struct passwd *entry, size_t *used) {
    int count = CLINUX_MOST_GROUPS;
    if (getgrouplist(entry->pw_name, entry->pw_gid, groups, &count) < 0) return E2BIG;
    return describe(
        entry->pw_name, entry->pw_uid, entry->pw_gid, entry->pw_dir, entry->pw_shell, count,
        used);
}

/// The entry of `name`, or of `uid` where `name` is NULL: 1; 0 where there is none.
static int find(const char *name, uid_t uid, struct passwd *entry, char **buffer) {
    for (size_t size = 4096; size <= LARGEST_ENTRY_BYTES; size *= 4) {
        free(*buffer);
        *buffer = malloc(size);
        if (*buffer == NULL) return 0;
        struct passwd *found = NULL;
        int error = name != NULL ? getpwnam_r(name, entry, *buffer, size, &found)
                                 : getpwuid_r(uid, entry, *buffer, size, &found);
        if (error == ERANGE) continue;
        return error == 0 && found != NULL;
    }
    return 0;
}

static bool is_number(const char *text, uid_t *uid) {
    if (text[0] == 0 || strspn(text, "0123456789") != strlen(text) || strlen(text) > 10)
        return false;
    unsigned long long value = strtoull(text, NULL, 10);
    *uid = (uid_t)value;
    return value < (uid_t)-1;
}

static int look_up(const char *text, char **buffer, size_t *used) {
    struct passwd entry;
    uid_t uid = geteuid();
    if (text[0] == 0) {
        if (find(NULL, uid, &entry, buffer)) return describe_entry(&entry, used);
        return describe_number(uid, getegid(), used);
    }
    if (find(text, 0, &entry, buffer)) return describe_entry(&entry, used);
    if (!is_number(text, &uid)) return ENOENT;
    if (find(NULL, uid, &entry, buffer)) return describe_entry(&entry, used);
    return describe_number(uid, (gid_t)uid, used);
}

/// Whether the user of the request can enter a directory: 0 or an errno.
static int look_at(const char *path) {
    bool is_root = geteuid() == 0;
    if (is_root) {
        // The kernel keeps them for each process alone, and this one has no other use for them.
        syscall(SYS_setgroups, (size_t)request.head.group_count, &request.head + 1);
        setfsgid(request.head.gid);
        setfsuid(request.head.uid);
    }
    int error = 0;
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        error = errno;
    } else {
        // Searching it is what chdir asks for.
        int inside = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (inside < 0) error = errno;
        else close(inside);
        close(fd);
    }
    if (is_root) {
        setfsuid(geteuid());
        setfsgid(getegid());
    }
    return error;
}

/// Receives a request: the text of it, or NULL where there is none.
static const char *next_request(void) {
    ssize_t received;
    do {
        received = recv(RESOLVER_SOCKET, request.bytes, sizeof request.bytes - 1, 0);
    } while (received < 0 && errno == EINTR);
    size_t fixed = sizeof request.head;
    if (received < (ssize_t)fixed || request.head.group_count > CLINUX_MOST_GROUPS) return NULL;
    fixed += sizeof(gid_t) * request.head.group_count;
    if (received < (ssize_t)fixed) return NULL;
    request.bytes[received] = 0;
    return request.bytes + fixed;
}

/// The supervisor ends a resolver by its pidfd: a number may be used again.
static void introduce(void) {
    struct clinux_user hello = {0};
    int own = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (own < 0 ||
        clinux_transmit(RESOLVER_SOCKET, &hello, sizeof hello, &own, 1) < 0)
        _exit(1);
    close(own);
}

_Noreturn void clinux_resolver_main(int socket, pid_t launcher) {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != launcher) _exit(0);
    clinux_rename_process("procgate-resolver");
    if (socket != RESOLVER_SOCKET && dup3(socket, RESOLVER_SOCKET, O_CLOEXEC) < 0) _exit(1);
    if (syscall(SYS_close_range, RESOLVER_SOCKET + 1, ~0U, 0) != 0) {
        for (int fd = RESOLVER_SOCKET + 1; fd < 1024; fd++) close(fd);
    }
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    clinux_block_signals(false);
    // A module that aborts leaves no image of this process behind.
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    introduce();
    char *buffer = NULL;
    for (;;) {
        const char *text = next_request();
        if (text == NULL) _exit(0);
        memset(&answer.head, 0, sizeof answer.head);
        answer.head.number = request.head.number;
        size_t used = sizeof answer.head;
        answer.head.error =
            request.head.is_directory ? look_at(text) : look_up(text, &buffer, &used);
        if (answer.head.error != 0) used = sizeof answer.head;
        if (clinux_transmit(RESOLVER_SOCKET, answer.bytes, used, NULL, 0) < 0) _exit(0);
    }
}

// --- In the supervisor

int clinux_resolver_start(int control) {
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) != 0)
        return -1;
    // Only this side must not block. One answer is one message.
    int room = 4 * CLINUX_USER_BYTES;
    fcntl(sockets[1], F_SETFL, 0);
    for (int i = 0; i < 2; i++)
        setsockopt(sockets[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    ssize_t sent = clinux_transmit(control, "r", 1, &sockets[1], 1);
    int saved = errno;
    close(sockets[1]);
    if (sent == 1) return sockets[0];
    close(sockets[0]);
    errno = saved;
    return -1;
}

static int ask(
    int socket, struct clinux_resolver_request head, const gid_t *user_groups,
    const char *text) {
    size_t group_bytes = sizeof(gid_t) * head.group_count;
    struct iovec parts[] = {
        {&head, sizeof head}, {(void *)user_groups, group_bytes}, {(void *)text, strlen(text)}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
    ssize_t sent;
    do {
        sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -1 : 0;
}

int clinux_resolver_ask_user(int socket, uint64_t number, const char *name) {
    return ask(socket, (struct clinux_resolver_request){.number = number}, NULL, name);
}

int clinux_resolver_ask_directory(
    int socket, uint64_t number, const char *path, uid_t uid, gid_t gid,
    const gid_t *user_groups, size_t group_count) {
    struct clinux_resolver_request head = {
        .number = number,
        .is_directory = 1,
        .uid = uid,
        .gid = gid,
        .group_count = group_count > CLINUX_MOST_GROUPS ? 0 : (uint32_t)group_count,
    };
    return ask(socket, head, user_groups, path);
}

ssize_t clinux_resolver_answer(int socket, void *bytes, size_t size, int *pidfd) {
    int descriptors[MOST_DESCRIPTORS];
    int count = 0;
    ssize_t received = clinux_receive(socket, bytes, size, descriptors, &count, MSG_DONTWAIT);
    *pidfd = count > 0 ? descriptors[0] : -1;
    for (int i = 1; i < count; i++) close(descriptors[i]);
    if (received == 0) errno = EPIPE;
    return received > 0 ? received : -1;
}
