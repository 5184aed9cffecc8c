// The launcher process, and the supervisor's calls to it. Its main thread forks resolvers; its
// other threads each make one child at a time, so that a child that hangs before its execve holds
// up no other.
#define _GNU_SOURCE
#include "launching.h"

#include "heap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    /// Where the launcher keeps its two sockets; everything else is closed.
    LAUNCH_SOCKET = 3,
    CONTROL_SOCKET = 4,
    THREAD_STACK_BYTES = 64 * 1024,
    /// Threads that wait for a launch; one that finds so many waiting ends.
    MOST_IDLE_THREADS = 4,
};

ssize_t clinux_receive(
    int socket, void *bytes, size_t size, int *descriptors, int *count, int flags) {
    struct iovec part = {bytes, size};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * MOST_DESCRIPTORS)];
    } control;
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    ssize_t received;
    do {
        received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
    } while (received < 0 && errno == EINTR);
    *count = 0;
    struct cmsghdr *header = received > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
        *count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(descriptors, CMSG_DATA(header), sizeof(int) * (size_t)*count);
    }
    return received;
}

ssize_t clinux_transmit(
    int socket, const void *bytes, size_t size, const int *descriptors, int count) {
    struct iovec part = {(void *)bytes, size};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * MOST_DESCRIPTORS)];
    } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
        memcpy(CMSG_DATA(&control.header), descriptors, sizeof(int) * (size_t)count);
    }
    ssize_t sent;
    do {
        sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent;
}

void clinux_rename_process(const char *name) {
    prctl(PR_SET_NAME, name, 0, 0, 0);
    char arguments[4096];
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t size = read(fd, arguments, sizeof arguments);
    close(fd);
    if (size < (ssize_t)strlen(name) + 1) return;
    memset(program_invocation_name, 0, (size_t)size);
    memcpy(program_invocation_name, name, strlen(name));
}

// --- Threads that launch

/// What the threads share. Set before the first of them starts.
static struct {
    struct clinux_launcher *launcher;
    pid_t supervisor;
    uint64_t ignored_signals;
    /// Threads that wait for a request.
    atomic_int idle;
} work;

static bool start_thread(void);

static void launch(uint32_t slot, struct child *child, int count, char *stack) {
    struct clinux_launch *launch =
        (void *)((char *)work.launcher->slots + work.launcher->slot_bytes * slot);
    child->launch = launch;
    int expected = launch->has_terminal + launch->has_stdin + launch->has_stdout +
                   launch->has_stderr + launch->has_cgroup;
    int cgroup = launch->has_cgroup && count > 0 ? child->descriptors[count - 1] : -1;
    int pidfd = -1;
    // Without room for all of them here, some were lost on the way.
    if (__atomic_load_n(&launch->is_cancelled, __ATOMIC_ACQUIRE)) errno = ECANCELED;
    else if (count == expected) pidfd = clinux_make_child(child, stack, cgroup);
    else errno = EMFILE;
    if (pidfd < 0) {
        launch->step = CLINUX_STEP_CLONE;
        launch->error = errno;
    }
    // Before the supervisor hears of the command: whoever closes a pipe then is its last holder.
    for (int i = 0; i < count; i++) close(child->descriptors[i]);
    ssize_t sent = clinux_transmit(LAUNCH_SOCKET, &slot, sizeof slot, &pidfd, pidfd >= 0);
    if (pidfd >= 0) close(pidfd);
    if (sent < 0) _exit(0);
}

static void *thread_main(void *unused) {
    (void)unused;
    char *stack = mmap(
        NULL, CHILD_STACK_BYTES, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        atomic_fetch_sub(&work.idle, 1);
        return NULL;
    }
    struct child child = {
        .supervisor = work.supervisor, .ignored_signals = work.ignored_signals};
    for (;;) {
        uint32_t slot = 0;
        int count = 0;
        ssize_t received =
            clinux_receive(LAUNCH_SOCKET, &slot, sizeof slot, child.descriptors, &count, 0);
        if (received != sizeof slot || slot >= CLINUX_LAUNCH_SLOTS) _exit(0);
        // Somebody else waits for the next request before this one is begun: it may hang.
        if (atomic_fetch_sub(&work.idle, 1) == 1) start_thread();
        launch(slot, &child, count, stack);
        if (atomic_fetch_add(&work.idle, 1) >= MOST_IDLE_THREADS) {
            atomic_fetch_sub(&work.idle, 1);
            munmap(stack, CHILD_STACK_BYTES);
            return NULL;
        }
    }
}

/// Where no thread can be made, those that there are take the next request when they are done.
static bool start_thread(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    if (pthread_attr_init(&attributes) != 0) return false;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    atomic_fetch_add(&work.idle, 1);
    bool started = pthread_create(&thread, &attributes, thread_main, NULL) == 0;
    if (!started) atomic_fetch_sub(&work.idle, 1);
    pthread_attr_destroy(&attributes);
    return started;
}

// --- The main thread

