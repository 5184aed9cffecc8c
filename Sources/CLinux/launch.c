#define _GNU_SOURCE
#include "launch.h"
#include "heap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif

// Glibc and the kernel both define the flags of clone; only the kernel's struct is needed.
int clone(int (*function)(void *), void *stack, int flags, void *argument, ...);

enum {
    CHILD_STACK_BYTES = 128 * 1024,
    MOST_DESCRIPTORS = 4,
    KERNEL_SIGNALS = 64,
    KERNEL_MASK_BYTES = 8,
};

/// All that a child needs; filled in by the launcher, read by the child in its memory.
struct child {
    struct clinux_launch *launch;
    int descriptors[MOST_DESCRIPTORS];
    pid_t supervisor;
    uint64_t ignored_signals;
};

static int resource_of(enum clinux_limit_kind kind) {
    switch (kind) {
    case CLINUX_LIMIT_STACK: return RLIMIT_STACK;
    case CLINUX_LIMIT_MEMORY: return RLIMIT_AS;
    case CLINUX_LIMIT_PROCESSES: return RLIMIT_NPROC;
    case CLINUX_LIMIT_MESSAGE_QUEUES: return RLIMIT_MSGQUEUE;
    }
    return -1;
}

struct clinux_launch_limit clinux_limit(enum clinux_limit_kind kind) {
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    getrlimit(resource_of(kind), &limit);
    return (struct clinux_launch_limit){kind, limit.rlim_cur, limit.rlim_max};
}

void clinux_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

// --- In the child: nothing here may allocate, lock, or return.

static _Noreturn void fail(struct clinux_launch *launch, int step) {
    launch->error = errno;
    launch->step = step;
    _exit(127);
}

static void execute(struct clinux_launch *launch) {
    bool denied = false;
    for (char *const *path = launch->paths; *path != NULL; path++) {
        execve(*path, launch->argv, launch->envp);
        switch (errno) {
        case ENOEXEC:
            launch->script_argv[1] = *path;
            execve(launch->script_argv[0], launch->script_argv, launch->envp);
            return;
        case EACCES: denied = true; break;
        case ENOENT:
        case ENOTDIR:
        case ESTALE:
        case ENODEV:
        case ETIMEDOUT: break;
        default: return;
        }
    }
    // As execvp: a file that may not be executed tells more than one that is missing.
    if (denied) errno = EACCES;
}

static void become_user(struct clinux_launch *launch) {
    if (launch->change_user) {
        // A session keyring of its own, instead of the supervisor's; a host without keys has
        // none to give away.
        syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
        // Raw: Glibc would ask every thread of the shared memory to do the same.
        if (syscall(SYS_setgroups, launch->group_count, launch->groups) != 0)
            fail(launch, CLINUX_STEP_GROUPS);
        if (syscall(SYS_setresgid, launch->gid, launch->gid, launch->gid) != 0)
            fail(launch, CLINUX_STEP_GROUPS);
        if (syscall(SYS_setresuid, launch->uid, launch->uid, launch->uid) != 0)
            fail(launch, CLINUX_STEP_USER);
    }
    if (launch->no_new_privileges) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/// As the kernel has it. Glibc's own sigaction keeps two signals to itself, which may be
/// ignored all the same.
struct kernel_sigaction {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};

static void reset_signals(const struct child *child) {
    // CLONE_CLEAR_SIGHAND has reset the handlers; what was ignored still is.
    struct kernel_sigaction standard = {0};
    for (int number = 1; number <= KERNEL_SIGNALS; number++) {
        if (child->ignored_signals >> (number - 1) & 1)
            syscall(SYS_rt_sigaction, number, &standard, NULL, KERNEL_MASK_BYTES);
    }
}

static int child_main(void *argument) {
    struct child *child = argument;
    struct clinux_launch *launch = child->launch;
    __atomic_store_n(&launch->pid, (pid_t)syscall(SYS_getpid), __ATOMIC_RELEASE);

    if (setsid() < 0) fail(launch, CLINUX_STEP_SESSION);
    int next = 0;
    int standard[3] = {0, -1, -1};
    if (launch->has_terminal) {
        int terminal = child->descriptors[next++];
        if (ioctl(terminal, TIOCSCTTY, 0) != 0) fail(launch, CLINUX_STEP_TERMINAL);
        standard[0] = standard[1] = standard[2] = terminal;
    } else {
        if (launch->has_stdin) standard[0] = child->descriptors[next++];
        if (launch->has_stdout) standard[1] = child->descriptors[next++];
        if (launch->has_stderr) standard[2] = child->descriptors[next++];
    }
    // 0, 1 and 2 of the launcher are /dev/null, and everything else lies above them.
    for (int i = 0; i < 3; i++) {
        if (standard[i] > 2 && dup3(standard[i], i, 0) < 0)
            fail(launch, CLINUX_STEP_DESCRIPTORS);
    }
    // Where it is missing, everything is close-on-exec all the same.
    syscall(SYS_close_range, 3, ~0U, 0);

    for (int i = 0; i < launch->limit_count; i++) {
        const struct clinux_launch_limit *limit = &launch->limits[i];
        struct rlimit value = {limit->soft, limit->hard};
        if (setrlimit(resource_of(limit->resource), &value) != 0) fail(launch, CLINUX_STEP_LIMITS);
    }
    become_user(launch);
    // After the change of user, which resets it.
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (syscall(SYS_getppid) != child->supervisor) {
        errno = ESRCH;
        fail(launch, CLINUX_STEP_PARENT);
    }
    umask(022);
    if (chdir(launch->cwd) != 0) {
        if (launch->fallback_cwd == NULL || chdir(launch->fallback_cwd) != 0)
            fail(launch, CLINUX_STEP_DIRECTORY);
        launch->fell_back = true;
    }

    reset_signals(child);
    uint64_t none = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, KERNEL_MASK_BYTES);
    execute(launch);
    fail(launch, CLINUX_STEP_EXECUTE);
}

