// What epoll, signalfd, pidfd, pipes, terminals and unix sockets need beyond Glibc's
// Swift module. Each function is one system call, or the few that make one step; where
// nothing else is said it returns -1 with errno set when it fails. Every descriptor made
// here is close-on-exec from birth.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// An event of a poll: `token` as it was given to clinux_epoll_add.
struct clinux_event {
    uint64_t token;
    uint32_t events;
};

enum {
    CLINUX_EPOLLIN = 0x001,
    CLINUX_EPOLLPRI = 0x002,
    CLINUX_EPOLLOUT = 0x004,
    CLINUX_EPOLLERR = 0x008,
    CLINUX_EPOLLHUP = 0x010,
    CLINUX_EPOLLRDHUP = 0x2000,
};
#define CLINUX_EPOLLET (UINT32_C(1) << 31)

int clinux_epoll_create(void);
int clinux_epoll_add(int epoll, int fd, uint32_t events, uint64_t token);
int clinux_epoll_modify(int epoll, int fd, uint32_t events, uint64_t token);
int clinux_epoll_remove(int epoll, int fd);
/// Waits at most `timeout_ns`; below zero is without end. EINTR gives 0 events.
int clinux_epoll_wait(int epoll, struct clinux_event *events, int capacity, int64_t timeout_ns);

/// Waits until `fd` can be read, at most `timeout_ns`.
void clinux_await_readable(int fd, int64_t timeout_ns);

/// A signalfd for these signals, which the calling thread blocks from now on.
int clinux_signalfd(const int *signals, size_t count);
/// The next signal's number, or 0 where there is none.
int clinux_signalfd_next(int fd);
/// Ignores SIGPIPE, SIGHUP and SIGINT.
void clinux_ignore_signals(void);

/// How a child ended: `code` is CLD_EXITED, CLD_KILLED or CLD_DUMPED.
struct clinux_exit {
    int code;
    int status;
    uint64_t cpu_us;
    uint64_t peak_bytes;
};

/// Reaps the child behind `pidfd`. 1 where it was reaped, 0 where it runs still.
int clinux_reap(int pidfd, bool wait, struct clinux_exit *result);
/// A child that has ended and is still to be reaped: its pid, or 0.
pid_t clinux_ended_child(void);
/// Waits for the end of the child `pid`, and reaps it.
void clinux_reap_child(pid_t pid);
/// Reaps the child `pid` where it has ended.
void clinux_reap_orphan(pid_t pid);
int clinux_pidfd_open(pid_t pid);
/// The soft RLIMIT_MSGQUEUE of any process, in bytes, from /proc: prlimit would ask for
/// privileges.
int clinux_message_queue_limit(pid_t pid, uint64_t *limit);
int clinux_pidfd_signal(int pidfd, int signal);
/// Makes this process the parent of orphans among its descendants.
int clinux_become_subreaper(void);

/// Both ends non-blocking where `nonblocking_read` or `nonblocking_write` say so.
int clinux_pipe(int ends[2], bool nonblocking_read, bool nonblocking_write);
int clinux_grow_pipe(int fd, int bytes);
/// Drops what a pipe holds without copying it; `null` is /dev/null, open for writing. The bytes
/// that were dropped; 0 at the pipe's end; INT64_MAX where it is empty; -1 with errno.
int64_t clinux_discard(int pipe, int null);
int clinux_open_null(void);
int clinux_random(void *buffer, size_t count);

/// A new pseudo-terminal: its non-blocking master in `ends[0]`, its terminal in `ends[1]`.
int clinux_open_terminal(int ends[2], uint16_t columns, uint16_t rows);
int clinux_resize_terminal(int master, uint16_t columns, uint16_t rows);

/// A non-blocking listening unix socket. `path` is removed first.
int clinux_listen_unix(const char *path, mode_t mode);
int clinux_accept(int fd);
/// The uid of a unix socket's peer.
int clinux_peer_uid(int fd, uid_t *uid);
/// A pidfd of a unix socket's peer; -1 where it is this process, or the host cannot tell.
int clinux_peer_pidfd(int fd);
/// Sends bytes without SIGPIPE, and with them `descriptor` where it is not negative.
ssize_t clinux_send(int fd, const void *bytes, size_t count, int descriptor);

/// "TERM" for SIGTERM; NULL for a real-time signal or none at all.
const char *clinux_signal_name(int signal);
int clinux_first_realtime_signal(void);
int clinux_last_realtime_signal(void);

/// Starts `path` in a session of its own, with no signal blocked, with /dev/null as its standard
/// input, `output` as its standard output, this process's standard error, and no other
/// descriptor. Returns 0 or an errno.
int clinux_spawn_detached(const char *path, char *const *argv, int output, pid_t *pid);
