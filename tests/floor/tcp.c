/* The throughput of a TCP stream across a network: tcp serve ADDR PORT accepts one connection after the other, until
 * it is killed; tcp send ADDR PORT MILLISECONDS sends for that long and prints how many megabytes a second the
 * server read. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char bytes[128 * 1024];

static void need(int fine, const char *what) {
    if (!fine) {
        perror(what);
        exit(1);
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    int stream = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    need(inet_pton(AF_INET, argv[2], &address.sin_addr) == 1, argv[2]);
    if (!strcmp(argv[1], "serve")) {
        setsockopt(stream, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        need(!bind(stream, (void *)&address, sizeof address) && !listen(stream, 1), "serve");
        for (;;) {
            int one = accept(stream, 0, 0);
            need(one >= 0, "accept");
            /* Answers with the number of bytes read, once the other side has sent all. */
            long long all = 0;
            for (ssize_t some; (some = read(one, bytes, sizeof bytes)) > 0;) all += some;
            need(write(one, &all, sizeof all) == sizeof all, "write");
            close(one);
        }
    }
    need(!connect(stream, (void *)&address, sizeof address), "connect");
    double start = now(), limit = start + atoi(argv[4]);
    while (now() < limit) need(write(stream, bytes, sizeof bytes) > 0, "write");
    long long all = 0;
    need(!shutdown(stream, SHUT_WR) && read(stream, &all, sizeof all) == sizeof all, "read");
    printf("%.1f\n", all / 1e3 / (now() - start));
    return 0;
}
