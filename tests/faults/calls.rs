//! Tables of system calls: their names, which of them cannot fail, which change nothing that others see, and with what
//! errnos each can fail.

/// Defines the names of system call numbers.
macro_rules! names {
    ($($name:ident = $number:ident),* $(,)?) => {
        /// The name of a system call number.
        fn plain(number: i64) -> &'static str {
            $(if number == libc::$number { return stringify!($name); })*
            // The libc crate's names end before these two; their numbers are the same on all architectures.
            if let Some(name) = number.checked_sub(457).and_then(|n| ["statmount", "listmount"].get(usize::try_from(n).ok()?)) {
                return name;
            }
            panic!("system call {number} has no name in tests/faults/calls.rs")
        }
    };
}

names! {
    accept4 = SYS_accept4, access = SYS_access, arch_prctl = SYS_arch_prctl, bind = SYS_bind, brk = SYS_brk,
    capget = SYS_capget, capset = SYS_capset, chdir = SYS_chdir, chmod = SYS_chmod, chown = SYS_chown,
    chroot = SYS_chroot, clock_gettime = SYS_clock_gettime, clone = SYS_clone, clone3 = SYS_clone3, close = SYS_close,
    close_range = SYS_close_range, connect = SYS_connect, copy_file_range = SYS_copy_file_range, dup = SYS_dup,
    dup2 = SYS_dup2, dup3 = SYS_dup3, epoll_create1 = SYS_epoll_create1, epoll_ctl = SYS_epoll_ctl,
    epoll_pwait = SYS_epoll_pwait, eventfd2 = SYS_eventfd2, execve = SYS_execve, execveat = SYS_execveat,
    exit = SYS_exit, exit_group = SYS_exit_group, faccessat = SYS_faccessat, faccessat2 = SYS_faccessat2,
    fchdir = SYS_fchdir, fchmod = SYS_fchmod, fchmodat = SYS_fchmodat, fchown = SYS_fchown, fchownat = SYS_fchownat,
    fcntl = SYS_fcntl, fdatasync = SYS_fdatasync, flock = SYS_flock, fork = SYS_fork, fstat = SYS_fstat,
    fstatfs = SYS_fstatfs, fsync = SYS_fsync, ftruncate = SYS_ftruncate, futex = SYS_futex, getcwd = SYS_getcwd,
    getdents64 = SYS_getdents64, getegid = SYS_getegid, geteuid = SYS_geteuid, getgid = SYS_getgid,
    getgroups = SYS_getgroups, getpeername = SYS_getpeername, getpid = SYS_getpid, getpgid = SYS_getpgid,
    getppid = SYS_getppid, getpriority = SYS_getpriority, getrandom = SYS_getrandom, getresgid = SYS_getresgid,
    getresuid = SYS_getresuid, getsid = SYS_getsid, getsockname = SYS_getsockname, getsockopt = SYS_getsockopt,
    gettid = SYS_gettid, getuid = SYS_getuid, inotify_add_watch = SYS_inotify_add_watch,
    inotify_init1 = SYS_inotify_init1, inotify_rm_watch = SYS_inotify_rm_watch, ioctl = SYS_ioctl, kill = SYS_kill,
    lchown = SYS_lchown, link = SYS_link, linkat = SYS_linkat, listen = SYS_listen, lseek = SYS_lseek,
    lstat = SYS_lstat, madvise = SYS_madvise, mkdir = SYS_mkdir, mkdirat = SYS_mkdirat, mknodat = SYS_mknodat,
    mmap = SYS_mmap, mount = SYS_mount, mount_setattr = SYS_mount_setattr, move_mount = SYS_move_mount,
    mprotect = SYS_mprotect, mremap = SYS_mremap, munmap = SYS_munmap, nanosleep = SYS_nanosleep,
    newfstatat = SYS_newfstatat, open = SYS_open, open_tree = SYS_open_tree, openat = SYS_openat,
    openat2 = SYS_openat2, personality = SYS_personality, pidfd_open = SYS_pidfd_open,
    pidfd_send_signal = SYS_pidfd_send_signal, pipe = SYS_pipe, pipe2 = SYS_pipe2, pivot_root = SYS_pivot_root,
    poll = SYS_poll, ppoll = SYS_ppoll, prctl = SYS_prctl, pread64 = SYS_pread64, preadv = SYS_preadv,
    prlimit64 = SYS_prlimit64, pwrite64 = SYS_pwrite64, read = SYS_read, readlink = SYS_readlink,
    readlinkat = SYS_readlinkat, readv = SYS_readv, recvfrom = SYS_recvfrom, recvmsg = SYS_recvmsg,
    rename = SYS_rename, renameat = SYS_renameat, renameat2 = SYS_renameat2, rmdir = SYS_rmdir,
    rt_sigaction = SYS_rt_sigaction, rt_sigprocmask = SYS_rt_sigprocmask, rt_sigreturn = SYS_rt_sigreturn,
    rt_sigtimedwait = SYS_rt_sigtimedwait, sched_getaffinity = SYS_sched_getaffinity, sched_yield = SYS_sched_yield,
    sendfile = SYS_sendfile, sendmsg = SYS_sendmsg, sendto = SYS_sendto, set_robust_list = SYS_set_robust_list,
    set_tid_address = SYS_set_tid_address, setdomainname = SYS_setdomainname, setfsgid = SYS_setfsgid,
    setfsuid = SYS_setfsuid, setgid = SYS_setgid, setgroups = SYS_setgroups, sethostname = SYS_sethostname,
    setns = SYS_setns, setpgid = SYS_setpgid, setresgid = SYS_setresgid, setresuid = SYS_setresuid,
    fgetxattr = SYS_fgetxattr, flistxattr = SYS_flistxattr, fsetxattr = SYS_fsetxattr, fremovexattr = SYS_fremovexattr,
    getxattr = SYS_getxattr, listxattr = SYS_listxattr, setxattr = SYS_setxattr, sync_file_range = SYS_sync_file_range,
    alarm = SYS_alarm, pause = SYS_pause, setitimer = SYS_setitimer, setsid = SYS_setsid, shutdown = SYS_shutdown, setsockopt = SYS_setsockopt, setuid = SYS_setuid, sigaltstack = SYS_sigaltstack,
    signalfd4 = SYS_signalfd4, socket = SYS_socket, socketpair = SYS_socketpair, stat = SYS_stat,
    statfs = SYS_statfs, statx = SYS_statx, symlink = SYS_symlink, symlinkat = SYS_symlinkat, tgkill = SYS_tgkill,
    timerfd_create = SYS_timerfd_create, timerfd_settime = SYS_timerfd_settime, umask = SYS_umask,
    umount2 = SYS_umount2, uname = SYS_uname, unlink = SYS_unlink, unlinkat = SYS_unlinkat, unshare = SYS_unshare,
    utimensat = SYS_utimensat, vfork = SYS_vfork, wait4 = SYS_wait4, waitid = SYS_waitid, write = SYS_write,
    writev = SYS_writev,
}

