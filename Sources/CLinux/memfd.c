#define _GNU_SOURCE
#include "memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int clinux_sealed_memfd(const char *name, off_t bytes) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -1;
    // Nor can whoever gets it add seals of their own: one against writing would keep pages from
    // being given back.
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    if (ftruncate(fd, bytes) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0) return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

int clinux_reopen_for_reading(int fd) {
    char path[32];
    if (fchmod(fd, 0600) != 0) return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

int clinux_punch_hole(int fd, off_t offset, off_t bytes) {
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
}
