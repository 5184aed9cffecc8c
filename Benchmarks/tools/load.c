// A gRPC load client for procgate, for what h2load cannot do: it verifies each event and each byte,
// takes latencies, and holds calls and connections open. One thread, so pin it to one core.
#define _GNU_SOURCE
#include "load.h"
#include "pattern.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: load MODE --target http[s]://HOST:PORT|unix:PATH [OPTION...] [ARGUMENT...]\n"
    "  exec COMMAND        Exec; verifies the events' order, seq, bytes and exit status\n"
    "  follow ID           StreamOutput from the beginning; prints `ready` when all have output\n"
    "  hold-calls ID       the same, kept open until stdin ends\n"
    "  hold-connections    connections without calls, kept open until stdin ends\n"
    "  upload ID BYTES     StreamStdin of the pattern\n"
    "  start COMMAND       StartProcess; prints the id\n"
    "  get ID              GetProcess; prints the response's length in bytes, with its prefix\n"
    "  write ID TEXT       WriteStdin\n"
    "  wait ID             Wait; prints the process's stdout\n"
    "  --calls N           how many in all (1)       --at-once N   so many at a time (1)\n"
    "  --connections N     spread over them (1)      --timeout S   give up then (120)\n"
    "  --expect zero:BYTES|pattern:BYTES|lines:COUNT  what each stdout has to be\n"
    "  --window BYTES      of streams and connections (2^30)\n"
    "  --frame BYTES       the largest frame taken (16384)\n"
    "  --ca FILE           who signed the server's certificate\n"
    "  --header 'name: value'  more metadata, may be repeated\n"
    "Prints one line of JSON, except for the last four modes. Exit status 1 where a call failed\n"
    "or differed from what was expected.\n";

double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(2);
}

void fail(struct load *load, const char *format, ...) {
    if (load->tally.error[0]) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(load->tally.error, sizeof load->tally.error, format, arguments);
    va_end(arguments);
}

static bool holds(const struct load *load) {
    return load->plan.mode == MODE_HOLD_CALLS || load->plan.mode == MODE_HOLD_CONNECTIONS;
}

// What is due once callbacks have counted enough: the first calls, and the word that all is ready.
static void advance(struct load *load) {
    const struct plan *plan = &load->plan;
    struct tally *tally = &load->tally;
    bool all_settled = tally->settled == plan->connections;
    if (all_settled && !tally->begun_s) {
        tally->begun_s = now_s();
        bool calls = plan->mode != MODE_HOLD_CONNECTIONS;
        for (long i = 0; i < plan->at_once && calls; i++) {
            call_launch(&load->connections[i % plan->connections]);
        }
        for (long i = 0; i < plan->connections; i++) connection_flush(&load->connections[i]);
    }
    bool ready = false;
    if (plan->mode == MODE_HOLD_CONNECTIONS) ready = all_settled;
    if (plan->mode == MODE_FOLLOW || plan->mode == MODE_HOLD_CALLS) {
        ready = tally->answered == plan->calls;
    }
    if (!ready || load->said_ready) return;
    load->said_ready = true;
    puts("ready");
    fflush(stdout);
}

// ---- the command line

static void expect(struct load *load, const char *what) {
    struct expectation *e = &load->plan.expected;
    const char *colon = strchr(what, ':');
    if (!colon) die("--expect %s?", what);
    uint64_t count = strtoull(colon + 1, NULL, 10);
    if (!strncmp(what, "zero:", 5)) {
        *e = (struct expectation){calloc(1, PATTERN_BYTES), PATTERN_BYTES, count};
    } else if (!strncmp(what, "pattern:", 8)) {
        *e = (struct expectation){load->pattern, PATTERN_BYTES, count};
    } else if (!strncmp(what, "lines:", 6)) {
        struct buffer lines = {0};
        char line[32];
        for (uint64_t i = 1; i <= count; i++) {
            int n = snprintf(line, sizeof line, "%llu\n", (unsigned long long)i);
            append(&lines, line, (size_t)n);
        }
        *e = (struct expectation){lines.data, lines.length, lines.length};
    } else {
        die("--expect %s?", what);
    }
}

static void add_header(struct plan *plan, char *text) {
    char *colon = strchr(text, ':');
    bool taken = colon && plan->headers < MAX_HEADERS;
    if (!taken) die("--header 'name: value', %d at most", MAX_HEADERS);
    *colon++ = 0;
    plan->header_names[plan->headers] = text;
    plan->header_values[plan->headers++] = colon + strspn(colon, " ");
}