/// The fcntl(2) command that the standard library's debug assertion calls before each close; a release does not call
/// it.
const ASSERTION: i32 = libc::F_GETFD;

/// A call's name; none if kak itself does not make it.
pub fn name(number: i64, [option, command, flags, _]: [u64; 4]) -> Option<&'static str> {
    let name = match plain(number) {
        // A process's name is only shown to people.
        "prctl" if i32::try_from(option) == Ok(libc::PR_SET_NAME) => "prctl_name",
        "unlinkat" if i32::try_from(flags) == Ok(libc::AT_REMOVEDIR) => "rmdir",
        name => name,
    };
    (name != "fcntl" || i32::try_from(command) != Ok(ASSERTION)).then_some(name)
}

/// The address of a call's path argument, if it has one.
pub fn path(name: &str, [first, second, _, fourth]: [u64; 4]) -> Option<u64> {
    match name {
        "mount" | "pivot_root" | "inotify_add_watch" | "faccessat" | "faccessat2" | "fchmodat"
        | "fchownat" | "mkdirat" | "newfstatat" | "open_tree" | "openat" | "openat2"
        | "readlinkat" | "renameat" | "renameat2" | "statx" | "unlinkat" | "linkat" => Some(second),
        "move_mount" => Some(fourth),
        "access" | "chdir" | "chmod" | "chown" | "chroot" | "execve" | "lchown" | "link"
        | "lstat" | "mkdir" | "open" | "readlink" | "rename" | "rmdir" | "stat" | "statfs"
        | "symlink" | "symlinkat" | "umount2" | "unlink" => Some(first),
        _ => None,
    }
}

