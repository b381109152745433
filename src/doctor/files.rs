//! Files and mounts: where kak has to write, what is masked, and the kernel's own settings.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use super::{Cure, Place, Report, State, say};
use crate::error::Error;
use crate::file;
use crate::netns;
use crate::procfs::Mount;
use crate::record;
use crate::text::{harmless, quote};

/// A directory that kak writes to.
struct Dir {
    /// Its path.
    path: &'static str,
    /// The state if it cannot be written.
    state: State,
    /// What does not work then.
    lost: &'static str,
    /// Whether a new, empty file system over it would do.
    may_be_empty: bool,
}

/// The directories.
const DIRS: &[Dir] = &[
    Dir {
        path: "/run",
        state: State::Fail,
        lost: "there is no place for names of networks and the state of jails",
        may_be_empty: true,
    },
    Dir {
        path: "/mnt",
        state: State::Fail,
        lost: "a jail's root needs another place, by 'setup --root DIR'",
        may_be_empty: true,
    },
    Dir {
        path: "/etc",
        state: State::Warn,
        lost: "nssh is not put into /etc/shells, and networks of 'netns add --uplink' use the outer resolvers",
        may_be_empty: false,
    },
];

/// Runs the checks.
pub fn look(place: &Place, report: &mut Report) {
    if !place.inside {
        for dir in DIRS {
            writable(place, report, dir);
        }
        run_directories(place, report);
        shells(place, report);
    }
    masks(place, report);
    settings(place, report);
}

/// Whether this process may write there, by its effective ids.
fn may_write(path: &str) -> rustix::io::Result<()> {
    match rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS) {
        // Before Linux 5.8 (faccessat2) only the real ids can be asked for.
        Err(Errno::NOSYS | Errno::INVAL) => rustix::fs::access(path, Access::WRITE_OK),
        other => other,
    }
}

/// Checks a directory, or the one in which it would be made.
fn writable(place: &Place, report: &mut Report, dir: &Dir) {
    let path = dir.path;
    let errno = match may_write(path) {
        Err(Errno::NOENT) => may_write("/").err(),
        other => other.err(),
    };
    match errno {
        None => report.ok("writable", path, "can be written"),
        Some(Errno::ACCESS) => {
            let why = "not checked: only root may write to it";
            report.warn("writable", path, why, say("run as root"));
        }
        Some(errno) => {
            let why = format!("{}: {}", Error::reason(errno), dir.lost);
            report.add("writable", dir.state, path, &why, remount(place, dir));
        }
    }
}

/// The command that makes a directory writable.
fn remount(place: &Place, dir: &Dir) -> Cure {
    let anew = format!("mount -t tmpfs tmpfs {}", dir.path);
    match place.mount(dir.path) {
        // In a user namespace the remount may be refused; then a new one is mounted.
        Some(mount) if dir.may_be_empty => Cure::Run(format!("{} || {anew}", writably(mount))),
        Some(mount) => Cure::Run(writably(mount)),
        None if dir.may_be_empty => Cure::Run(anew),
        None => say("in Docker leave out --read-only, or mount a volume there"),
    }
}

/// The command that makes a mount writable: itself, or its file system.
fn writably(mount: &Mount) -> String {
    let bind = if mount.data.split(',').any(|word| word == "ro") {
        ""
    } else {
        "bind,"
    };
    format!("mount -o remount,{bind}rw {}", quote(&mount.point))
}

/// The directories in /run.
fn run_directories(place: &Place, report: &mut Report) {
    let what = netns::DIR;
    // The condition of netns::RunDir.
    if netns::mounts::is_slave(Path::new(what)).is_ok_and(|slave| slave) {
        report.fail(
            "run-netns",
            what,
            "what is mounted in it is not seen outside this mount namespace, which a netns exec or the like made",
            say("run kak outside it"),
        );
    } else {
        report.ok("run-netns", what, "");
    }
    let (name, what) = ("run-kak", record::DIR);
    if place.is_admin()
        && let Err(error) = record::state::check_all()
    {
        let cure = say("remove it: it is kak's, and root's alone");
        report.fail(name, what, &error.to_string(), cure);
    }
}

