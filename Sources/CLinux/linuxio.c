#define _GNU_SOURCE
#include "linuxio.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <linux/types.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

// --- epoll

int clinux_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

static int epoll_change(int epoll, int op, int fd, uint32_t events, uint64_t token) {
    struct epoll_event event = {.events = events, .data.u64 = token};
    return epoll_ctl(epoll, op, fd, &event);
}

int clinux_epoll_add(int epoll, int fd, uint32_t events, uint64_t token) {
    return epoll_change(epoll, EPOLL_CTL_ADD, fd, events, token);
}

int clinux_epoll_modify(int epoll, int fd, uint32_t events, uint64_t token) {
    return epoll_change(epoll, EPOLL_CTL_MOD, fd, events, token);
}

int clinux_epoll_remove(int epoll, int fd) {
    return epoll_change(epoll, EPOLL_CTL_DEL, fd, 0, 0);
}

int clinux_epoll_wait(int epoll, struct clinux_event *events, int capacity, int64_t timeout_ns) {
    enum { LARGEST = 64 };
    static bool only_milliseconds = false;
    struct epoll_event batch[LARGEST];
    if (capacity > LARGEST) capacity = LARGEST;
    int count = -1;
    if (!only_milliseconds) {
        struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        count = (int)syscall(
            SYS_epoll_pwait2, epoll, batch, capacity, timeout_ns < 0 ? NULL : &timeout, NULL, 0);
        if (count < 0 && (errno == ENOSYS || errno == EPERM)) only_milliseconds = true;
    }
    if (only_milliseconds) {
        int64_t milliseconds = timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000;
        if (milliseconds > 86400000) milliseconds = 86400000;
        count = epoll_wait(epoll, batch, capacity, (int)milliseconds);
    }
    if (count < 0) return errno == EINTR ? 0 : -1;
    for (int i = 0; i < count; i++) {
        events[i].token = batch[i].data.u64;
        events[i].events = batch[i].events;
    }
    return count;
}

void clinux_await_readable(int fd, int64_t timeout_ns) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    ppoll(&one, 1, &timeout, NULL);
}

// --- Signals

int clinux_signalfd(const int *signals, size_t count) {
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < count; i++) sigaddset(&set, signals[i]);
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error != 0) {
        errno = error;
        return -1;
    }
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int clinux_signalfd_next(int fd) {
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof info) != sizeof info) return 0;
    return (int)info.ssi_signo;
}

void clinux_ignore_signals(void) {
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
}

const char *clinux_signal_name(int signal) {
    return signal > 0 && signal < 32 ? sigabbrev_np(signal) : NULL;
}

int clinux_first_realtime_signal(void) { return SIGRTMIN; }
int clinux_last_realtime_signal(void) { return SIGRTMAX; }

// --- Children

int clinux_reap(int pidfd, bool wait, struct clinux_exit *result) {
    siginfo_t info = {0};
    struct rusage usage = {0};
    // Glibc's waitid has no rusage; the system call does.
    long status;
    do {
        status = syscall(
            SYS_waitid, P_PIDFD, pidfd, &info, WEXITED | (wait ? 0 : WNOHANG), &usage);
    } while (status < 0 && errno == EINTR);
    if (status < 0) return -1;
    if (info.si_pid == 0) return 0;
    result->code = info.si_code;
    result->status = info.si_status;
    result->cpu_us = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                     (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    result->peak_bytes = (uint64_t)usage.ru_maxrss * 1024;
    return 1;
}

pid_t clinux_ended_child(void) {
    siginfo_t info = {0};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0) return 0;
    return info.si_pid;
}

void clinux_reap_child(pid_t pid) {
    siginfo_t info;
    while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 && errno == EINTR) continue;
}

void clinux_reap_orphan(pid_t pid) {
    siginfo_t info;
    waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG);
}

