// Verifies a call's ProcessEvents: their order, the sequence numbers, every byte of stdout, and
// that the process ended well. Knows the contract's field numbers, and no connection.
#define _GNU_SOURCE
#include "load.h"

#include <time.h>

enum { STATUS_EXITED = 3, STREAM_STDOUT = 1 };

static void verify_stdout(struct call *call, const uint8_t *bytes, size_t length) {
    struct load *load = call->connection->load;
    const struct expectation *e = &load->plan.expected;
    uint64_t at = call->bytes;
    call->bytes += length;
    load->tally.bytes += length;
    if (!e->block) return;
    if (call->bytes > e->bytes) {
        fail(load, "%llu bytes of output where %llu were expected",
             (unsigned long long)call->bytes, (unsigned long long)e->bytes);
        return;
    }
    while (length) {
        size_t from = at % e->block_bytes, n = e->block_bytes - from;
        if (n > length) n = length;
        if (memcmp(bytes, e->block + from, n)) {
            fail(load, "the output differs after byte %llu", (unsigned long long)at);
            return;
        }
        at += n;
        bytes += n;
        length -= n;
    }
}

static void note_lag(struct tally *tally, int64_t timestamp_ms) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    int64_t lag = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 - timestamp_ms;
    tally->lag_ms[lag < 0 ? 0 : lag >= LAG_BUCKETS ? LAG_BUCKETS - 1 : lag]++;
    tally->lags++;
}

static void verify_output(struct call *call, struct reader r) {
    struct load *load = call->connection->load;
    struct field f, data = {0};
    uint64_t seq = 0, stream = 0, timestamp = 0;
    while (read_field(&r, &f)) {
        if (f.number == 1) seq = f.value;
        if (f.number == 2) stream = f.value;
        if (f.number == 3) timestamp = f.value;
        if (f.number == 4) data = f;
    }
    if (r.broken) fail(load, "an OutputChunk that is none");
    if (seq != call->seq + 1) {
        fail(load, "chunk %llu after %llu", (unsigned long long)seq, (unsigned long long)call->seq);
    }
    call->seq = seq;
    if (timestamp) note_lag(&load->tally, (int64_t)timestamp);
    if (stream == STREAM_STDOUT && data.bytes) verify_stdout(call, data.bytes, data.value);
}

static void verify_exited(struct call *call, struct reader result) {
    struct load *load = call->connection->load;
    struct field f, g;
    uint64_t status = 0, exit_code = 0, last_seq = 0;
    while (read_field(&result, &f)) {
        if (f.number == 5) last_seq = f.value;
        if (f.number != 1 || !f.bytes) continue;
        struct reader process = reader_over(f.bytes, f.value);
        while (read_field(&process, &g)) {
            if (g.number == 2) status = g.value;
            if (g.number == 9) exit_code = g.value;
        }
        if (process.broken) fail(load, "a Process that is none");
    }
    if (result.broken) fail(load, "a ProcessResult that is none");
    if (status != STATUS_EXITED || exit_code != 0) {
        fail(load, "ended with status %llu, exit code %lld", (unsigned long long)status,
             (long long)exit_code);
    }
    if (last_seq != call->seq) {
        fail(load, "last_seq is %llu after chunk %llu", (unsigned long long)last_seq,
             (unsigned long long)call->seq);
    }
}

void event_verify(struct call *call, const uint8_t *bytes, size_t length) {
    struct load *load = call->connection->load;
    struct reader r = reader_over(bytes, length);
    struct field f;
    bool is_exec = load->plan.mode == MODE_EXEC;
    while (read_field(&r, &f)) {
        if (!f.bytes) continue;
        struct reader event = reader_over(f.bytes, f.value);
        switch (f.number) {
        case 1:  // started
            if (!is_exec || call->started || call->seq) fail(load, "`started` out of order");
            call->started = true;
            break;
        case 2:  // output
            if ((is_exec && !call->started) || call->exited) fail(load, "`output` out of order");
            verify_output(call, event);
            break;
        case 3:  // exited
            if (call->exited) fail(load, "`exited` twice");
            call->exited = true;
            verify_exited(call, event);
            break;
        case 5:  // queued
            if (!is_exec || call->started) fail(load, "`queued` out of order");
            break;
        case 6:
            fail(load, "a gap in the output");
            break;
        }
    }
    if (r.broken) fail(load, "a ProcessEvent that is none");
}

bool call_is_complete(struct call *call) {
    struct load *load = call->connection->load;
    const struct expectation *e = &load->plan.expected;
    bool complete = call->exited && (call->started || load->plan.mode != MODE_EXEC);
    if (!complete) fail(load, "a call ended without `started` or `exited`");
    if (e->block && call->bytes != e->bytes) {
        fail(load, "%llu bytes of output where %llu were expected",
             (unsigned long long)call->bytes, (unsigned long long)e->bytes);
        complete = false;
    }
    return complete;
}