/// /etc/passwd and /etc/shells: nssh as a login shell.
fn shells(place: &Place, report: &mut Report) {
    let passwd = "/etc/passwd";
    if place.mount(passwd).is_some() {
        let why = "is a mount: chsh and usermod cannot replace it by rename";
        let cure = say("kak setup --login-shell USER writes it in place; an editor can, too");
        report.warn("passwd", passwd, why, cure);
    }
    let users = file::read(Path::new(passwd)).unwrap_or_default();
    let text = file::read(Path::new("/etc/shells")).unwrap_or_default();
    let (name, what) = ("shells", "/etc/shells");
    match unlisted(&users, &text) {
        None => report.ok(name, what, ""),
        Some((user, shell)) => {
            let why = format!(
                "lacks the line {shell}, {user}'s shell: some programs do not let that user in"
            );
            // An editor may have left the last line without a newline.
            let newline = match text.last() {
                None | Some(b'\n') => "",
                Some(_) => "echo >>/etc/shells; ",
            };
            let cure = Cure::Run(format!("{newline}echo {} >>/etc/shells", quote(&shell)));
            report.warn(name, what, &why, cure);
        }
    }
}

/// The first user whose shell is an nssh that /etc/shells does not have, and that shell.
pub fn unlisted(users: &[u8], shells: &[u8]) -> Option<(String, String)> {
    users.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let (user, shell) = (fields.next()?, fields.nth(5)?);
        let listed = shells
            .split(|byte| *byte == b'\n')
            .any(|line| line == shell);
        (shell.ends_with(b"/nssh") && !listed).then(|| (harmless(user), harmless(shell)))
    })
}

/// What is mounted over parts of /proc and /sys.
fn masks(place: &Place, report: &mut Report) {
    for (name, dir) in [("proc-masks", "/proc"), ("sys-masks", "/sys")] {
        let below = |mount: &&Mount| mount.point.starts_with(dir) && mount.point != Path::new(dir);
        let count = place.mounts.iter().filter(below).count();
        let only = match place.mount(dir) {
            Some(mount) if mount.read_only => ", and it is read-only",
            _ => "",
        };
        let why = format!("{count} mounts below it{only}: as in a jail");
        report.ok(name, dir, &why);
    }
}

/// The kernel's settings.
fn settings(place: &Place, report: &mut Report) {
    const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
    let text = file::read(Path::new(FORWARD)).unwrap_or_default();
    let on = text.first() == Some(&b'1');
    let written = may_write(FORWARD);
    let (name, what) = ("proc-sys", "/proc/sys");
    match written {
        Ok(()) => report.ok(name, what, "can be written"),
        Err(Errno::ACCESS) if !place.is_net_admin() => report.unchecked(name, what, "NET_ADMIN"),
        Err(_) if on => report.ok(name, what, "read-only, but what kak needs there is on"),
        Err(_) => {
            let why = "read-only: setup can switch on forwarding only for single links";
            let cure = match place.mount(what) {
                Some(mount) => Cure::Run(writably(mount)),
                None => say("in Docker use --sysctl net.ipv4.ip_forward=1"),
            };
            report.warn(name, what, why, cure);
        }
    }
    let why = if on {
        "is on"
    } else {
        "is off; setup switches it on"
    };
    report.ok("ip-forward", "IPv4 forwarding", why);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_is_not_let_in() {
        let users =
            b"root:x:0:0:root:/root:/bin/bash\nalice:x:1:1::/:/bin/nssh\nbob:x:2:2::/:/opt/nssh";
        let of = |user: &str, shell: &str| Some((user.to_owned(), shell.to_owned()));
        assert_eq!(unlisted(users, b"/bin/sh\n"), of("alice", "/bin/nssh"));
        assert_eq!(unlisted(users, b"/bin/nssh\n"), of("bob", "/opt/nssh"));
        assert_eq!(unlisted(users, b"/bin/nssh\n/opt/nssh"), None);
        assert_eq!(unlisted(b"+\nx:y\n", b""), None);
    }

    #[test]
    fn what_is_written_to_again() {
        let line = |options: &str, data: &str| {
            let text = format!("1 1 0:1 / /a {options} - tmpfs x {data}\n");
            writably(&crate::procfs::mounts(text.as_bytes())[0])
        };
        assert_eq!(line("ro", "rw"), "mount -o remount,bind,rw /a");
        assert_eq!(line("ro", "ro,size=1k"), "mount -o remount,rw /a");
    }

    proptest! {
        #[test]
        fn any_bytes(users: Vec<u8>, shells: Vec<u8>) {
            unlisted(&users, &shells);
        }
    }
}
