"""What a process reaches through the others that it sees. Prints a line for each thing that it could get:
   PROCESS WHAT DEV:INODE KIND NAME."""

import ctypes
import os
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PTRACE_SEIZE, PTRACE_DETACH, PTRACE_INTERRUPT = 16, 0x4206, 17, 0x4207
PIDFD_GETFD = 438


def tell(who, what, about, name=""):
    kind = stat.S_IFMT(about.st_mode)
    print(who, what, "%d:%d" % (about.st_dev, about.st_ino), "%o" % kind, about.st_size, name.replace(" ", "_"))


for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
    base = "/proc/%d/" % pid
    try:
        who = open(base + "comm").read().strip().replace(" ", "_") + "/%d" % pid
    except OSError:
        continue
    if pid == os.getpid():
        who = "me/%d" % pid
    print(who, "seen", "-", "-", "-")
    places = [(name, base + name) for name in ("root", "cwd", "exe")]
    for dir in ("fd", "ns", "map_files", "task/%d/fd" % pid):
        try:
            places += [(dir + "/" + name, base + dir + "/" + name) for name in os.listdir(base + dir)]
        except OSError:
            pass
    for what, path in places:
        try:
            tell(who, what, os.stat(path), os.readlink(path))
        except OSError:
            pass
        if what in ("root", "cwd") or what.startswith("fd/"):
            try:
                tell(who, what + "/..", os.stat(path + "/.."), ",".join(sorted(os.listdir(path + "/.."))))
            except OSError:
                pass
    if pid == os.getpid():
        continue
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        continue
    for fd in range(64):
        got = libc.syscall(PIDFD_GETFD, pidfd, fd, 0)
        if got >= 0:
            tell(who, "getfd/%d" % fd, os.fstat(got), os.readlink("/proc/self/fd/%d" % got))
            os.close(got)
    for flag, kind in ((0x20000, "mnt"), (0x40000000, "net"), (0x20000000, "pid"), (0x4000000, "uts"), (0x8000000, "ipc")):
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            if libc.setns(pidfd, flag) == 0:
                tell(who, "setns/" + kind, os.stat("/"), os.readlink("/proc/thread-self/ns/" + kind) if os.path.exists("/proc/thread-self") else "")
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
    if libc.ptrace(PTRACE_SEIZE, pid, 0, 0) == 0:
        print(who, "ptrace", "-", "-", "-")
        if libc.ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0:
            os.waitpid(pid, 0x40000000)
            libc.ptrace(PTRACE_DETACH, pid, 0, 0)
