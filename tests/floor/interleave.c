/* Times commands in turn, so that a machine that becomes slower does so for all of them: in rounds, in which each runs
 * once, in a different order in each round, but the same orders in every run. What a program finds in the processor's
 * caches depends on the one before it: in a fixed order each command would always follow the same one. Commands after
 * --- run in each round after all those before it. Prints for each, in the order given, the median, least and greatest
 * wall-clock microseconds, the 10th percentile, the greatest resident memory in kB, the 90th percentile, and the
 * processor time of the last run, with that of the children it has waited for. The commands' standard output is
 * discarded.
 * interleave ROUNDS [+UID] CMD [ARG]... [--|--- [+UID] CMD [ARG]...]... */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int nowhere;

static int by_size(const void *a, const void *b) {
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

static long run(char **command, long *memory, long *worked) {
    struct timespec start, stop;
    struct rusage used;
    int status;
    long user = command[0][0] == '+' ? atol(*command++ + 1) : 0;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pid_t child = vfork();
    if (child == 0) {
        if (user && (syscall(SYS_setgroups, 0, 0) || syscall(SYS_setresgid, user, user, user)
                     || syscall(SYS_setresuid, user, user, user)))
            _exit(126);
        dup2(nowhere, 1);
        execv(command[0], command);
        _exit(127);
    }
    wait4(child, &status, 0, &used);
    clock_gettime(CLOCK_MONOTONIC, &stop);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) fprintf(stderr, "%s: status %x\n", command[0], status), exit(1);
    if (used.ru_maxrss > *memory) *memory = used.ru_maxrss;
    *worked = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    return (stop.tv_sec - start.tv_sec) * 1000000 + (stop.tv_nsec - start.tv_nsec) / 1000;
}

static void shuffle(int *order, int first, int end) {
    for (int n = end - 1; n > first; n--) {
        int other = first + random() % (n - first + 1), here = order[n];
        order[n] = order[other], order[other] = here;
    }
}

int main(int argc, char **argv) {
    int rounds = atoi(argv[1]), commands = 1, phases = 1;
    char ***command = calloc(argc, sizeof *command);
    int *order = calloc(argc, sizeof *order), *phase = calloc(argc, sizeof *phase);
    command[0] = argv + 2;
    for (int n = 2; n < argc; n++)
        if (!strcmp(argv[n], "--") || !strcmp(argv[n], "---")) {
            if (argv[n][2]) phase[phases++] = commands;
            argv[n] = 0, command[order[commands] = commands] = argv + n + 1, commands++;
        }
    phase[phases] = commands;
    long *memory = calloc(commands, sizeof *memory), *worked = calloc(commands, sizeof *worked);
    nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    long *times = calloc((size_t)rounds * commands, sizeof *times);
    for (int round = -1; round < rounds; round++) { /* the first one warms up */
        for (int n = 0; n < phases; n++) shuffle(order, phase[n], phase[n + 1]);
        for (int turn = 0; turn < commands; turn++) {
            int n = order[turn];
            long taken = run(command[n], memory + n, worked + n);
            if (round >= 0) times[n * rounds + round] = taken;
        }
    }
    for (int n = 0; n < commands; n++) {
        qsort(times + n * rounds, rounds, sizeof *times, by_size);
        long *sorted = times + n * rounds;
        if (rounds) printf("%ld %ld %ld %ld %ld %ld %ld\n", sorted[rounds / 2], sorted[0], sorted[rounds - 1], sorted[rounds / 10], memory[n], sorted[rounds - 1 - rounds / 10], worked[n]);
        else printf("0 0 0 0 %ld 0 %ld\n", memory[n], worked[n]);
    }
}
