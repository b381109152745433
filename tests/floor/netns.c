/* The floor of `kak netns`: each verb with only the system calls that it takes. Names are not checked, and errors are
 * only an exit status, without a message.
 * netns add|delete|exec|list|list-id|identify|pids [ARG]... */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/net_namespace.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DIR_ "/run/netns"
static char path[4096];

static const char *file(const char *name) {
    snprintf(path, sizeof path, DIR_ "/%s", name);
    return path;
}

/* Does something in a child that shares our memory, so that this process does not change its own namespace. */
static int elsewhere(int (*work)(void *)) {
    static char stack[65536] __attribute__((aligned(16)));
    int child = clone(work, stack + sizeof stack, CLONE_VM | CLONE_FILES | CLONE_VFORK, 0);
    return child < 0 || waitpid(child, 0, __WALL) < 0;
}

static int made, ns, rtnetlink;
static int make(void *unused) {
    (void)unused;
    made = unshare(CLONE_NEWNET) ? -1 : open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    return 0;
}

static int add(char **names) {
    mkdir(DIR_, 0755);
    int dir = open(DIR_, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    flock(dir, LOCK_EX);
    if (mount("", DIR_, "none", MS_SHARED | MS_REC, 0)) {
        mount(DIR_, DIR_, "none", MS_BIND | MS_REC, 0);
        mount("", DIR_, "none", MS_PRIVATE | MS_REC, 0);
        mount("", DIR_, "none", MS_SHARED | MS_REC, 0);
    }
    for (; *names; names++) {
        int fd = open(file(*names), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
        char of[32];
        if (fd < 0 || elsewhere(make) || made < 0) return 1;
        close(fd);
        snprintf(of, sizeof of, "/proc/self/fd/%d", made);
        if (mount(of, path, "none", MS_BIND, 0)) return 1;
        close(made);
    }
    return 0;
}

static int netlink(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), on = 1;
    setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
    return fd;
}

static int look(void *unused) {
    (void)unused;
    setns(ns, CLONE_NEWNET);
    rtnetlink = netlink();
    return 0;
}

/* With a look at its links before: a physical device would be lost. */
static int delete(const char *name) {
    static char answer[65536];
    struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
    } message = {{sizeof message, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {0}};
    ns = open(file(name), O_RDONLY | O_CLOEXEC);
    if (elsewhere(look)) return 1;
    int fd = rtnetlink;
    send(fd, &message, sizeof message, 0);
    while (recv(fd, answer, sizeof answer, 0) > 0 && ((struct nlmsghdr *)answer)->nlmsg_type != NLMSG_DONE)
        ;
    close(fd);
    close(ns);
    return umount2(file(name), MNT_DETACH | UMOUNT_NOFOLLOW) || unlink(path);
}

/* statmount(2) and listmount(2), Linux 6.8: linux/mount.h. */
struct about { unsigned size, opts; unsigned long long mask, rest[11]; unsigned root, point; unsigned long long more[50]; char text[4096]; };
static long ask(int call, unsigned long long mount, unsigned long long param, void *to, long room) {
    struct { unsigned size, spare; unsigned long long mount, param; } request = {24, 0, mount, param};
    return syscall(call, &request, to, room, 0);
}

/* Every topmost mount below /sys is moved to the new sysfs. */
static int exec(char **words) {
    static struct about about[256];
    static int kept[256];
    unsigned long long below[256];
    const char *last = "";
    struct { unsigned mask, pad; unsigned long long rest[17], mount, more[13]; } statx_;
    struct statfs flags;
    int ns = open(file(words[0]), O_RDONLY | O_CLOEXEC);
    if (setns(ns, CLONE_NEWNET) || unshare(CLONE_NEWNS) || mount("", "/", "none", MS_SLAVE | MS_REC, 0)) return 255;
    int sys = open("/sys", O_PATH | O_CLOEXEC);
    if (syscall(SYS_statx, sys, "", AT_EMPTY_PATH, 0x4000, &statx_)) return 255;
    if (ask(457, statx_.mount, 0x12, about, sizeof *about)) return 255;
    long count = ask(458, statx_.mount, 0, below, 256);
    if (count < 0) return 255;
    statfs("/sys", &flags);
    for (long n = 0; n < count; n++) {
        kept[n] = -1;
        if (ask(457, below[n], 0x12, about + n, sizeof *about)) continue;
        const char *point = about[n].text + about[n].point;
        size_t size = strlen(last);
        if (size && !strncmp(point, last, size) && point[size] == '/') continue;
        kept[n] = open(last = point, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    }
    if (mount(words[0], "/sys", "sysfs", 0, 0)) return 255;
    for (long n = 0; n < count; n++)
        if (kept[n] >= 0) syscall(SYS_move_mount, kept[n], "", AT_FDCWD, about[n].text + about[n].point, 4);
    open("/etc/netns", O_RDONLY | O_CLOEXEC); /* and there is none of this name in there */
    execv(words[1], words + 1);
    return 127;
}

static int talk(int socket, int type, int flags, int kind, int value, char *answer, int size) {
    struct {
        struct nlmsghdr header;
        struct rtgenmsg family;
        char pad[3];
        struct nlattr attribute;
        int value;
    } message = {{sizeof message, type, NLM_F_REQUEST | flags, 1, 0}, {0}, {0}, {8, kind}, value};
    if (!kind) message.header.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtgenmsg) + 3);
    send(socket, &message, message.header.nlmsg_len, 0);
    return recv(socket, answer, size, 0);
}