/// Calls that do not fail with valid arguments, or that the C library or Rust's makes before and after the program and
/// does not check.
const SAFE: &[&str] = &[
    "arch_prctl",
    "clock_gettime",
    "close",
    "exit",
    "exit_group",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getpgid",
    "getppid",
    "getresgid",
    "getresuid",
    "getsid",
    "gettid",
    "getuid",
    "madvise",
    "munmap",
    "prctl_name",
    "setitimer",
    "prlimit64",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "umask",
    "uname",
];

/// Calls that change nothing another process could see: a process that is killed at one leaves the same as one that is
/// killed at its next other call.
const QUIET: &[&str] = &[
    "access",
    "brk",
    "capget",
    "close_range",
    "faccessat",
    "faccessat2",
    "fcntl",
    "fgetxattr",
    "flistxattr",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getgroups",
    "getpeername",
    "getpriority",
    "getrandom",
    "getsockname",
    "getsockopt",
    "listmount",
    "lseek",
    "lstat",
    "mmap",
    "mprotect",
    "mremap",
    "newfstatat",
    "pipe2",
    "poll",
    "ppoll",
    "pread64",
    "readlink",
    "readlinkat",
    "setsockopt",
    "signalfd4",
    "socket",
    "socketpair",
    "stat",
    "statfs",
    "statmount",
    "statx",
];

/// Whether a call changes nothing that another process could see.
pub fn is_quiet(name: &str, [_, second, third, _]: [u64; 4]) -> bool {
    let makes = u64::from((libc::O_CREAT | libc::O_TRUNC).cast_unsigned());
    match name {
        "open" => second & makes == 0,
        "openat" => third & makes == 0,
        // Others see a record lock.
        "fcntl" => !matches!(
            i32::try_from(second),
            Ok(libc::F_SETLK | libc::F_SETLKW | libc::F_OFD_SETLK)
        ),
        _ => {
            QUIET.contains(&name)
                || SAFE.contains(&name) && !["close", "exit", "exit_group"].contains(&name)
        }
    }
}

/// The errno of calls that are not in the table below.
const ANY: &[i32] = &[libc::ENOMEM];