// --- In the launcher

/// clone3 with a stack of the child's own, on which it enters child_main.
static long clone_onto_stack(struct clone_args *arguments, struct child *child) {
    long result;
#if defined(__x86_64__)
    register struct child *saved __asm__("r12") = child;
    register int (*entry)(void *) __asm__("r13") = child_main;
    __asm__ volatile(
        "syscall\n"
        "testq %%rax, %%rax\n"
        "jnz 1f\n"
        "xorl %%ebp, %%ebp\n"
        "movq %%r12, %%rdi\n"
        "callq *%%r13\n"
        "hlt\n"
        "1:\n"
        : "=a"(result)
        : "a"((long)SYS_clone3), "D"(arguments), "S"(sizeof *arguments), "r"(saved), "r"(entry)
        : "rcx", "r11", "cc", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_clone3;
    register long first __asm__("x0") = (long)arguments;
    register long second __asm__("x1") = (long)sizeof *arguments;
    register struct child *saved __asm__("x19") = child;
    register int (*entry)(void *) __asm__("x20") = child_main;
    __asm__ volatile(
        "svc #0\n"
        "cbnz x0, 1f\n"
        "mov x29, #0\n"
        "mov x0, x19\n"
        "blr x20\n"
        "brk #0\n"
        "1:\n"
        : "+r"(first)
        : "r"(number), "r"(second), "r"(saved), "r"(entry)
        : "cc", "memory", "x30");
    result = first;
#else
    (void)arguments;
    (void)child;
    result = -ENOSYS;
#endif
    return result;
}

/// Makes the child, and returns once it executes the command or has failed. Its pidfd,
/// or -1 with errno set.
static int make_child(struct child *child, char *stack, int cgroup) {
    static bool without_clone3 = false;
    int pidfd = -1;
    if (!without_clone3) {
        struct clone_args arguments;
        memset(&arguments, 0, sizeof arguments);
        arguments.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_PARENT |
                          CLONE_CLEAR_SIGHAND | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0);
        arguments.pidfd = (uint64_t)(uintptr_t)&pidfd;
        arguments.stack = (uint64_t)(uintptr_t)stack;
        arguments.stack_size = CHILD_STACK_BYTES;
        arguments.cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0;
        long pid = clone_onto_stack(&arguments, child);
        if (pid > 0) return pidfd;
        errno = (int)-pid;
        if (errno != ENOSYS && errno != EPERM) return -1;
        // A cgroup that may not be entered is no lack of clone3.
        if (errno == EPERM && cgroup >= 0) return -1;
        without_clone3 = true;
    }
    if (cgroup >= 0) {
        errno = EOPNOTSUPP;
        return -1;
    }
    int pid = clone(
        child_main, stack + CHILD_STACK_BYTES, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_PARENT,
        child, &pidfd);
    return pid > 0 ? pidfd : -1;
}

static ssize_t receive(int fd, uint32_t *slot, int *descriptors, int *count, int flags) {
    struct iovec part = {slot, sizeof *slot};
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
        received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | flags);
    } while (received < 0 && errno == EINTR);
    *count = 0;
    struct cmsghdr *header = received > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
        *count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(descriptors, CMSG_DATA(header), sizeof(int) * (size_t)*count);
    }
    return received;
}

