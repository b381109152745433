/* Times commands in turn, A B C A B C ..., so that a machine that grows slower grows slower for all of them. Prints for
 * each the median, least and greatest wall-clock microseconds. interleave ROUNDS CMD [ARG]... [-- CMD [ARG]...]... */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int by_size(const void *a, const void *b) {
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

static long run(char **command) {
    struct timespec start, stop;
    int status;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pid_t child = vfork();
    if (child == 0) {
        execv(command[0], command);
        _exit(127);
    }
    waitpid(child, &status, 0);
    clock_gettime(CLOCK_MONOTONIC, &stop);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) fprintf(stderr, "%s: status %x\n", command[0], status), exit(1);
    return (stop.tv_sec - start.tv_sec) * 1000000 + (stop.tv_nsec - start.tv_nsec) / 1000;
}

int main(int argc, char **argv) {
    int rounds = atoi(argv[1]), commands = 1;
    char ***command = calloc(argc, sizeof *command);
    command[0] = argv + 2;
    for (int n = 2; n < argc; n++)
        if (!strcmp(argv[n], "--")) argv[n] = 0, command[commands++] = argv + n + 1;
    long *times = calloc((size_t)rounds * commands, sizeof *times);
    for (int round = -1; round < rounds; round++) /* the first one warms up */
        for (int n = 0; n < commands; n++) {
            long taken = run(command[n]);
            if (round >= 0) times[n * rounds + round] = taken;
        }
    for (int n = 0; n < commands; n++) {
        qsort(times + n * rounds, rounds, sizeof *times, by_size);
        printf("%ld %ld %ld\n", times[n * rounds + rounds / 2], times[n * rounds], times[n * rounds + rounds - 1]);
    }
}
