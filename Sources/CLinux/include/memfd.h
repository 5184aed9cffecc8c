// Sealed memory files: memfd_create(2) and fallocate(2), which Glibc's Swift module hides.
#pragma once

#include <sys/types.h>

/// A sealable, CLOEXEC memory file of `bytes` bytes that can neither shrink nor grow.
/// Returns its descriptor, or -1 with errno set.
int clinux_sealed_memfd(const char *name, off_t bytes);

/// A descriptor of the memory file `fd` through which it can be read and mapped, and not written:
/// its mode keeps other users from opening it anew. -1 with errno set.
int clinux_reopen_for_reading(int fd);

/// Gives the pages of a range of `fd` back to the kernel; they read as zeros from then
/// on. Returns 0, or -1 with errno set.
int clinux_punch_hole(int fd, off_t offset, off_t bytes);