static ssize_t transmit(int fd, uint32_t slot, const int *descriptors, int count) {
    struct iovec part = {&slot, sizeof slot};
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
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent;
}

static uint64_t ignored_signals(void) {
    uint64_t ignored = 0;
    for (int number = 1; number <= KERNEL_SIGNALS; number++) {
        struct kernel_sigaction action;
        if (syscall(SYS_rt_sigaction, number, NULL, &action, KERNEL_MASK_BYTES) == 0 &&
            action.handler == (void *)SIG_IGN)
            ignored |= UINT64_C(1) << (number - 1);
    }
    return ignored;
}

/// What `ps` shows, so that this process is not taken for a second supervisor.
static void rename_process(void) {
    static const char name[] = "procgate-launcher";
    prctl(PR_SET_NAME, name, 0, 0, 0);
    char arguments[4096];
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t size = read(fd, arguments, sizeof arguments);
    close(fd);
    if (size < (ssize_t)sizeof name) return;
    memset(program_invocation_name, 0, (size_t)size);
    memcpy(program_invocation_name, name, sizeof name);
}

static _Noreturn void launcher_main(struct clinux_launcher *launcher, int socket, pid_t parent) {
    uint64_t all = ~UINT64_C(0);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, KERNEL_MASK_BYTES);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent) _exit(0);
    rename_process();
    // The socket goes where nothing else is, then everything but it is closed.
    int null = open("/dev/null", O_RDWR);
    if (socket != 3) {
        if (null == 3) null = dup(null);
        if (dup3(socket, 3, O_CLOEXEC) < 0) _exit(1);
    }
    for (int i = 0; i < 3; i++) dup2(null, i);
    if (syscall(SYS_close_range, 4, ~0U, 0) != 0) {
        for (int fd = 4; fd < 1024; fd++) close(fd);
    }
    char *stack = mmap(
        NULL, CHILD_STACK_BYTES, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) _exit(1);

    // What the supervisor had touched before it forked.
    clinux_let_go_of_code(true);
    struct child child = {.supervisor = parent, .ignored_signals = ignored_signals()};
    for (;;) {
        uint32_t slot = 0;
        int count = 0;
        ssize_t received = receive(3, &slot, child.descriptors, &count, 0);
        if (received != sizeof slot || slot >= CLINUX_LAUNCH_SLOTS) _exit(0);
        struct clinux_launch *launch =
            (void *)((char *)launcher->slots + launcher->slot_bytes * slot);
        child.launch = launch;
        int expected = launch->has_terminal + launch->has_stdin + launch->has_stdout +
                       launch->has_stderr + launch->has_cgroup;
        int cgroup = launch->has_cgroup && count > 0 ? child.descriptors[count - 1] : -1;
        int pidfd = -1;
        // Without room for all of them here, some were lost on the way.
        if (count == expected) pidfd = make_child(&child, stack, cgroup);
        else errno = EMFILE;
        if (pidfd < 0) {
            launch->step = CLINUX_STEP_CLONE;
            launch->error = errno;
        }
        ssize_t sent = transmit(3, slot, &pidfd, pidfd >= 0 ? 1 : 0);
        if (pidfd >= 0) close(pidfd);
        for (int i = 0; i < count; i++) close(child.descriptors[i]);
        if (sent < 0) _exit(0);
    }
}

// --- In the supervisor

int clinux_launcher_start(struct clinux_launcher *launcher) {
    if (launcher->slots == NULL) {
        void *slots = mmap(
            NULL, launcher->slot_bytes * CLINUX_LAUNCH_SLOTS, PROT_READ | PROT_WRITE,
            MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (slots == MAP_FAILED) return -1;
        launcher->slots = slots;
    }
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) return -1;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) launcher_main(launcher, sockets[1], parent);
    close(sockets[1]);
    if (pid < 0) {
        int saved = errno;
        close(sockets[0]);
        errno = saved;
        return -1;
    }
    fcntl(sockets[0], F_SETFL, O_NONBLOCK);
    launcher->socket = sockets[0];
    launcher->pid = pid;
    return 0;
}

int clinux_launcher_submit(int socket, uint32_t slot, const int *descriptors, int count) {
    return transmit(socket, slot, descriptors, count) < 0 ? -1 : 0;
}

int clinux_launcher_result(int socket, uint32_t *slot, int *pidfd) {
    int descriptors[MOST_DESCRIPTORS];
    int count = 0;
    ssize_t received = receive(socket, slot, descriptors, &count, MSG_DONTWAIT);
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
