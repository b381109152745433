//! The root file system of a test's machine: what a fresh container has, on a tmpfs.
//!
//! Programs are the host's (an overlay over each of /usr, /bin, ...; no write reaches the host), with kak and its links
//! among them. Everything else is our own. As in a container, resolv.conf, hosts and hostname are file mounts.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, unmount};

/// Names the root's tmpfs in mountinfo.
const SOURCE: &str = "kak-sandbox";

/// The files of /etc. Resolver, hosts and host name are mounts as in a container.
const ETC: &[(&str, &str)] = &[
    (
        "passwd",
        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/usr/sbin/nologin\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "passwd-",
        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/usr/sbin/nologin\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
    ),
    (".pwd.lock", ""),
    (
        "pam.d/chsh",
        "auth required pam_shells.so\nauth sufficient pam_rootok.so\naccount required pam_permit.so\n",
    ),
    (
        "group",
        "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n",
    ),
    (
        "nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
    ("shells", "# /etc/shells\n/bin/sh\n/bin/bash\n"),
    ("protocols", "icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\n"),
    ("resolv.conf", ""),
    ("hosts", ""),
    ("hostname", ""),
];

/// What Docker would mount over three files of /etc.
const MOUNTED: &[(&str, &str)] = &[
    ("resolv.conf", "nameserver 203.0.113.1\nsearch example\n"),
    ("hosts", "127.0.0.1\tlocalhost\n203.0.113.2\tsandbox\n"),
    ("hostname", "sandbox\n"),
];

/// What login programs read of the host's /etc. Copies are in /var/etc, for the tests with several users.
const LOGINS: &str = "environment login.defs pam.conf pam.d security ssh/ssh_config ssh/sshd_config sudoers profile bash.bashrc";

/// Whether this process's root is one that [`build`] made.
pub(super) fn is_ours() -> bool {
    fs::read_to_string("/proc/self/mountinfo").is_ok_and(|table| {
        table.lines().any(|line| {
            line.split(' ').nth(4) == Some("/") && line.contains(&format!(" tmpfs {SOURCE} "))
        })
    })
}

/// The program under test: KAK, where this binary was copied to another place, else what cargo built.
fn kak() -> PathBuf {
    std::env::var_os("KAK").map_or_else(|| env!("CARGO_BIN_EXE_kak").into(), PathBuf::from)
}

/// Builds the root and moves into it. The caller is PID 1 of a PID namespace and owns its mount namespace.
pub(super) fn build() {
    let kak = fs::read(kak()).unwrap_or_else(|why| panic!("{}: {why}", kak().display()));
    // Any directory will do; this one exists and can be reached by whoever could start this binary.
    let exe = std::env::current_exe().unwrap();
    let base = exe.parent().unwrap();
    filesystem(SOURCE, base, "tmpfs", "mode=755");
    std::env::set_current_dir(base).unwrap();
    for dir in ["etc", "run", "mnt", "opt", "var", "proc", "sys", "dev"] {
        directory(dir, 0o755);
    }
    symlink("/run", "var/run").unwrap();
    directory("root", 0o700);
    directory("tmp", 0o1777);
    fs::write(".dockerenv", "").unwrap();
    programs(&kak);
    files();
    devices();
    filesystem("proc", "proc", "proc", "");
    filesystem("sysfs", "sys", "sysfs", "");
    // In a user namespace a fresh sysfs or proc may only be mounted while a whole one is visible somewhere.
    for (kind, dir) in [("sysfs", "var/sys"), ("proc", "var/proc")] {
        directory(dir, 0o755);
        filesystem(kind, dir, kind, "");
    }
    if Path::new("/sys/fs/cgroup").is_dir() {
        mount_bind_recursive("/sys/fs/cgroup", "sys/fs/cgroup").unwrap();
    }
    // What scripts/test has downloaded.
    let data = std::env::var_os("KAK_DATA")
        .map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    if data.is_dir() {
        directory("var/data", 0o755);
        mount_bind_recursive(&data, "var/data").unwrap();
    }
    if env!("CARGO_CRATE_NAME") == "users" {
        directory("var/etc", 0o755);
        super::sh(&format!(
            "cd /etc; ls -d {LOGINS} 2>/dev/null | xargs -r cp -a --parents -t $OLDPWD/var/etc"
        ));
    }
    rustix::process::pivot_root(".", ".").unwrap();
    unmount(".", UnmountFlags::DETACH).unwrap();
    std::env::set_current_dir("/").unwrap();
    // A fresh machine forwards nothing, whatever the host does, and lets users ping, as an engine's containers do; and
    // nobody else is on its cables, so duplicate address detection is off.
    super::sh(
        "ip link set lo up; hostname sandbox; cd /proc/sys/net
        echo 0 >ipv4/ip_forward; echo 0 0 >ipv4/ping_group_range; echo 0 >ipv6/conf/all/accept_dad; echo 0 >ipv6/conf/default/accept_dad",
    );
}

/// The host's programs, under an overlay that adds kak and its links.
fn programs(kak: &[u8]) {
    for name in ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let host = Path::new("/").join(name);
        if let Ok(target) = fs::read_link(&host) {
            symlink(target, name).unwrap();
        } else if host.is_dir() {
            let upper = format!("var/upper/{name}");
            directory(&upper, 0o755);
            directory(format!("var/scratch/{name}"), 0o700);
            directory(name, 0o755);
            if name == "usr" {
                directory("var/upper/usr/bin", 0o755);
                directory("var/upper/usr/sbin", 0o755);
            }
        }
    }
    // A merged /usr has its links in the upper layer too, so /bin/kak is the same file by either name.
    let upper = |dir: &str| match fs::read_link(dir) {
        Ok(target) => Path::new("var/upper").join(target),
        Err(_) => Path::new("var/upper").join(dir),
    };
    let (bin, sbin) = (upper("bin"), upper("sbin"));
    let program = bin.join("kak");
    fs::write(&program, kak).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("kak", bin.join("nssh")).unwrap();
    symlink("/bin/kak", sbin.join("kak-setup")).unwrap();
    for upper in fs::read_dir("var/upper").unwrap() {
        let name = upper.unwrap().file_name().into_string().unwrap();
        let layers =
            format!("lowerdir=/{name},upperdir=var/upper/{name},workdir=var/scratch/{name}");
        filesystem("overlay", &name, "overlay", &layers);
    }
}

