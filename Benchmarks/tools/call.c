// One gRPC call of the load client: its request (one message, or an upload made of many), the
// framing of its response, its status and its latency. nghttp2's callbacks are here.
#define _GNU_SOURCE
#include "load.h"
#include "pattern.h"

#include <stdio.h>

enum { UPLOAD_CHUNK_BYTES = 256 << 10, FRAME_HEAD_BYTES = 9 };

static size_t unsent(const struct call *call) {
    return call->pieces[0].left + call->pieces[1].left + call->pieces[2].left;
}

// The next StreamStdinRequest: the process's id in the first, `eof` in the last.
static void next_upload_message(struct call *call) {
    static const uint8_t end_of_file[2] = {3 << 3, 1};
    struct load *load = call->connection->load;
    uint64_t left = load->plan.upload_bytes - call->upload_offset;
    size_t data = left < UPLOAD_CHUNK_BYTES ? (size_t)left : UPLOAD_CHUNK_BYTES;
    struct buffer fields = {0};
    if (call->upload_offset == 0) append_text_field(&fields, 1, load->plan.upload_id);
    append_bytes_head(&fields, 2, data);
    call->last_message = data == left;
    size_t tail = call->last_message ? sizeof end_of_file : 0;
    call->head.length = 0;
    append_grpc_prefix(&call->head, fields.length + data + tail);
    append(&call->head, fields.data, fields.length);
    free(fields.data);
    call->pieces[0] = (struct piece){call->head.data, call->head.length};
    call->pieces[1] = (struct piece){load->pattern + call->upload_offset % PATTERN_BYTES, data};
    call->pieces[2] = (struct piece){end_of_file, tail};
    call->upload_offset += data;
}

static ssize_t on_read_request(
    nghttp2_session *session, int32_t stream, uint8_t *bytes, size_t limit, uint32_t *flags,
    nghttp2_data_source *source, void *context) {
    (void)session, (void)stream, (void)bytes, (void)context;
    struct call *call = source->ptr;
    if (!unsent(call) && !call->last_message) next_upload_message(call);
    size_t left = unsent(call);
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (left <= limit && call->last_message) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)(left < limit ? left : limit);
}

static int on_send_data(
    nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t length,
    nghttp2_data_source *source, void *context) {
    (void)session, (void)frame;
    struct connection *c = context;
    struct call *call = source->ptr;
    if (c->out_length + FRAME_HEAD_BYTES + length > OUT_BYTES) return NGHTTP2_ERR_WOULDBLOCK;
    uint8_t *to = c->out + c->out_length;
    memcpy(to, head, FRAME_HEAD_BYTES);
    c->out_length += FRAME_HEAD_BYTES + length;
    to += FRAME_HEAD_BYTES;
    for (struct piece *p = call->pieces; length; p++) {
        size_t n = p->left < length ? p->left : length;
        memcpy(to, p->at, n);
        to += n;
        p->at += n;
        p->left -= n;
        length -= n;
    }
    return 0;
}

