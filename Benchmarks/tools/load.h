// The load client's parts and what they share. One thread, no globals: `struct load` is handed to
// all. `load.c` reads the command line and runs the loop, `connection.c` moves bytes between
// sockets and nghttp2, `call.c` is one gRPC call, `events.c` verifies what a call's messages say.
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "protobuf.h"

#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

enum { MAX_HEADERS = 8, LAG_BUCKETS = 60001, OUT_BYTES = 256 << 10, IN_BYTES = 512 << 10 };

enum mode { MODE_EXEC, MODE_FOLLOW, MODE_HOLD_CALLS, MODE_HOLD_CONNECTIONS, MODE_UPLOAD,
            MODE_UNARY };

// What the stdout of every call has to be: `bytes` bytes of a block that repeats.
struct expectation {
    const uint8_t *block;  // NULL: anything
    size_t block_bytes;
    uint64_t bytes;
};

struct plan {
    enum mode mode;
    const char *target, *ca_file, *method;
    struct buffer request;  // framed; unused by uploads
    const char *upload_id;
    uint64_t upload_bytes;
    long calls, at_once, connections;
    uint32_t window_bytes, frame_bytes;
    double timeout_s;
    struct expectation expected;
    const char *header_names[MAX_HEADERS], *header_values[MAX_HEADERS];
    size_t headers;
};

struct tally {
    long settled, launched, answered, finished, failed, lost;
    uint64_t bytes, messages;
    double begun_s, *latency_s;        // a latency for each finished call
    uint64_t lag_ms[LAG_BUCKETS], lags;  // the age of chunks when they arrived
    struct buffer answer;              // the last message of a unary call
    char error[400];                   // the first thing that went wrong
};

struct load {
    struct plan plan;
    struct tally tally;
    struct connection *connections;
    SSL_CTX *tls;
    int poll;
    bool said_ready;
    uint8_t *pattern, in[IN_BYTES];
};

struct connection {
    struct load *load;
    int fd;
    SSL *tls;
    nghttp2_session *session;
    uint8_t *out;  // OUT_BYTES; what is serialized and not yet written
    size_t out_length, out_sent;
    bool wants_write, settled, closed;
};

struct call {
    struct connection *connection;
    double begun_s;
    // The request: the rest of the message that is being sent, in up to three pieces.
    struct piece {
        const uint8_t *at;
        size_t left;
    } pieces[3];
    struct buffer head;
    uint64_t upload_offset;
    bool last_message;
    // The response.
    uint8_t prefix[5];
    size_t prefix_length, message_length;
    struct buffer partial;
    int grpc_status;
    char grpc_message[200];
    bool started, exited;
    uint64_t seq, bytes, messages;
};

double now_s(void);
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Notes the first failure; the report shows it.
void fail(struct load *load, const char *format, ...) __attribute__((format(printf, 2, 3)));

// connection.c
void connection_open(struct load *load, struct connection *c);
void connection_flush(struct connection *c);
void connection_receive(struct connection *c);

// call.c
void call_callbacks(nghttp2_session_callbacks *callbacks);
void call_launch(struct connection *c);

// events.c
void event_verify(struct call *call, const uint8_t *bytes, size_t length);
bool call_is_complete(struct call *call);

#endif