static int read_options(struct load *load, int argc, char **argv) {
    enum { TARGET, CALLS, AT_ONCE, CONNECTIONS, TIMEOUT, EXPECT, WINDOW, FRAME, CA, HEADER };
    static const char *const names[] = {"target", "calls", "at-once", "connections", "timeout",
                                        "expect", "window", "frame", "ca", "header"};
    struct option options[HEADER + 2] = {0};
    for (int i = 0; i <= HEADER; i++) {
        options[i] = (struct option){names[i], required_argument, NULL, i};
    }
    struct plan *plan = &load->plan;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case TARGET: plan->target = optarg; break;
        case CALLS: plan->calls = atol(optarg); break;
        case AT_ONCE: plan->at_once = atol(optarg); break;
        case CONNECTIONS: plan->connections = atol(optarg); break;
        case TIMEOUT: plan->timeout_s = atof(optarg); break;
        case EXPECT: expect(load, optarg); break;
        case WINDOW: plan->window_bytes = (uint32_t)strtoul(optarg, NULL, 10); break;
        case FRAME: plan->frame_bytes = (uint32_t)strtoul(optarg, NULL, 10); break;
        case CA: plan->ca_file = optarg; break;
        case HEADER: add_header(plan, optarg); break;
        default: exit(64);
        }
    }
    if (plan->calls < 1 || plan->at_once < 1 || plan->connections < 1) die("at least 1 of each");
    bool all_at_once = plan->mode == MODE_FOLLOW || plan->mode == MODE_HOLD_CALLS;
    if (all_at_once || plan->at_once > plan->calls) plan->at_once = plan->calls;
    bool calls = plan->mode != MODE_HOLD_CONNECTIONS;
    if (calls && plan->connections > plan->at_once) plan->connections = plan->at_once;
    return optind;
}

// ---- the modes

static const struct mode_row {
    const char *name, *method;
    enum mode mode;
    int arguments;
} modes[] = {
    {"exec", "Exec", MODE_EXEC, 1},
    {"follow", "StreamOutput", MODE_FOLLOW, 1},
    {"hold-calls", "StreamOutput", MODE_HOLD_CALLS, 1},
    {"hold-connections", "", MODE_HOLD_CONNECTIONS, 0},
    {"upload", "StreamStdin", MODE_UPLOAD, 2},
    {"start", "StartProcess", MODE_UNARY, 1},
    {"get", "GetProcess", MODE_UNARY, 1},
    {"write", "WriteStdin", MODE_UNARY, 2},
    {"wait", "Wait", MODE_UNARY, 1},
};

// Exec and StartProcess take a ProcessSpec in field 1, whose field 1 is the command; the others a
// process's id in field 1. WriteStdin's data is field 2.
static struct buffer request_of(const struct mode_row *row, char **arguments) {
    struct buffer spec = {0}, message = {0}, framed = {0};
    bool runs = !strcmp(row->method, "Exec") || !strcmp(row->method, "StartProcess");
    if (runs) {
        append_text_field(&spec, 1, arguments[0]);
        append_bytes_field(&message, 1, spec.data, spec.length);
    } else if (row->arguments) {
        append_text_field(&message, 1, arguments[0]);
    }
    if (!strcmp(row->name, "write")) append_text_field(&message, 2, arguments[1]);
    append_grpc_prefix(&framed, message.length);
    append(&framed, message.data, message.length);
    return framed;
}

// The bytes field that `path` leads to, or an empty one.
static struct field field_at(const struct buffer *message, const uint32_t *path, int depth) {
    struct reader r = reader_over(message->data, message->length);
    struct field f = {0};
    for (int i = 0; i < depth; i++) {
        bool found = false;
        while (!found && read_field(&r, &f)) found = f.number == path[i] && f.bytes;
        if (!found) return (struct field){0};
        r = reader_over(f.bytes, f.value);
    }
    return f;
}

static void print_answer(const char *name, const struct buffer *answer) {
    static const uint32_t first_of_first[2] = {1, 1}, second_of_first[2] = {1, 2};
    if (!strcmp(name, "get")) printf("%zu\n", answer->length + 5);
    if (strcmp(name, "start") && strcmp(name, "wait")) return;
    bool starts = !strcmp(name, "start");
    struct field f = field_at(answer, starts ? first_of_first : second_of_first, 2);
    fwrite(f.bytes, 1, f.value, stdout);
    if (starts) putchar('\n');
}

// ---- the report

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double latency_ms(const struct tally *tally, double part) {
    if (!tally->finished) return 0;
    long i = (long)(part * (double)tally->finished);
    return tally->latency_s[i < tally->finished ? i : tally->finished - 1] * 1e3;
}

