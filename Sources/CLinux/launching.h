// What the files of the launcher share. Not part of the module.
#pragma once

#include "launch.h"

#include <sys/syscall.h>
#include <sys/types.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum {
    CHILD_STACK_BYTES = 128 * 1024,
    /// Descriptors that come with one launch: three pipes, or a terminal, and a cgroup.
    MOST_DESCRIPTORS = 4,
};

/// All that a child needs; filled in by the launcher, read by the child in its memory.
struct child {
    struct clinux_launch *launch;
    int descriptors[MOST_DESCRIPTORS];
    pid_t supervisor;
    uint64_t ignored_signals;
};

/// Makes the child, and returns once it executes the command or has failed. Its pidfd,
/// or -1 with errno set. Suspends the calling thread alone.
int clinux_make_child(struct child *child, char *stack, int cgroup);
/// The signals that this process ignores, signal 1 in bit 0.
uint64_t clinux_ignored_signals(void);
/// Blocks every signal for the calling thread, or none.
void clinux_block_signals(bool block);

/// Receives one message of at most `size` bytes with at most MOST_DESCRIPTORS descriptors.
ssize_t clinux_receive(
    int socket, void *bytes, size_t size, int *descriptors, int *count, int flags);
ssize_t clinux_transmit(
    int socket, const void *bytes, size_t size, const int *descriptors, int count);

/// What `ps` shows for this process, so that it is not taken for a second supervisor.
void clinux_rename_process(const char *name);

/// Answers requests from `socket` until its peer has gone.
_Noreturn void clinux_resolver_main(int socket, pid_t launcher);