void call_launch(struct connection *c) {
    const struct plan *plan = &c->load->plan;
    struct call *call = calloc(1, sizeof *call);
    if (!call) die("out of memory");
    call->connection = c;
    call->grpc_status = -1;
    if (plan->mode != MODE_UPLOAD) {
        call->pieces[0] = (struct piece){plan->request.data, plan->request.length};
        call->last_message = true;
    }
    char path[128];
    snprintf(path, sizeof path, "/procgate.v1.ProcessService/%s", plan->method);
    const char *fields[][2] = {
        {":method", "POST"}, {":scheme", c->tls ? "https" : "http"}, {":path", path},
        {":authority", "localhost"}, {"content-type", "application/grpc"}, {"te", "trailers"},
    };
    nghttp2_nv headers[6 + MAX_HEADERS];
    size_t count = 0;
    for (; count < 6 + plan->headers; count++) {
        const char *name = count < 6 ? fields[count][0] : plan->header_names[count - 6];
        const char *value = count < 6 ? fields[count][1] : plan->header_values[count - 6];
        headers[count] = (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value,
                                      strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
    }
    nghttp2_data_provider body = {{.ptr = call}, on_read_request};
    call->begun_s = now_s();
    int32_t stream = nghttp2_submit_request(c->session, NULL, headers, count, &body, call);
    if (stream < 0) die("nghttp2: %s", nghttp2_strerror(stream));
    c->load->tally.launched++;
}

static void verify_upload(struct call *call, const uint8_t *bytes, size_t length) {
    struct load *load = call->connection->load;
    struct reader r = reader_over(bytes, length);
    struct field f;
    uint64_t taken = 0;
    while (read_field(&r, &f)) {
        if (f.number == 1) taken = f.value;
    }
    if (r.broken || taken != load->plan.upload_bytes) {
        fail(load, "stdin took %llu bytes", (unsigned long long)taken);
    }
    load->tally.bytes += taken;
}

static void on_message(struct call *call, const uint8_t *bytes, size_t length) {
    struct load *load = call->connection->load;
    load->tally.messages++;
    if (call->messages++ == 0) load->tally.answered++;
    if (load->plan.mode == MODE_UPLOAD) {
        verify_upload(call, bytes, length);
    } else if (load->plan.mode == MODE_UNARY) {
        load->tally.answer.length = 0;
        append(&load->tally.answer, bytes, length);
    } else {
        event_verify(call, bytes, length);
    }
}

static size_t message_length(struct call *call) {
    const uint8_t *p = call->prefix;
    if (p[0]) fail(call->connection->load, "a compressed message that nobody asked for");
    return (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
}

// Cuts the stream into messages; one that arrives whole is not copied.
static int on_data(
    nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t length,
    void *context) {
    (void)flags, (void)context;
    struct call *call = nghttp2_session_get_stream_user_data(session, stream);
    while (call && length) {
        if (call->prefix_length < sizeof call->prefix) {
            call->prefix[call->prefix_length++] = *bytes++;
            length--;
            if (call->prefix_length < sizeof call->prefix) continue;
            call->message_length = message_length(call);
            call->partial.length = 0;
        }
        size_t missing = call->message_length - call->partial.length;
        size_t n = missing < length ? missing : length;
        if (call->partial.length == 0 && n == missing) {
            on_message(call, bytes, n);
            call->prefix_length = 0;
        } else {
            append(&call->partial, bytes, n);
            if (n == missing) {
                on_message(call, call->partial.data, call->partial.length);
                call->prefix_length = 0;
            }
        }
        bytes += n;
        length -= n;
    }
    return 0;
}

static int on_header(
    nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
    const uint8_t *value, size_t value_length, uint8_t flags, void *context) {
    (void)flags, (void)context;
    struct call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!call) return 0;
    if (name_length == 11 && !memcmp(name, "grpc-status", 11)) {
        call->grpc_status = atoi((const char *)value);
    }
    if (name_length == 12 && !memcmp(name, "grpc-message", 12)) {
        snprintf(call->grpc_message, sizeof call->grpc_message, "%.*s", (int)value_length,
                 (const char *)value);
    }
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context) {
    (void)session;
    struct connection *c = context;
    bool answered = frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK);
    if (!answered || c->settled) return 0;
    c->settled = true;
    c->load->tally.settled++;
    return 0;
}

static int on_close(
    nghttp2_session *session, int32_t stream, uint32_t error_code, void *context) {
    struct connection *c = context;
    struct load *load = c->load;
    struct tally *tally = &load->tally;
    struct call *call = nghttp2_session_get_stream_user_data(session, stream);
    if (!call) return 0;
    tally->latency_s[tally->finished++] = now_s() - call->begun_s;
    bool good = error_code == NGHTTP2_NO_ERROR && call->grpc_status == 0 && call->messages;
    if (!good) {
        fail(load, "a call ended with HTTP/2 error %u, grpc-status %d, %llu messages: %s",
             error_code, call->grpc_status, (unsigned long long)call->messages,
             call->grpc_message);
    } else if (load->plan.mode != MODE_UPLOAD && load->plan.mode != MODE_UNARY) {
        good = call_is_complete(call);
    }
    if (!good) tally->failed++;
    free(call->partial.data);
    free(call->head.data);
    free(call);
    bool more = load->plan.mode != MODE_HOLD_CALLS && tally->launched < load->plan.calls;
    if (more) call_launch(c);
    return 0;
}

void call_callbacks(nghttp2_session_callbacks *callbacks) {
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
}
