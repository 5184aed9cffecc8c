// What this machine does with no gateway in between: the floors that the gateway's figures are
// divided by. Each prints one line of JSON. Pin it where the gateway would run; the other end of
// its sockets is a process of its own on core CPU.
//
//   floors spawn N PROGRAM [ARG...]                  vfork, execve and waitpid, N times in a row
//   floors relay read|splice READERS CPU PROGRAM...  what PROGRAM prints goes to READERS sockets
//   floors pour BYTES CPU PROGRAM...                 BYTES from a socket go to PROGRAM's stdin
//
// "cpu_s" is this process's own time; for `spawn` its children's too.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK_BYTES = 256 << 10, PIPE_BYTES = 1 << 20, MAX_READERS = 256 };

extern char **environ;
static uint8_t block[BLOCK_BYTES];

static void require(int ok, const char *what) {
    if (ok) return;
    perror(what);
    exit(2);
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_seconds(int who) {
    struct rusage u;
    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int spawn_floor(long count, char **command) {
    require(count > 0, "spawn");
    double *latency = calloc((size_t)count, sizeof *latency), begin = seconds();
    require(latency != NULL, "calloc");
    for (long i = 0; i < count; i++) {
        double t = seconds();
        int status;
        pid_t child = vfork();
        if (child == 0) {
            execve(command[0], command, environ);
            _exit(127);
        }
        require(child > 0 && waitpid(child, &status, 0) == child && status == 0, command[0]);
        latency[i] = seconds() - t;
    }
    double elapsed = seconds() - begin;
    qsort(latency, (size_t)count, sizeof *latency, by_value);
    printf("{\"seconds\":%.6f,\"count\":%ld,\"cpu_s\":%.6f,\"p50_ms\":%.4f,\"p99_ms\":%.4f}\n",
           elapsed, count, cpu_seconds(RUSAGE_SELF) + cpu_seconds(RUSAGE_CHILDREN),
           latency[count / 2] * 1e3, latency[count * 99 / 100] * 1e3);
    return 0;
}

static void pin_to(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    require(sched_setaffinity(0, sizeof set, &set) == 0, "sched_setaffinity");
}

static int listen_on_loopback(struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t length = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    require(bind(fd, (void *)address, length) == 0 && listen(fd, MAX_READERS) == 0 &&
                getsockname(fd, (void *)address, &length) == 0,
            "listen");
    return fd;
}

static int connect_to(const struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    require(connect(fd, (const void *)address, sizeof *address) == 0, "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

// Receives from all sockets to their ends; the exit status says whether that was as many bytes as
// the parent then says through the pipe.
static void receive_all(const struct sockaddr_in *address, int readers, int total_pipe) {
    struct epoll_event event = {.events = EPOLLIN};
    int poll = epoll_create1(EPOLL_CLOEXEC), left = readers;
    uint64_t received = 0, expected;
    for (int i = 0; i < readers; i++) {
        event.data.fd = connect_to(address);
        require(epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event) == 0, "epoll_ctl");
    }
    while (left) {
        struct epoll_event ready[MAX_READERS];
        int n = epoll_wait(poll, ready, MAX_READERS, -1);
        for (int i = 0; i < n; i++) {
            ssize_t got = recv(ready[i].data.fd, block, sizeof block, 0);
            if (got > 0) received += (uint64_t)got;
            if (got > 0) continue;
            close(ready[i].data.fd);
            left--;
        }
    }
    require(read(total_pipe, &expected, sizeof expected) == sizeof expected, "read");
    _exit(received == expected ? 0 : 1);
}

static pid_t start_program(char **command, int fd, int as) {
    posix_spawn_file_actions_t actions;
    pid_t child;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd, as);
    require(posix_spawnp(&child, command[0], &actions, NULL, command, environ) == 0, command[0]);
    posix_spawn_file_actions_destroy(&actions);
    return child;
}

static int succeeded(pid_t child) {
    int status;
    return waitpid(child, &status, 0) == child && status == 0;
}

static void write_all(int fd, const uint8_t *bytes, size_t length) {
    while (length) {
        ssize_t n = write(fd, bytes, length);
        require(n > 0, "write");
        bytes += n;
        length -= (size_t)n;
    }
}

// Moves everything from the pipe to the sockets; returns the bytes delivered.
static uint64_t relay(int from, const int *sockets, int readers, int splicing) {
    uint64_t delivered = 0;
    for (;;) {
        ssize_t n = splicing ? splice(from, NULL, sockets[0], NULL, PIPE_BYTES, SPLICE_F_MOVE)
                             : read(from, block, sizeof block);
        require(n >= 0, "relay");
        if (n == 0) return delivered;
        for (int i = 0; i < readers && !splicing; i++) write_all(sockets[i], block, (size_t)n);
        delivered += (uint64_t)n * (uint64_t)readers;
    }
}

static int relay_floor(int splicing, int readers, int cpu, char **command) {
    require(readers >= 1 && readers <= (splicing ? 1 : MAX_READERS), "readers");
    struct sockaddr_in address;
    int sockets[MAX_READERS], listener = listen_on_loopback(&address), output[2], total[2];
    require(pipe2(total, O_CLOEXEC) == 0, "pipe2");
    pid_t receiver = fork();
    if (receiver == 0) {
        pin_to(cpu);
        receive_all(&address, readers, total[0]);
    }
    require(pipe2(output, O_CLOEXEC) == 0, "pipe2");
    fcntl(output[0], F_SETPIPE_SZ, PIPE_BYTES);
    for (int i = 0; i < readers; i++) {
        sockets[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        require(sockets[i] >= 0, "accept4");
    }
    double begin = seconds(), cpu_begin = cpu_seconds(RUSAGE_SELF);
    pid_t program = start_program(command, output[1], STDOUT_FILENO);
    close(output[1]);
    uint64_t delivered = relay(output[0], sockets, readers, splicing);
    for (int i = 0; i < readers; i++) close(sockets[i]);
    double cpu_used = cpu_seconds(RUSAGE_SELF) - cpu_begin;
    require(write(total[1], &delivered, sizeof delivered) == sizeof delivered, "write");
    require(succeeded(receiver), "receiver");
    double elapsed = seconds() - begin;
    require(succeeded(program), command[0]);
    printf("{\"seconds\":%.6f,\"bytes\":%llu,\"cpu_s\":%.6f}\n", elapsed,
           (unsigned long long)delivered, cpu_used);
    return 0;
}

static int pour_floor(uint64_t bytes, int cpu, char **command) {
    struct sockaddr_in address;
    int listener = listen_on_loopback(&address), input[2];
    pid_t sender = fork();
    if (sender == 0) {
        pin_to(cpu);
        int fd = connect_to(&address);
        for (uint64_t left = bytes; left;) {
            size_t length = left < sizeof block ? (size_t)left : sizeof block;
            write_all(fd, block, length);
            left -= length;
        }
        _exit(0);
    }
    int from = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    require(from >= 0 && pipe2(input, O_CLOEXEC) == 0, "accept4");
    fcntl(input[0], F_SETPIPE_SZ, PIPE_BYTES);
    double begin = seconds(), cpu_begin = cpu_seconds(RUSAGE_SELF);
    pid_t program = start_program(command, input[0], STDIN_FILENO);
    close(input[0]);
    uint64_t delivered = 0;
    ssize_t n;
    while ((n = recv(from, block, sizeof block, 0)) > 0) {
        write_all(input[1], block, (size_t)n);
        delivered += (uint64_t)n;
    }
    close(input[1]);
    double cpu_used = cpu_seconds(RUSAGE_SELF) - cpu_begin;
    require(succeeded(program) && succeeded(sender) && delivered == bytes, command[0]);
    printf("{\"seconds\":%.6f,\"bytes\":%llu,\"cpu_s\":%.6f}\n", seconds() - begin,
           (unsigned long long)delivered, cpu_used);
    return 0;
}

int main(int argc, char **argv) {
    if (argc >= 4 && !strcmp(argv[1], "spawn")) return spawn_floor(atol(argv[2]), argv + 3);
    if (argc >= 6 && !strcmp(argv[1], "relay")) {
        return relay_floor(!strcmp(argv[2], "splice"), atoi(argv[3]), atoi(argv[4]), argv + 5);
    }
    if (argc >= 5 && !strcmp(argv[1], "pour")) {
        return pour_floor(strtoull(argv[2], NULL, 10), atoi(argv[3]), argv + 4);
    }
    fputs("floors: spawn N PROGRAM... | relay read|splice READERS CPU PROGRAM... | "
          "pour BYTES CPU PROGRAM...\n", stderr);
    return 64;
}
