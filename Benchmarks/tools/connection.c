// One HTTP/2 connection of the load client: a socket, TLS where asked for, and an nghttp2 session
// that is fed and drained here. Knows no gRPC.
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int dial_unix(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strlen(path) >= sizeof address.sun_path) die("%s is too long", path);
    strcpy(address.sun_path, path);
    if (connect(fd, (void *)&address, sizeof address)) die("%s: %s", path, strerror(errno));
    return fd;
}

static int dial_tcp(const char *authority) {
    char host[256];
    const char *colon = strrchr(authority, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    if (!colon) die("%s has no port", authority);
    snprintf(host, sizeof host, "%.*s", (int)(colon - authority), authority);
    int error = getaddrinfo(host, colon + 1, &hints, &found), one = 1;
    if (error) die("%s: %s", authority, gai_strerror(error));
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, found->ai_addr, found->ai_addrlen)) die("%s: %s", authority, strerror(errno));
    freeaddrinfo(found);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

// The certificate has to come from `ca_file`; its name is not looked at, for all of this happens on
// loopback addresses.
static void start_tls(struct load *load, struct connection *c) {
    if (!load->tls) {
        load->tls = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_min_proto_version(load->tls, TLS1_2_VERSION);
        SSL_CTX_set_mode(load->tls, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_alpn_protos(load->tls, (const uint8_t *)"\x02h2", 3);
        SSL_CTX_set_verify(load->tls, SSL_VERIFY_PEER, NULL);
        if (!load->plan.ca_file) die("https needs --ca FILE");
        if (!SSL_CTX_load_verify_locations(load->tls, load->plan.ca_file, NULL)) {
            die("%s: %s", load->plan.ca_file, ERR_reason_error_string(ERR_get_error()));
        }
    }
    c->tls = SSL_new(load->tls);
    SSL_set_fd(c->tls, c->fd);
    if (SSL_connect(c->tls) != 1) die("TLS: %s", ERR_reason_error_string(ERR_get_error()));
}

// -1 where it has to wait, 0 where the peer closed.
static ssize_t read_some(struct connection *c, uint8_t *bytes, size_t length) {
    if (c->tls) {
        int n = SSL_read(c->tls, bytes, (int)length);
        if (n > 0) return n;
        return SSL_get_error(c->tls, n) == SSL_ERROR_WANT_READ ? -1 : 0;
    }
    ssize_t n = recv(c->fd, bytes, length, 0);
    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? -1 : 0;
}

static ssize_t write_some(struct connection *c, const uint8_t *bytes, size_t length) {
    if (c->tls) {
        int n = SSL_write(c->tls, bytes, (int)length);
        if (n > 0) return n;
        return SSL_get_error(c->tls, n) == SSL_ERROR_WANT_WRITE ? -1 : 0;
    }
    ssize_t n = send(c->fd, bytes, length, MSG_NOSIGNAL);
    return n > 0 ? n : n < 0 && (errno == EAGAIN || errno == EINTR) ? -1 : 0;
}

static ssize_t on_send(
    nghttp2_session *session, const uint8_t *bytes, size_t length, int flags, void *context) {
    (void)session, (void)flags;
    struct connection *c = context;
    if (c->out_length + length > OUT_BYTES) return NGHTTP2_ERR_WOULDBLOCK;
    memcpy(c->out + c->out_length, bytes, length);
    c->out_length += length;
    return (ssize_t)length;
}

static void watch(struct connection *c, int operation) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (c->wants_write) event.events |= EPOLLOUT;
    if (epoll_ctl(c->load->poll, operation, c->fd, &event)) die("epoll_ctl: %s", strerror(errno));
}

void connection_open(struct load *load, struct connection *c) {
    const char *target = load->plan.target;
    bool tls = !strncmp(target, "https://", 8);
    *c = (struct connection){.load = load, .out = malloc(OUT_BYTES)};
    if (!c->out) die("out of memory");
    if (!strncmp(target, "unix:", 5)) c->fd = dial_unix(target + 5);
    else if (tls || !strncmp(target, "http://", 7)) c->fd = dial_tcp(target + (tls ? 8 : 7));
    else die("%s: http://HOST:PORT, https://HOST:PORT or unix:PATH", target);
    if (tls) start_tls(load, c);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);

    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_send_callback(callbacks, on_send);
    call_callbacks(callbacks);
    nghttp2_session_client_new(&c->session, callbacks, c);
    nghttp2_session_callbacks_del(callbacks);

    uint32_t window = load->plan.window_bytes;
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, load->plan.frame_bytes},
    };
    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 3);
    if (window > 65535) {
        nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, (int32_t)window);
    }
    // Its answer says that the server has our settings and we have its.
    nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
    watch(c, EPOLL_CTL_ADD);
    connection_flush(c);
}

static void lose(struct connection *c) {
    c->closed = true;
    c->load->tally.lost++;
    fail(c->load, "the server closed a connection");
    epoll_ctl(c->load->poll, EPOLL_CTL_DEL, c->fd, NULL);
}

void connection_flush(struct connection *c) {
    bool blocked = false;
    while (!c->closed && !blocked) {
        if (c->out_sent == c->out_length) {
            c->out_sent = c->out_length = 0;
            int error = nghttp2_session_send(c->session);
            if (error) die("nghttp2: %s", nghttp2_strerror(error));
            if (!c->out_length) break;
        }
        ssize_t n = write_some(c, c->out + c->out_sent, c->out_length - c->out_sent);
        if (n == 0) lose(c);
        if (n > 0) c->out_sent += (size_t)n;
        blocked = n < 0;
    }
    if (c->closed || blocked == c->wants_write) return;
    c->wants_write = blocked;
    watch(c, EPOLL_CTL_MOD);
}

// Reads once; with TLS until nothing is left, for what OpenSSL holds back wakes nobody.
void connection_receive(struct connection *c) {
    do {
        ssize_t n = read_some(c, c->load->in, IN_BYTES);
        if (n < 0) return;
        if (n == 0) {
            lose(c);
            return;
        }
        ssize_t taken = nghttp2_session_mem_recv(c->session, c->load->in, (size_t)n);
        if (taken < 0) die("nghttp2: %s", nghttp2_strerror((int)taken));
    } while (c->tls && SSL_has_pending(c->tls));
}
