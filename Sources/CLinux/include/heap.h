// mallopt(3), which Glibc's Swift module hides.
#pragma once

#include <stddef.h>

/// Buffers of up to `mapped` bytes come from the heap, of which up to `kept` free bytes
/// stay.
void clinux_keep_heap(size_t mapped, size_t kept);
