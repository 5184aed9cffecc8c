// The child of a launch, from its clone to its execve. It runs on a stack of its own in the
// launcher's memory while the launcher's thread that made it is suspended (CLONE_VFORK).
#define _GNU_SOURCE
#include "launching.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SYS_clone3
#define SYS_clone3 435
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
    KERNEL_SIGNALS = 64,
    KERNEL_MASK_BYTES = 8,
    /// The start of a file that is searched for the name of its interpreter.
    PROGRAM_HEAD_BYTES = 4096,
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

/// Copies the name of an interpreter, which ends at white space or at `end`.
static void copy_name(struct clinux_launch *launch, const char *name, const char *end) {
    size_t count = 0;
    while (name < end && count + 1 < sizeof launch->interpreter) {
        char byte = name[count];
        if (name + count >= end || byte == 0 || byte == ' ' || byte == '\t' || byte == '\n') break;
        launch->interpreter[count++] = byte;
    }
    launch->interpreter[count] = 0;
}

/// Names the interpreter that the file asks for, by its first line or its ELF header: a file that
/// is there and is not found by execve lacks that one.
static void name_interpreter(struct clinux_launch *launch, const char *path) {
    char head[PROGRAM_HEAD_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return;
    ssize_t count = read(fd, head, sizeof head);
    close(fd);
    const char *end = head + (count > 0 ? count : 0);
    if (count > 2 && head[0] == '#' && head[1] == '!') {
        const char *name = head + 2;
        while (name < end && (*name == ' ' || *name == '\t')) name++;
        copy_name(launch, name, end);
        return;
    }
    Elf64_Ehdr file;
    if (count < (ssize_t)sizeof file || memcmp(head, ELFMAG, SELFMAG) != 0 ||
        head[EI_CLASS] != ELFCLASS64)
        return;
    memcpy(&file, head, sizeof file);
    for (unsigned i = 0; i < file.e_phnum; i++) {
        Elf64_Phdr part;
        uint64_t at = file.e_phoff + (uint64_t)i * sizeof part;
        if (file.e_phoff > sizeof head || at + sizeof part > (uint64_t)count) return;
        memcpy(&part, head + at, sizeof part);
        if (part.p_type != PT_INTERP || part.p_offset >= (uint64_t)count) continue;
        copy_name(launch, head + part.p_offset, end);
        return;
    }
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
            if (launch->interpreter[0] == 0) name_interpreter(launch, *path);
            errno = ENOENT;
            break;
        case ENOTDIR:
        case ESTALE:
        case ENODEV:
        case ETIMEDOUT: break;
        default: return;
        }
    }
    // As execvp: a file that may not be executed tells more than one that is missing.
    if (denied) {
        errno = EACCES;
        launch->interpreter[0] = 0;
    }
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
    clinux_block_signals(false);
    if (__atomic_load_n(&launch->is_cancelled, __ATOMIC_ACQUIRE)) {
        errno = ECANCELED;
        fail(launch, CLINUX_STEP_CLONE);
    }
    launch->is_executing = true;
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

uint64_t clinux_ignored_signals(void) {
    uint64_t ignored = 0;
    for (int number = 1; number <= KERNEL_SIGNALS; number++) {
        struct kernel_sigaction action;
        if (syscall(SYS_rt_sigaction, number, NULL, &action, KERNEL_MASK_BYTES) == 0 &&
            action.handler == (void *)SIG_IGN)
            ignored |= UINT64_C(1) << (number - 1);
    }
    return ignored;
}

void clinux_block_signals(bool block) {
    uint64_t mask = block ? ~UINT64_C(0) : 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, KERNEL_MASK_BYTES);
}

/// A child that was killed before its first instruction has not written its pid, and one that was
/// killed before its last has not said why it ended.
static int made(struct child *child, pid_t pid, int pidfd) {
    struct clinux_launch *launch = child->launch;
    __atomic_store_n(&launch->pid, pid, __ATOMIC_RELEASE);
    if (!launch->is_executing && launch->step == CLINUX_STEP_NONE) {
        launch->step = CLINUX_STEP_CLONE;
        launch->error = EINTR;
    }
    return pidfd;
}

int clinux_make_child(struct child *child, char *stack, int cgroup) {
    // Several threads may learn it at once: they all learn the same.
    static _Atomic bool without_clone3 = false;
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
        if (pid > 0) return made(child, (pid_t)pid, pidfd);
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
    return pid > 0 ? made(child, pid, pidfd) : -1;
}