/// The errnos that calls can fail with.
const ERRNOS: &[(&str, &[i32])] = &[
    // Files.
    (
        "open openat openat2",
        &[
            libc::EPERM,
            libc::ENOMEM,
            libc::ENOSPC,
            libc::EINTR,
            libc::EROFS,
            libc::EMFILE,
        ],
    ),
    (
        "read pread64 readv getdents64",
        &[libc::ENOMEM, libc::EINTR, libc::EPERM],
    ),
    (
        "write pwrite64 writev",
        &[
            libc::ENOSPC,
            libc::EINTR,
            libc::EPERM,
            libc::ENOMEM,
            libc::EBUSY,
            libc::EAGAIN,
        ],
    ),
    (
        "mkdir mkdirat symlink symlinkat link linkat mknodat",
        &[libc::EPERM, libc::ENOMEM, libc::ENOSPC, libc::EROFS],
    ),
    (
        "rename renameat renameat2",
        &[
            libc::EBUSY,
            libc::EPERM,
            libc::ENOMEM,
            libc::ENOSPC,
            libc::EROFS,
        ],
    ),
    (
        "unlink unlinkat",
        &[libc::EBUSY, libc::EPERM, libc::ENOMEM, libc::EROFS],
    ),
    (
        "chmod fchmod fchmodat chown fchown fchownat lchown utimensat",
        &[libc::EPERM, libc::EROFS, libc::ENOMEM, libc::ENOSPC],
    ),
    (
        "fsync fdatasync ftruncate sendfile copy_file_range",
        &[libc::ENOSPC, libc::EINTR, libc::ENOMEM, libc::EROFS],
    ),
    // EACCES, EPERM and EROFS are access(2)'s answers, not failures.
    ("access faccessat faccessat2", &[libc::ENOMEM]),
    (
        "stat lstat fstat newfstatat statx statfs fstatfs readlink readlinkat getcwd",
        &[libc::ENOMEM, libc::EPERM],
    ),
    ("chdir fchdir chroot", &[libc::EPERM, libc::ENOMEM]),
    ("flock", &[libc::EINTR, libc::ENOMEM, libc::EAGAIN]),
    (
        "fcntl",
        &[libc::EMFILE, libc::EAGAIN, libc::EPERM, libc::ENOMEM],
    ),
    ("dup dup2 dup3", &[libc::EBUSY, libc::EINTR, libc::EMFILE]),
    (
        "inotify_add_watch",
        &[libc::ENOSPC, libc::ENOMEM, libc::EPERM],
    ),
    (
        "inotify_init1 signalfd4 eventfd2 timerfd_create epoll_create1 pipe pipe2 pidfd_open",
        &[libc::EMFILE, libc::ENOMEM],
    ),
    ("ioctl", &[libc::EPERM, libc::EINTR, libc::ENOMEM]),
    (
        "fsetxattr setxattr fremovexattr",
        &[libc::EPERM, libc::ENOSPC, libc::ENOMEM],
    ),
    // EBUSY, as something uses it, is an answer, too.
    ("rmdir", &[libc::EPERM, libc::ENOMEM, libc::EROFS]),
    ("umount2", &[libc::EPERM, libc::ENOMEM]),
    // Mounts and namespaces.
    (
        "mount",
        &[
            libc::EPERM,
            libc::ENOMEM,
            libc::EBUSY,
            libc::ENOSPC,
            libc::EROFS,
        ],
    ),
    ("pivot_root", &[libc::EBUSY, libc::EPERM, libc::ENOMEM]),
    (
        "open_tree move_mount mount_setattr",
        &[libc::EPERM, libc::ENOMEM, libc::EBUSY, libc::EMFILE],
    ),
    ("unshare", &[libc::EPERM, libc::ENOMEM, libc::ENOSPC]),
    (
        "setns sethostname setdomainname",
        &[libc::EPERM, libc::ENOMEM],
    ),
    // Networks.
    (
        "socket socketpair accept4",
        &[libc::EMFILE, libc::EPERM, libc::ENOMEM],
    ),
    (
        "bind connect listen",
        &[libc::EPERM, libc::ENOMEM, libc::EAGAIN],
    ),
    (
        "sendto sendmsg",
        &[
            libc::EPERM,
            libc::ENOMEM,
            libc::EINTR,
            libc::EAGAIN,
            libc::EBUSY,
        ],
    ),
    (
        "recvfrom recvmsg",
        &[libc::EINTR, libc::ENOMEM, libc::EAGAIN, libc::ENOBUFS],
    ),
    ("setsockopt getsockopt", &[libc::EPERM, libc::ENOMEM]),
    ("poll ppoll epoll_pwait", &[libc::EINTR, libc::ENOMEM]),
    // Processes.
    (
        "fork vfork clone clone3",
        &[libc::EAGAIN, libc::ENOMEM, libc::ENOSPC, libc::EPERM],
    ),
    (
        "execve execveat",
        &[libc::EPERM, libc::ENOMEM, libc::EAGAIN, libc::EMFILE],
    ),
    (
        "wait4 waitid nanosleep futex rt_sigtimedwait",
        &[libc::EINTR],
    ),
    (
        "kill tgkill pidfd_send_signal setsid setpgid",
        &[libc::EPERM],
    ),
    (
        "prctl capget capset setgroups setgid setuid setfsuid setfsgid",
        &[libc::EPERM, libc::ENOMEM],
    ),
    ("setresuid setresgid", &[libc::EPERM, libc::EAGAIN]),
    ("getrandom", &[libc::EINTR, libc::EAGAIN]),
];

/// The errnos that a call can fail with, possibly none.
pub fn errnos(name: &str) -> &'static [i32] {
    if SAFE.contains(&name) {
        return &[];
    }
    let known = ERRNOS
        .iter()
        .find(|(names, _)| names.split(' ').any(|one| one == name));
    known.map_or(ANY, |(_, errnos)| errnos)
}

/// Whether a call is one of the memory allocator's.
pub fn is_allocation(name: &str) -> bool {
    ["brk", "mmap", "mremap"].contains(&name)
}

/// An errno's name.
pub fn errno_name(errno: i32) -> &'static str {
    match errno {
        libc::EPERM => "EPERM",
        libc::ENOMEM => "ENOMEM",
        libc::ENOSPC => "ENOSPC",
        libc::EBUSY => "EBUSY",
        libc::EINTR => "EINTR",
        libc::EAGAIN => "EAGAIN",
        libc::EROFS => "EROFS",
        libc::EMFILE => "EMFILE",
        libc::ENOBUFS => "ENOBUFS",
        other => panic!("errno {other} has no name here"),
    }
}
