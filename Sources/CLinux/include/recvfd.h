// A descriptor that comes with the bytes of a unix socket: the CMSG macros, which Swift
// cannot call.
#pragma once

#include <stddef.h>
#include <sys/types.h>

/// Reads up to `count` bytes, as recvmsg(2) does, and stores the descriptor that came
/// with them, CLOEXEC, or -1. Further descriptors are closed. Returns the bytes read, 0
/// at the end of the stream, or -1 with errno set.
ssize_t clinux_receive_descriptor(int socket, void *bytes, size_t count, int *descriptor);