int clinux_message_queue_limit(pid_t pid, uint64_t *limit) {
    char path[32], text[4096];
    snprintf(path, sizeof path, "/proc/%d/limits", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t count = read(fd, text, sizeof text - 1);
    close(fd);
    if (count <= 0) return -1;
    text[count] = 0;
    static const char name[] = "Max msgqueue size";
    const char *line = strstr(text, name);
    if (line == NULL) return -1;
    // "unlimited" is no number, and no mark.
    *limit = strtoull(line + sizeof name - 1, NULL, 10);
    return 0;
}

int clinux_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int clinux_pidfd_signal(int pidfd, int signal) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

int clinux_become_subreaper(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

// --- Pipes and terminals

int clinux_pipe(int ends[2], bool nonblocking_read, bool nonblocking_write) {
    bool both = nonblocking_read && nonblocking_write;
    if (pipe2(ends, O_CLOEXEC | (both ? O_NONBLOCK : 0)) != 0) return -1;
    if (!both && nonblocking_read) fcntl(ends[0], F_SETFL, O_NONBLOCK);
    if (!both && nonblocking_write) fcntl(ends[1], F_SETFL, O_NONBLOCK);
    return 0;
}

int clinux_grow_pipe(int fd, int bytes) { return fcntl(fd, F_SETPIPE_SZ, bytes); }

int64_t clinux_discard(int pipe, int null) {
    enum { LARGEST_PIPE_BYTES = 1 << 20 };
    ssize_t count;
    do {
        count = splice(pipe, NULL, null, NULL, LARGEST_PIPE_BYTES, SPLICE_F_NONBLOCK);
    } while (count < 0 && errno == EINTR);
    return count < 0 && errno == EAGAIN ? INT64_MAX : count;
}

int clinux_open_null(void) { return open("/dev/null", O_WRONLY | O_CLOEXEC); }

int clinux_random(void *buffer, size_t count) {
    return getrandom(buffer, count, 0) == (ssize_t)count ? 0 : -1;
}

int clinux_open_terminal(int ends[2], uint16_t columns, uint16_t rows) {
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (master < 0) return -1;
    int unlocked = 0;
    int terminal = -1;
    if (ioctl(master, TIOCSPTLCK, &unlocked) == 0)
        terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0 || clinux_resize_terminal(master, columns, rows) != 0) {
        int saved = errno;
        if (terminal >= 0) close(terminal);
        close(master);
        errno = saved;
        return -1;
    }
    ends[0] = master;
    ends[1] = terminal;
    return 0;
}

int clinux_resize_terminal(int master, uint16_t columns, uint16_t rows) {
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    return ioctl(master, TIOCSWINSZ, &size);
}

// --- Unix sockets

static int unix_address(const char *path, struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address->sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address->sun_path, path);
    return 0;
}

int clinux_listen_unix(const char *path, mode_t mode) {
    struct sockaddr_un address;
    if (unix_address(path, &address) != 0) return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    unlink(path);
    mode_t previous = umask(0777 & ~mode);
    int status = bind(fd, (struct sockaddr *)&address, sizeof address);
    umask(previous);
    if (status != 0 || listen(fd, 64) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

int clinux_accept(int fd) { return accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); }

int clinux_peer_uid(int fd, uid_t *uid) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return -1;
    *uid = peer.uid;
    return 0;
}

int clinux_peer_pidfd(int fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return -1;
    if (peer.pid <= 0 || peer.pid == getpid()) return -1;
    int pidfd = -1;
    size = sizeof pidfd;
    // From Linux 6.5 the kernel knows the process that connected, whatever has its number now.
    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0) return pidfd;
    return clinux_pidfd_open(peer.pid);
}

ssize_t clinux_send(int fd, const void *bytes, size_t count, int descriptor) {
    struct iovec part = {(void *)bytes, count};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor >= 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &descriptor, sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent;
}

// --- Programs

int clinux_spawn_detached(const char *path, char *const *argv, int output, pid_t *pid) {
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    int error = posix_spawnattr_init(&attributes);
    if (error != 0) return error;
    error = posix_spawn_file_actions_init(&actions);
    if (error != 0) {
        posix_spawnattr_destroy(&attributes);
        return error;
    }
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
    error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (error == 0) error = posix_spawn_file_actions_adddup2(&actions, output, 1);
    // Not every descriptor of a library is close-on-exec.
    if (error == 0) error = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    if (error == 0) error = posix_spawn(pid, path, &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return error;
}
