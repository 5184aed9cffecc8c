// The bytes that workloads print and the load client expects: a fixed pseudo-random block that
// repeats, so that any lost, doubled or misplaced range is seen wherever it happens.
#ifndef BENCH_PATTERN_H
#define BENCH_PATTERN_H

#include <stddef.h>
#include <stdint.h>

enum { PATTERN_BYTES = 1 << 20 };

static inline void fill_pattern(uint8_t *block) {
    uint32_t state = 0x9e3779b9;
    for (size_t i = 0; i < PATTERN_BYTES; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        block[i] = (uint8_t)(state >> 7);
    }
}

#endif
