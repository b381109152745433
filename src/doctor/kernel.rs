//! The kernel: its version, and the newer system calls that kak makes, whether it can do without them or not. Each is
//! really made, with nothing for it to do. Those that are about mounts are in [`super::trial`].

use std::os::fd::AsFd as _;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::{Cure, Place, Report, State, say};
use crate::{survey, sys};

/// The oldest kernel that kak works on.
const OLDEST: (u32, u32) = (5, 4);

/// A system call, or a use of one.
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// What the report calls it.
    pub what: &'static str,
    /// The kernel version that it came with.
    pub since: (u32, u32),
    /// The state if it is missing.
    pub state: State,
    /// What is lost then.
    pub lost: &'static str,
}

/// Makes a call.
type Probe = fn() -> Result<()>;

/// The calls that are checked here, and how.
const CALLS: &[(Call, Probe)] = &[
    (
        Call {
            name: "pidfd_open",
            what: "pidfd_open",
            since: (5, 3),
            state: State::Fail,
            lost: "kak cannot keep hold of a jail's init",
        },
        || pidfd_open(getpid(), PidfdFlags::empty()).map(drop),
    ),
    (
        Call {
            name: "openat2",
            what: "openat2",
            since: (5, 6),
            state: State::Warn,
            lost: "where /etc/resolv.conf is a link, a jail's own covers the link only, not its target",
        },
        || {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            rustix::fs::openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::IN_ROOT).map(drop)
        },
    ),
    (
        Call {
            name: "close_range",
            what: "close_range",
            since: (5, 9),
            state: State::Warn,
            lost: "descriptors are closed one by one, which takes longer",
        },
        sys::has_close_range,
    ),
    (
        Call {
            name: "netns-cookie",
            what: "getsockopt SO_NETNS_COOKIE",
            since: (5, 14),
            state: State::Warn,
            lost: "a restart of the container since a record was written goes unnoticed",
        },
        || match survey::cookie() {
            Ok(cookie) if cookie != 0 => Ok(()),
            Ok(_) => Err(Errno::NOPROTOOPT),
            Err(error) => Err(error.errno().unwrap_or(Errno::IO)),
        },
    ),
];

/// This one needs CAP_SYS_ADMIN.
const SETNS: Call = Call {
    name: "setns",
    what: "setns by a process's descriptor",
    since: (5, 8),
    state: State::Warn,
    lost: "a jail's namespaces are joined one by one",
};

/// Runs the checks.
pub fn look(place: &Place, report: &mut Report) {
    let release = rustix::system::uname();
    let what = format!("Linux {}", release.release().to_string_lossy());
    if place.version < OLDEST {
        let cure = say("use Linux 5.4 or later");
        report.fail("kernel", &what, "kak needs 5.4", cure);
    } else {
        report.ok("kernel", &what, "");
    }
    for (call, probe) in CALLS {
        judge(place, report, call, probe());
    }
    if place.is_admin() {
        judge(place, report, &SETNS, join_own());
    } else {
        report.unchecked(SETNS.name, SETNS.what, "SYS_ADMIN");
    }
}

/// Reports the result of a call.
pub fn judge(place: &Place, report: &mut Report, call: &Call, result: Result<()>) {
    match result {
        Ok(()) => report.ok(call.name, call.what, ""),
        Err(errno) => {
            let (why, cure) = place.missing(errno, call.since);
            let why = format!("{why}: {}", call.lost);
            report.add(call.name, call.state, call.what, &why, cure);
        }
    }
}

/// Has a child join the UTS namespace that it is in already.
fn join_own() -> Result<()> {
    let me = pidfd_open(getpid(), PidfdFlags::empty())?;
    let uts = ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
    sys::elsewhere(|| move_into_thread_name_spaces(me.as_fd(), uts))
}

/// The first two numbers of a release as uname(2) has it.
pub fn version(release: &[u8]) -> Option<(u32, u32)> {
    let mut numbers = release.split(|byte| !byte.is_ascii_digit());
    let mut number = || std::str::from_utf8(numbers.next()?).ok()?.parse().ok();
    Some((number()?, number()?))
}

/// A cure that is another kernel, or another configuration of it.
pub fn configured(what: &str) -> Cure {
    Cure::Say(format!("use a kernel with {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(version(b"6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version(b"5.4"), Some((5, 4)));
        assert_eq!(version(b"5.10-rc1+"), Some((5, 10)));
        for bad in [&b""[..], b"5", b"x.y", b"99999999999.1"] {
            assert_eq!(version(bad), None);
        }
        assert!((5, 10) > OLDEST && (5, 3) < OLDEST);
    }
}
