// What a process keeps in memory: mallopt(3), which Glibc's Swift module hides, and code.
#pragma once

#include <stdbool.h>
#include <stddef.h>

/// Buffers of up to `mapped` bytes come from the heap, of which up to `kept` free bytes
/// stay.
void clinux_keep_heap(size_t mapped, size_t kept);

/// Returns what is free in the heap, at its end and within, to the system. It takes the locks of
/// the heap's arenas one after the other.
void clinux_return_heap(void);

/// Unmaps the pages of code and constants that were used so far: those that are needed again
/// come back from the page cache, one fault for sixteen of them. Constants that lie among
/// variables are let go of where the process `is_alone`: where no other thread could write to
/// such a page meanwhile.
void clinux_let_go_of_code(bool is_alone);
