// Just enough of protobuf's wire format for the load client: a reader that walks the fields of one
// message without copying, and a writer that appends fields to a growing buffer. Knows no message.
#ifndef BENCH_PROTOBUF_H
#define BENCH_PROTOBUF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    const uint8_t *at, *end;
    bool broken;  // set once the bytes are no message; nothing more is read then
};

// One field: its number, and either an integer (`bytes` is NULL) or `value` bytes.
struct field {
    uint32_t number;
    uint64_t value;
    const uint8_t *bytes;
};

struct buffer {
    uint8_t *data;
    size_t length, capacity;
};

static inline struct reader reader_over(const uint8_t *bytes, size_t length) {
    return (struct reader){bytes, bytes + length, false};
}

// Takes padded varints too, as every parser has to: up to ten bytes.
static inline bool read_varint(struct reader *r, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 70 && r->at < r->end; shift += 7) {
        uint8_t byte = *r->at++;
        if (shift < 64) *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return true;
    }
    r->broken = true;
    return false;
}

// The next field, or false at the end and where the message is broken.
static inline bool read_field(struct reader *r, struct field *f) {
    uint64_t tag;
    if (r->broken || r->at == r->end || !read_varint(r, &tag)) return false;
    f->number = (uint32_t)(tag >> 3);
    f->value = 0;
    f->bytes = NULL;
    size_t fixed = (tag & 7) == 1 ? 8 : 4;
    switch (tag & 7) {
    case 0:
        return read_varint(r, &f->value);
    case 2:
        if (!read_varint(r, &f->value) || f->value > (uint64_t)(r->end - r->at)) break;
        f->bytes = r->at;
        r->at += f->value;
        return true;
    case 1:
    case 5:
        if ((size_t)(r->end - r->at) < fixed) break;
        memcpy(&f->value, r->at, fixed);
        r->at += fixed;
        return true;
    }
    r->broken = true;
    return false;
}

static inline void append(struct buffer *b, const void *bytes, size_t length) {
    if (b->length + length > b->capacity) {
        b->capacity = (b->length + length) * 2 + 64;
        b->data = realloc(b->data, b->capacity);
        if (!b->data) abort();
    }
    if (length) memcpy(b->data + b->length, bytes, length);
    b->length += length;
}

static inline void append_varint(struct buffer *b, uint64_t value) {
    uint8_t bytes[10];
    size_t n = 0;
    for (; value > 0x7f; value >>= 7) bytes[n++] = (uint8_t)(value | 0x80);
    bytes[n++] = (uint8_t)value;
    append(b, bytes, n);
}

static inline void append_integer_field(struct buffer *b, uint32_t number, uint64_t value) {
    append_varint(b, number << 3);
    append_varint(b, value);
}

// The tag and length of a bytes field; the `length` bytes themselves are the caller's to add.
static inline void append_bytes_head(struct buffer *b, uint32_t number, size_t length) {
    append_varint(b, number << 3 | 2);
    append_varint(b, length);
}

static inline void append_bytes_field(
    struct buffer *b, uint32_t number, const void *bytes, size_t length) {
    append_bytes_head(b, number, length);
    append(b, bytes, length);
}

static inline void append_text_field(struct buffer *b, uint32_t number, const char *text) {
    append_bytes_field(b, number, text, strlen(text));
}

// gRPC's five bytes before a message that is not compressed.
static inline void append_grpc_prefix(struct buffer *b, size_t length) {
    uint8_t prefix[5] = {0, (uint8_t)(length >> 24), (uint8_t)(length >> 16),
                         (uint8_t)(length >> 8), (uint8_t)length};
    append(b, prefix, sizeof prefix);
}

#endif