/// /etc, and the mounts over three of its files.
fn files() {
    directory("etc/pam.d", 0o755);
    for (name, text) in ETC {
        fs::write(Path::new("etc").join(name), text).unwrap();
    }
    for (name, text) in MOUNTED {
        let source = Path::new("var/container").join(name);
        directory("var/container", 0o755);
        fs::write(&source, text).unwrap();
        mount_bind(&source, Path::new("etc").join(name)).unwrap();
    }
}

/// /dev, with terminals, shared memory and message queues of its own.
fn devices() {
    filesystem("tmpfs", "dev", "tmpfs", "mode=755");
    // The console stands for any device that is a mount of its own.
    for (name, host) in [
        ("null", "null"),
        ("zero", "zero"),
        ("full", "full"),
        ("random", "random"),
        ("urandom", "urandom"),
        ("tty", "tty"),
        ("console", "null"),
    ] {
        let device = Path::new("dev").join(name);
        fs::write(&device, "").unwrap();
        mount_bind(Path::new("/dev").join(host), &device).unwrap();
    }
    for dir in ["dev/pts", "dev/shm", "dev/mqueue"] {
        directory(dir, 0o755);
    }
    filesystem(
        "devpts",
        "dev/pts",
        "devpts",
        "newinstance,ptmxmode=0666,mode=620",
    );
    filesystem("shm", "dev/shm", "tmpfs", "mode=1777");
    filesystem("mqueue", "dev/mqueue", "mqueue", "");
    for (target, link) in [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ] {
        symlink(target, Path::new("dev").join(link)).unwrap();
    }
}

/// `mkdir -p`, with exactly this mode.
fn directory(path: impl AsRef<Path>, mode: u32) {
    let path = path.as_ref();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// `mount -t KIND -o OPTIONS SOURCE TARGET`.
fn filesystem(source: &str, target: impl AsRef<Path>, kind: &str, options: &str) {
    let target = target.as_ref();
    let options = std::ffi::CString::new(options).unwrap();
    mount(source, target, kind, MountFlags::empty(), Some(&*options))
        .unwrap_or_else(|why| panic!("mount -t {kind} {}: {why}", target.display()));
}