static int lag_ms(const struct tally *tally, double part) {
    uint64_t below = (uint64_t)(part * (double)tally->lags), seen = 0;
    for (int i = 0; i < LAG_BUCKETS; i++) {
        seen += tally->lag_ms[i];
        if (seen > below) return i;
    }
    return 0;
}

static void report(struct load *load) {
    struct tally *t = &load->tally;
    qsort(t->latency_s, (size_t)t->finished, sizeof *t->latency_s, by_value);
    printf("{\"calls\":%ld,\"failed\":%ld,\"lost_connections\":%ld,\"seconds\":%.6f,"
           "\"bytes\":%llu,\"messages\":%llu,\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"max_ms\":%.4f,"
           "\"lag_p50_ms\":%d,\"lag_p99_ms\":%d,\"error\":\"",
           t->finished, t->failed, t->lost, now_s() - t->begun_s, (unsigned long long)t->bytes,
           (unsigned long long)t->messages, latency_ms(t, 0.5), latency_ms(t, 0.99),
           latency_ms(t, 1), lag_ms(t, 0.5), lag_ms(t, 0.99));
    for (const char *p = t->error; *p; p++) {
        if (*p != '"' && *p != '\\' && *p >= ' ') putchar(*p);
    }
    printf("\"}\n");
}

// ---- the loop

static bool is_over(struct load *load, double deadline_s) {
    struct tally *t = &load->tally;
    if (!holds(load) && (t->finished == load->plan.calls || t->lost)) return true;
    if (now_s() < deadline_s) return false;
    fail(load, "%ld of %ld calls had ended after %.0f s", t->finished, load->plan.calls,
         load->plan.timeout_s);
    t->failed++;
    return true;
}

static void run(struct load *load) {
    double deadline_s = now_s() + load->plan.timeout_s;
    struct epoll_event ready[64], input = {.events = EPOLLIN, .data.ptr = NULL};
    load->poll = epoll_create1(EPOLL_CLOEXEC);
    if (holds(load) && epoll_ctl(load->poll, EPOLL_CTL_ADD, STDIN_FILENO, &input)) {
        die("stdin has to be a pipe or a terminal: %s", strerror(errno));
    }
    for (long i = 0; i < load->plan.connections; i++) {
        connection_open(load, &load->connections[i]);
    }
    while (!is_over(load, deadline_s)) {
        int wait_ms = (int)((deadline_s - now_s()) * 1e3) + 1;
        int n = epoll_wait(load->poll, ready, 64, wait_ms < 1 ? 1 : wait_ms);
        for (int i = 0; i < n; i++) {
            struct connection *c = ready[i].data.ptr;
            char ignored[64];
            if (!c && read(STDIN_FILENO, ignored, sizeof ignored) <= 0) return;
            if (!c) continue;
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) connection_receive(c);
            connection_flush(c);
        }
        advance(load);
    }
}

int main(int argc, char **argv) {
    const struct mode_row *row = NULL;
    for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof modes[0]; i++) {
        if (!strcmp(argv[1], modes[i].name)) row = &modes[i];
    }
    struct load *load = calloc(1, sizeof *load);
    if (!row || !load) {
        fputs(usage, stderr);
        return 64;
    }
    load->pattern = malloc(PATTERN_BYTES);
    fill_pattern(load->pattern);
    load->plan = (struct plan){.mode = row->mode, .method = row->method, .target = "", .calls = 1,
                               .at_once = 1, .connections = 1, .window_bytes = (1u << 30) - 1,
                               .frame_bytes = 16384, .timeout_s = 120};
    char **arguments = argv + 1 + read_options(load, argc - 1, argv + 1);
    if (argv + argc - arguments != row->arguments) {
        fputs(usage, stderr);
        return 64;
    }
    struct tally *tally = &load->tally;
    load->plan.request = request_of(row, arguments);
    if (row->mode == MODE_UPLOAD) {
        load->plan.upload_id = arguments[0];
        load->plan.upload_bytes = strtoull(arguments[1], NULL, 10);
    }
    load->connections = calloc((size_t)load->plan.connections, sizeof *load->connections);
    tally->latency_s = calloc((size_t)load->plan.calls, sizeof *tally->latency_s);
    if (!load->connections || !tally->latency_s) die("out of memory");
    signal(SIGPIPE, SIG_IGN);
    run(load);
    // What is held must not have ended.
    if (row->mode == MODE_HOLD_CALLS) tally->failed += tally->finished;
    bool good = !tally->failed && !tally->lost && !tally->error[0];
    if (row->mode != MODE_UNARY) report(load);
    else if (good) print_answer(row->name, &tally->answer);
    else fprintf(stderr, "load: %s\n", tally->error);
    return good ? 0 : 1;
}
