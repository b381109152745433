//! Which namespaces can be made: a child makes one of each kind, which is gone when the child ends.

use std::path::Path;

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use super::{Cure, Place, Report, State};
use crate::error::Error;
use crate::file;
use crate::sys;

/// A kind of namespace.
struct Kind {
    /// Its name in /proc/self/ns.
    name: &'static str,
    /// Its flag for unshare(2).
    flag: UnshareFlags,
    /// Its limit in /proc/sys/user.
    limit: &'static str,
    /// The state if none can be made.
    state: State,
    /// The option of the kernel's configuration.
    option: &'static str,
}

/// The kinds.
const KINDS: &[Kind] = &[
    Kind {
        name: "pid",
        flag: UnshareFlags::NEWPID,
        limit: "max_pid_namespaces",
        state: State::Fail,
        option: "CONFIG_PID_NS",
    },
    Kind {
        name: "mnt",
        flag: UnshareFlags::NEWNS,
        limit: "max_mnt_namespaces",
        state: State::Fail,
        option: "CONFIG_NAMESPACES",
    },
    Kind {
        name: "net",
        flag: UnshareFlags::NEWNET,
        limit: "max_net_namespaces",
        state: State::Fail,
        option: "CONFIG_NET_NS",
    },
    Kind {
        name: "uts",
        flag: UnshareFlags::NEWUTS,
        limit: "max_uts_namespaces",
        state: State::Warn,
        option: "CONFIG_UTS_NS",
    },
    Kind {
        name: "ipc",
        flag: UnshareFlags::NEWIPC,
        limit: "max_ipc_namespaces",
        state: State::Warn,
        option: "CONFIG_IPC_NS",
    },
    Kind {
        name: "cgroup",
        flag: UnshareFlags::NEWCGROUP,
        limit: "max_cgroup_namespaces",
        state: State::Warn,
        option: "CONFIG_CGROUPS",
    },
    Kind {
        name: "time",
        flag: UnshareFlags::NEWTIME,
        limit: "max_time_namespaces",
        state: State::Warn,
        option: "CONFIG_TIME_NS (Linux 5.6 or later)",
    },
];

/// How many namespaces of a kind a machine with jails may want.
const ENOUGH: u32 = 1024;

/// Runs the checks.
pub fn look(place: &Place, report: &mut Report) {
    for kind in KINDS {
        let what = format!("{} namespaces", kind.name);
        if !place.is_admin() {
            report.unchecked("namespace", &what, "SYS_ADMIN");
            continue;
        }
        match sys::elsewhere(|| sys::unshare(kind.flag)) {
            Ok(()) => report.ok("namespace", &what, ""),
            Err(errno) => {
                let (why, cure) = kind.refused(errno, place);
                let lost = match kind.state {
                    State::Fail => "no jail can be made".to_owned(),
                    _ => format!("no jail can have --unshare {}", kind.name),
                };
                report.add(
                    "namespace",
                    kind.state,
                    &what,
                    &format!("{why}: {lost}"),
                    cure,
                );
            }
        }
    }
}

impl Kind {
    /// Why none can be made, and what to do about it.
    fn refused(&self, errno: Errno, place: &Place) -> (String, Cure) {
        let path = format!("/proc/sys/user/{}", self.limit);
        match errno {
            Errno::NOSPC => {
                let text = file::read(Path::new(&path)).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let limit: Option<u32> = text.trim().parse().ok();
                let why = format!("{} is {}", path, text.trim());
                match limit {
                    Some(few) if few < ENOUGH => (why, Cure::Run(format!("echo {ENOUGH} >{path}"))),
                    _ => (
                        format!("{why}, and this limit or an outer one is reached"),
                        Cure::Say(format!("raise {path} here and outside")),
                    ),
                }
            }
            Errno::INVAL => (
                "this kernel has none".into(),
                Cure::Say(format!("use a kernel with {}", self.option)),
            ),
            errno if place.filtered => place.missing(errno, (0, 0)),
            errno => (
                Error::reason(errno),
                super::say("allow it in the security module, or in whatever else forbids it"),
            ),
        }
    }
}
