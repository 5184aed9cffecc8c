// What the measured gateway is asked to run.
//
//   workload lines N               prints the numbers 1 to N, a write(2) for each line
//   workload pattern BYTES RATE    prints the first 64 bytes of the pattern, waits for a line on
//                                  stdin, prints the rest at RATE bytes a second (0: as it can)
//   workload check BYTES           reads stdin to its end; prints "ok" where it is the pattern
//
// Knows nothing of the gateway.
#define _GNU_SOURCE
#include "pattern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_BYTES = 64, WRITE_BYTES = 65536 };

static uint8_t block[PATTERN_BYTES], input[WRITE_BYTES];

static void write_all(const uint8_t *bytes, size_t length) {
    while (length) {
        ssize_t n = write(STDOUT_FILENO, bytes, length);
        if (n <= 0) exit(1);
        bytes += n;
        length -= (size_t)n;
    }
}

static int print_lines(long count) {
    char line[32];
    for (long i = 1; i <= count; i++) {
        write_all((uint8_t *)line, (size_t)snprintf(line, sizeof line, "%ld\n", i));
    }
    return 0;
}

// Prints [at, at + length) of the repeated pattern; `length` stays within one block.
static void print_pattern(uint64_t at, size_t length) {
    size_t from = at % PATTERN_BYTES;
    size_t first = length < PATTERN_BYTES - from ? length : PATTERN_BYTES - from;
    write_all(block + from, first);
    write_all(block, length - first);
}

static int emit(uint64_t bytes, double rate) {
    uint64_t at = bytes < FIRST_BYTES ? bytes : FIRST_BYTES;
    print_pattern(0, at);
    char go;
    if (read(STDIN_FILENO, &go, 1) != 1) return 1;
    struct timespec begin;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    while (at < bytes) {
        size_t length = bytes - at < WRITE_BYTES ? bytes - at : WRITE_BYTES;
        print_pattern(at, length);
        at += length;
        if (rate <= 0) continue;
        // An absolute time, so that late wake-ups do not add up.
        double due = (double)begin.tv_sec + (double)begin.tv_nsec / 1e9 + (double)at / rate;
        struct timespec t = {(time_t)due, (long)((due - (double)(time_t)due) * 1e9)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    }
    return 0;
}

static int check(uint64_t bytes) {
    uint64_t at = 0;
    ssize_t n;
    while ((n = read(STDIN_FILENO, input, sizeof input)) > 0) {
        for (ssize_t i = 0; i < n;) {
            size_t from = (at + (uint64_t)i) % PATTERN_BYTES, length = (size_t)(n - i);
            if (length > PATTERN_BYTES - from) length = PATTERN_BYTES - from;
            if (memcmp(input + i, block + from, length)) return 1;
            i += (ssize_t)length;
        }
        at += (uint64_t)n;
    }
    if (n < 0 || at != bytes) return 1;
    puts("ok");
    return 0;
}

int main(int argc, char **argv) {
    fill_pattern(block);
    if (argc == 3 && !strcmp(argv[1], "lines")) return print_lines(atol(argv[2]));
    if (argc == 4 && !strcmp(argv[1], "pattern")) {
        return emit(strtoull(argv[2], NULL, 10), atof(argv[3]));
    }
    if (argc == 3 && !strcmp(argv[1], "check")) return check(strtoull(argv[2], NULL, 10));
    fputs("workload: lines N | pattern BYTES RATE | check BYTES\n", stderr);
    return 64;
}
