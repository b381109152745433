/* A resolver that echoes the question, and its clients: to measure what a relay between the two costs.
 *
 *   dns serve ADDR               answers on port 53 until it is killed
 *   dns ask ADDR COUNT           one question after the other, each by a socket of its own as the C library has it:
 *                                the median and the 10th percentile in microseconds
 *   dns flood ADDR COUNT MANY    this many askers at a time: answers a second, and how many were lost
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A question for the address of host.test; its first two bytes are its ID. */
static const char question[] = "\0\0\1\0\0\1\0\0\0\0\0\0\4host\4test\0\0\1\0\1";
enum { LENGTH = sizeof question - 1 };

static struct sockaddr_in to = { .sin_family = AF_INET };

static void need(int fine, const char *what) {
    if (!fine) {
        perror(what);
        exit(1);
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void serve(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    char message[65536];
    need(bind(fd, (struct sockaddr *)&to, sizeof to) == 0, "bind");
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        ssize_t length = recvfrom(fd, message, sizeof message, 0, (struct sockaddr *)&from, &size);
        if (length < 12)
            continue;
        message[2] |= 0x80;
        sendto(fd, message, length, 0, (struct sockaddr *)&from, size);
    }
}

/* Sends a question. */
static void put(int fd, int number) {
    char message[LENGTH];
    memcpy(message, question, LENGTH);
    message[0] = number >> 8;
    message[1] = number;
    need(send(fd, message, LENGTH, 0) == LENGTH, "send");
}

/* A new socket, by which a question has been sent. */
static int asked(int number) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    need(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    put(fd, number);
    return fd;
}

/* Whether the answer has arrived; it must be that to this question. */
static int answered(int fd, int number) {
    unsigned char message[512];
    if (recv(fd, message, sizeof message, MSG_DONTWAIT) < LENGTH)
        return 0;
    need(message[0] == (number >> 8 & 255) && message[1] == (number & 255), "somebody else's answer");
    return 1;
}

static void ask(int count) {
    double *took = calloc(count, sizeof *took);
    for (int n = 0; n < count; n++) {
        double begin = now();
        struct pollfd fd = { .fd = asked(n), .events = POLLIN };
        need(poll(&fd, 1, 5000) == 1 && answered(fd.fd, n), "no answer");
        took[n] = now() - begin;
        close(fd.fd);
    }
    qsort(took, count, sizeof *took, order);
    printf("%.1f %.1f\n", took[count / 2], took[count / 10]);
}

/* This many askers at a time, each with one socket for all of its questions. */
static void flood(int count, int many) {
    int epoll = epoll_create1(0), open = 0, next = 0, *number = calloc(65536, sizeof *number);
    double begin = now();
    for (; next < count && open < many; next++, open++) {
        int fd = asked(next);
        struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
        number[fd] = next;
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
    while (open) {
        struct epoll_event events[64];
        int ready = epoll_wait(epoll, events, 64, 1000);
        if (ready <= 0)
            break;
        for (int n = 0; n < ready; n++) {
            int fd = events[n].data.fd;
            if (!answered(fd, number[fd]))
                continue;
            if (next == count) {
                open--;
                continue;
            }
            number[fd] = next;
            put(fd, next++);
        }
    }
    printf("%.0f %d\n", (next - open) / ((now() - begin) / 1e6), open);
}

int main(int argc, char **argv) {
    need(argc > 2, "dns serve|ask|flood ADDR [COUNT [MANY]]");
    to.sin_addr.s_addr = inet_addr(argv[2]);
    to.sin_port = htons(53);
    if (!strcmp(argv[1], "serve"))
        serve();
    if (!strcmp(argv[1], "ask"))
        ask(atoi(argv[3]));
    if (!strcmp(argv[1], "flood"))
        flood(atoi(argv[3]), atoi(argv[4]));
    return 0;
}