/// Moves the two sockets to their places and closes all other descriptors.
static void settle_descriptors(int launches, int control) {
    int high[2] = {
        fcntl(launches, F_DUPFD_CLOEXEC, 16), fcntl(control, F_DUPFD_CLOEXEC, 16)};
    int null = open("/dev/null", O_RDWR);
    if (high[0] < 0 || high[1] < 0 || null < 0) _exit(1);
    for (int i = 0; i < 3; i++) dup2(null, i);
    if (dup3(high[0], LAUNCH_SOCKET, O_CLOEXEC) < 0 ||
        dup3(high[1], CONTROL_SOCKET, O_CLOEXEC) < 0)
        _exit(1);
    if (syscall(SYS_close_range, 5, ~0U, 0) != 0) {
        for (int fd = 5; fd < 1024; fd++) close(fd);
    }
}

static _Noreturn void launcher_main(
    struct clinux_launcher *launcher, int launches, int control, pid_t parent) {
    clinux_block_signals(true);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent) _exit(0);
    clinux_rename_process("procgate-launcher");
    settle_descriptors(launches, control);
    clinux_set_oom_score(launcher->oom_score);
    // The supervisor has raised its own by the time that another launcher is forked.
    setrlimit(RLIMIT_NOFILE, &launcher->descriptor_limit);
    // Resolvers are children of this process, and are not waited for.
    signal(SIGCHLD, SIG_IGN);
    // What the supervisor had touched before it forked.
    clinux_let_go_of_code(true);
    work.launcher = launcher;
    work.supervisor = parent;
    work.ignored_signals = clinux_ignored_signals();
    atomic_store(&work.idle, 0);
    if (!start_thread()) _exit(1);
    pid_t own = getpid();
    for (;;) {
        char byte;
        int descriptors[MOST_DESCRIPTORS];
        int count = 0;
        ssize_t received =
            clinux_receive(CONTROL_SOCKET, &byte, sizeof byte, descriptors, &count, 0);
        if (received <= 0) _exit(0);
        if (count == 1 && fork() == 0) clinux_resolver_main(descriptors[0], own);
        for (int i = 0; i < count; i++) close(descriptors[i]);
    }
}

// --- In the supervisor

int clinux_oom_score(void) {
    char text[16];
    int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t count = read(fd, text, sizeof text - 1);
    close(fd);
    int score = 0;
    if (count > 0) {
        text[count] = 0;
        sscanf(text, "%d", &score);
    }
    return score;
}

int clinux_set_oom_score(int score) {
    char text[16];
    int size = snprintf(text, sizeof text, "%d\n", score);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t count = write(fd, text, (size_t)size);
    close(fd);
    return count == size ? 0 : -1;
}

/// A sparse file, so that slots that were never used take no memory, whatever the host's policy
/// of overcommitting.
static void *map_slots(size_t bytes) {
    int fd = memfd_create("procgate-launches", MFD_CLOEXEC);
    if (fd < 0) return MAP_FAILED;
    void *slots = MAP_FAILED;
    if (ftruncate(fd, (off_t)bytes) == 0)
        slots = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return slots;
}

int clinux_launcher_start(struct clinux_launcher *launcher) {
    if (launcher->slots == NULL) {
        getrlimit(RLIMIT_NOFILE, &launcher->descriptor_limit);
        void *slots = map_slots(launcher->slot_bytes * CLINUX_LAUNCH_SLOTS);
        if (slots == MAP_FAILED) return -1;
        launcher->slots = slots;
    }
    int launches[2], control[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, launches) != 0) return -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0) {
        int saved = errno;
        close(launches[0]);
        close(launches[1]);
        errno = saved;
        return -1;
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) launcher_main(launcher, launches[1], control[1], parent);
    int saved = errno;
    close(launches[1]);
    close(control[1]);
    if (pid < 0) {
        close(launches[0]);
        close(control[0]);
        errno = saved;
        return -1;
    }
    fcntl(launches[0], F_SETFL, O_NONBLOCK);
    fcntl(control[0], F_SETFL, O_NONBLOCK);
    launcher->socket = launches[0];
    launcher->control = control[0];
    launcher->pid = pid;
    return 0;
}

int clinux_launcher_submit(int socket, uint32_t slot, const int *descriptors, int count) {
    return clinux_transmit(socket, &slot, sizeof slot, descriptors, count) < 0 ? -1 : 0;
}

int clinux_launcher_result(int socket, uint32_t *slot, int *pidfd) {
    int descriptors[MOST_DESCRIPTORS];
    int count = 0;
    ssize_t received =
        clinux_receive(socket, slot, sizeof *slot, descriptors, &count, MSG_DONTWAIT);
    if (received < 0) return errno == EAGAIN ? 0 : -1;
    if (received == 0) {
        errno = EPIPE;
        return -1;
    }
    *pidfd = count > 0 ? descriptors[0] : -1;
    return 1;
}

void clinux_launcher_trim(void *slot, size_t slot_bytes, size_t keep) {
    if (keep < slot_bytes) madvise((char *)slot + keep, slot_bytes - keep, MADV_REMOVE);
}
