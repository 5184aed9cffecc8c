// The launcher: a small process that makes the supervisor's children. It is forked when
// the supervisor is young, shares one region of memory with it, and clones each child
// from its own small address space with the supervisor as the child's parent. Knows no
// process but the one it is asked for.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum {
    /// Launches that can be under way at once, those that hang among them.
    CLINUX_LAUNCH_SLOTS = 1024,
    CLINUX_LAUNCH_LIMITS = 6,
    CLINUX_INTERPRETER_BYTES = 128,
};

/// What failed in the child, before it was the command.
enum clinux_launch_step {
    CLINUX_STEP_NONE = 0,
    CLINUX_STEP_CLONE,
    CLINUX_STEP_SESSION,
    CLINUX_STEP_TERMINAL,
    CLINUX_STEP_DESCRIPTORS,
    CLINUX_STEP_LIMITS,
    CLINUX_STEP_GROUPS,
    CLINUX_STEP_USER,
    CLINUX_STEP_DIRECTORY,
    CLINUX_STEP_EXECUTE,
    CLINUX_STEP_PARENT,
};

/// The resource limits that are used here, of this process and of its children.
enum clinux_limit_kind {
    CLINUX_LIMIT_STACK,
    /// RLIMIT_AS.
    CLINUX_LIMIT_MEMORY,
    /// RLIMIT_NPROC.
    CLINUX_LIMIT_PROCESSES,
    /// RLIMIT_MSGQUEUE.
    CLINUX_LIMIT_MESSAGE_QUEUES,
};

struct clinux_launch_limit {
    enum clinux_limit_kind resource;
    uint64_t soft;
    uint64_t hard;
};

/// A limit of this process.
struct clinux_launch_limit clinux_limit(enum clinux_limit_kind kind);
/// Sets the soft limit of descriptors to the hard one.
void clinux_raise_descriptor_limit(void);

/// One launch, at the head of a slot of the shared region. Both processes see the
/// region at the same address, so that the pointers, all into the slot, hold in both.
struct clinux_launch {
    /// Files to execute, tried in order as execvp does; ends with NULL.
    char *const *paths;
    char *const *argv;
    char *const *envp;
    /// For a file without a format: /bin/sh, a place for the path, argv[1], …
    char **script_argv;
    const char *cwd;
    /// Taken where `cwd` cannot be entered; NULL is a failure then.
    const char *fallback_cwd;
    const gid_t *groups;
    size_t group_count;
    uid_t uid;
    gid_t gid;
    bool change_user;
    bool no_new_privileges;
    /// Descriptors come with the request in this order, where they are announced here.
    bool has_terminal;
    bool has_stdin;
    bool has_stdout;
    bool has_stderr;
    bool has_cgroup;
    int limit_count;
    struct clinux_launch_limit limits[CLINUX_LAUNCH_LIMITS];

    /// Set by the supervisor: nobody wants the command any more. Looked at before the child is
    /// made, and before it executes the command.
    bool is_cancelled;

    /// The child's pid, written by the child before all else, and by the launcher when it returns;
    /// 0 where there is none.
    pid_t pid;
    /// The child was about to execute the command. One that ended before was killed.
    bool is_executing;
    /// Of clinux_launch_step, and its errno.
    int step;
    int error;
    /// It went to `fallback_cwd`.
    bool fell_back;
    /// Where a file was there and was not found: the interpreter that it names, cut.
    char interpreter[CLINUX_INTERPRETER_BYTES];
};

struct clinux_launcher {
    /// For launches, and for resolvers; non-blocking on this side.
    int socket;
    int control;
    pid_t pid;
    /// The limit of descriptors that commands are to have: as it was at the first start.
    struct rlimit descriptor_limit;
    /// The oom_score_adj that the launcher takes, and that its children inherit.
    int oom_score;
    /// CLINUX_LAUNCH_SLOTS slots of `slot_bytes`.
    void *slots;
    size_t slot_bytes;
};

/// Maps the region on the first call (`slots` is NULL), and forks the launcher.
int clinux_launcher_start(struct clinux_launcher *launcher);
/// Hands slot number `slot` over, with its descriptors, which stay the caller's.
int clinux_launcher_submit(int socket, uint32_t slot, const int *descriptors, int count);
/// The next finished slot in `slot`, and its child's pidfd (-1 where there is none).
/// 1; 0 where there is no answer yet; -1 with errno, EPIPE where the launcher is gone.
int clinux_launcher_result(int socket, uint32_t *slot, int *pidfd);
/// Gives the pages of a slot beyond `keep` bytes back.
void clinux_launcher_trim(void *slot, size_t slot_bytes, size_t keep);

/// This process's oom_score_adj, from -1000 to 1000: how gladly the kernel ends it for want of
/// memory. 0 where it cannot be read.
int clinux_oom_score(void);
/// Lowering it takes privileges.
int clinux_set_oom_score(int score);
