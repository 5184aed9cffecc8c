#include "heap.h"

#include <malloc.h>

void clinux_keep_heap(size_t mapped, size_t kept) {
    // A failure leaves the defaults, which only cost time.
    mallopt(M_MMAP_THRESHOLD, (int)mapped);
    mallopt(M_TRIM_THRESHOLD, (int)kept);
}