static int number(int socket, const char *name, char *answer) {
    int fd = open(file(name), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    talk(socket, RTM_GETNSID, 0, NETNSA_FD, fd, answer, 65536);
    close(fd);
    return ((struct nlmsghdr *)answer)->nlmsg_type == RTM_NEWNSID ? *(int *)(answer + 24) : -1;
}

static int list(int ids) {
    static char out[1 << 20], answer[65536];
    int fd = netlink(), numbered = 0, length = 0;
    struct statfs about;
    DIR *dir = opendir(DIR_);
    struct dirent *entry;
    talk(fd, RTM_GETNSID, NLM_F_DUMP, 0, 0, answer, sizeof answer);
    numbered = ids || ((struct nlmsghdr *)answer)->nlmsg_type == RTM_NEWNSID;
    if (ids)
        while (((struct nlmsghdr *)answer)->nlmsg_type == RTM_NEWNSID && recv(fd, answer, sizeof answer, 0) > 0)
            ;
    while (dir && (entry = readdir(dir))) {
        if (*entry->d_name == '.') continue;
        int id = -1;
        if (numbered) id = number(fd, entry->d_name, answer);
        else if (statfs(file(entry->d_name), &about) || about.f_type != 0x6e736673) return 1;
        length += id < 0 ? sprintf(out + length, "%s\n", entry->d_name) : sprintf(out + length, "%s (id: %d)\n", entry->d_name, id);
    }
    return write(1, out, length) != length;
}

static int identify(const char *pid) {
    struct stat wanted, there;
    struct dirent *entry;
    char found[256] = "";
    snprintf(path, sizeof path, "/proc/%s/ns/net", pid);
    stat(path, &wanted);
    DIR *dir = opendir(DIR_);
    while (dir && (entry = readdir(dir)))
        if (!fstatat(dirfd(dir), entry->d_name, &there, 0) && there.st_dev == wanted.st_dev && there.st_ino == wanted.st_ino)
            strcpy(found, entry->d_name);
    return dprintf(1, "%s\n", found) < 0;
}

static int pids(const char *name) {
    static char out[1 << 20];
    struct stat wanted, there;
    struct dirent *entry;
    int length = 0;
    stat(file(name), &wanted);
    DIR *dir = opendir("/proc");
    while ((entry = readdir(dir))) {
        if (*entry->d_name < '0' || *entry->d_name > '9') continue;
        snprintf(path, sizeof path, "%s/ns/net", entry->d_name);
        if (!fstatat(dirfd(dir), path, &there, 0) && there.st_dev == wanted.st_dev && there.st_ino == wanted.st_ino)
            length += sprintf(out + length, "%s\n", entry->d_name);
    }
    return write(1, out, length) != length;
}

int main(int argc, char **argv) {
    if (argc < 2) return 255;
    if (!strcmp(argv[1], "add")) return add(argv + 2);
    if (!strcmp(argv[1], "delete")) return delete(argv[2]);
    if (!strcmp(argv[1], "exec")) return exec(argv + 2);
    if (!strcmp(argv[1], "list")) return list(0);
    if (!strcmp(argv[1], "list-id")) return list(1);
    if (!strcmp(argv[1], "identify")) return identify(argv[2]);
    if (!strcmp(argv[1], "pids")) return pids(argv[2]);
    return 255;
}
