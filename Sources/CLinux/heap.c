#define _GNU_SOURCE
#include "heap.h"

#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

void clinux_keep_heap(size_t mapped, size_t kept) {
    // A failure leaves the defaults, which only cost time.
    mallopt(M_MMAP_THRESHOLD, (int)mapped);
    mallopt(M_TRIM_THRESHOLD, (int)kept);
}

void clinux_return_heap(void) {
    malloc_trim(0);
}

/// Of a segment that may be written to: the pages that never were, which are the file's still.
/// pagemap tells, by bit 61 (a page of a file) of each present one (bit 63); see
/// Documentation/admin-guide/mm/pagemap.rst.
static void let_go_of_unwritten(uintptr_t start, uintptr_t end, uintptr_t page) {
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0) return;
    while (start < end) {
        uint64_t entries[64];
        size_t pages = (end - start) / page;
        if (pages > 64) pages = 64;
        ssize_t got = pread(
            pagemap, entries, pages * sizeof entries[0],
            (off_t)(start / page * sizeof entries[0]));
        if (got < (ssize_t)sizeof entries[0]) break;
        for (size_t i = 0; i < (size_t)got / sizeof entries[0]; i++, start += page) {
            if (entries[i] >> 61 == 5) madvise((void *)start, page, MADV_DONTNEED);
        }
    }
    close(pagemap);
}

/// The pages of one image that are what its file has.
static int let_go(struct dl_phdr_info *info, size_t size, void *is_alone) {
    (void)size;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD) continue;
        uintptr_t start = info->dlpi_addr + header->p_vaddr;
        uintptr_t end = (start + header->p_filesz) & ~(page - 1);
        start = (start + page - 1) & ~(page - 1);
        if (start >= end) continue;
        // Relocations are written into segments that are to be written to, and no others.
        if (!(header->p_flags & PF_W)) {
            madvise((void *)start, end - start, MADV_DONTNEED);
        } else if (*(const bool *)is_alone) {
            let_go_of_unwritten(start, end, page);
        }
    }
    return 0;
}

void clinux_let_go_of_code(bool is_alone) {
    dl_iterate_phdr(let_go, &is_alone);
}
