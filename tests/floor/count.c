/* Counts exactly, on any machine: the system calls of a program, or the instructions that it runs in user mode, by
 * single steps. What it forks is counted too, until the program has ended; what it executes is another program, and is
 * not. Processes that outlive it go on untraced, but all are killed if this one ends early.
 * count calls|instructions CMD [ARG]... */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* From linux/ptrace.h, which cannot be included together with the C library's header. */
enum { GET_SYSCALL_INFO = 0x420e, ENTRY = 1 };

static pid_t all[4096];
static int many;

static void forget(pid_t pid) {
    for (int n = 0; n < many; n++)
        if (all[n] == pid) all[n--] = all[--many];
}

static void know(pid_t pid) {
    forget(pid);
    if (many < 4096) all[many++] = pid;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    int calls = !strcmp(argv[1], "calls"), step = calls ? PTRACE_SYSCALL : PTRACE_SINGLESTEP;
    int ready[2], status, started = 0;
    long count = 0, options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK
        | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
    if (pipe2(ready, O_CLOEXEC)) return 1;
    /* Each step is two context switches, which are slow between two processors. */
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    if (!calls) sched_setaffinity(0, sizeof here, &here);
    pid_t first = fork(), pid;
    if (first == 0) {
        char none;
        close(ready[1]);
        if (read(ready[0], &none, 1)) _exit(126);
        int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(nowhere, 1), dup2(nowhere, 2);
        execv(argv[2], argv + 2);
        _exit(127);
    }
    if (ptrace(PTRACE_SEIZE, first, 0, options)) return perror("ptrace"), 1;
    close(ready[1]);
    while ((pid = waitpid(-1, &status, __WALL)) > 0) {
        if (!WIFSTOPPED(status)) {
            forget(pid);
            if (pid == first) break;
            continue;
        }
        int event = status >> 16, signal = WSTOPSIG(status);
        know(pid);
        if (event == PTRACE_EVENT_EXEC && started) {
            forget(pid);
            ptrace(PTRACE_DETACH, pid, 0, 0);
            continue;
        }
        if (event == PTRACE_EVENT_EXEC) started = 1;
        if (event) {
            signal = 0;
        } else if (signal == (SIGTRAP | 0x80)) {
            unsigned char about[128];
            signal = 0;
            count += ptrace(GET_SYSCALL_INFO, pid, sizeof about, about) > 0 && about[0] == ENTRY;
        } else if (signal == SIGTRAP) {
            signal = 0;
            count++;
        }
        ptrace(step, pid, 0, signal);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status)) return fprintf(stderr, "%s: status %x\n", argv[2], status), 1;
    while (many) {
        int there;
        pid = all[--many];
        ptrace(PTRACE_INTERRUPT, pid, 0, 0);
        if (waitpid(pid, &there, __WALL) != pid || !WIFSTOPPED(there)) continue;
        int signal = there >> 16 || (WSTOPSIG(there) & 0x7f) == SIGTRAP ? 0 : WSTOPSIG(there);
        ptrace(PTRACE_DETACH, pid, 0, signal);
    }
    printf("%ld\n", count);
    return 0;
}
