//! Who is in a jail: its sessions, and the processes of each, as /proc shows them. Nothing critical depends on it: a
//! process that imitates a monitor shows up as a session.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::file;
use crate::procfs::{self, Stat};
use crate::sys;

/// The name of a monitor.
pub const MONITOR: &std::ffi::CStr = c"kak-session";
/// Its name when the session is over, set before that is reported: from then on nobody finds the session any more.
pub const OVER: &std::ffi::CStr = c"kak-over";

/// One nssh and what it started.
pub struct Session {
    /// Its shell.
    pub pid: i32,
    /// Its monitor.
    pub monitor: i32,
    /// Its session ID.
    pub session: i32,
    /// The user it runs as.
    pub uid: u32,
    /// Its terminal, as a device number; 0 for none.
    pub terminal: i32,
    /// When its shell started, in ticks since boot.
    pub started: u64,
    /// Its command line, each word with a zero byte behind it.
    pub command: Vec<u8>,
}

impl Session {
    /// Pins its shell by a pidfd; none if that is gone.
    pub fn pin(&self) -> Option<OwnedFd> {
        pin(self.pid, |now| {
            (now.parent, now.started) == (self.monitor, self.started)
        })
    }
}

/// Pins a process, if it is still the one that was seen: the PID may have been reused.
fn pin(pid: i32, is_same: impl Fn(&Stat) -> bool) -> Option<OwnedFd> {
    let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    stat(pid).filter(is_same).map(|_| fd)
}

/// All processes, as they are at one moment.
pub struct Processes(Vec<(i32, Stat)>);

impl Processes {
    /// Now.
    pub fn now() -> Self {
        let names = sys::entries("/proc").unwrap_or_default();
        let process = |name: &OsString| {
            let pid: i32 = name.to_str()?.parse().ok()?;
            Some((pid, stat(pid)?))
        };
        Self(names.iter().filter_map(process).collect())
    }

    /// The sessions of a jail: of each child of init that is a monitor, the first child, which is the shell. The others
    /// are what the shell has left behind, all of them younger. A session whose shell is dead is over.
    pub fn sessions(&self, init: Pid) -> Vec<Session> {
        let init = init.as_raw_nonzero().get();
        let shell = |(monitor, stat): &(i32, Stat)| {
            if stat.parent != init || stat.name != MONITOR.to_bytes() {
                return None;
            }
            let children = self.0.iter().filter(|(_, stat)| stat.parent == *monitor);
            let first = children.min_by_key(|(pid, stat)| (stat.started, *pid));
            first.filter(|(_, stat)| !stat.dead)
        };
        let session = |(pid, stat): &(i32, Stat)| Session {
            pid: *pid,
            monitor: stat.parent,
            session: stat.session,
            uid: rustix::fs::stat(format!("/proc/{pid}")).map_or(0, |stat| stat.st_uid),
            terminal: stat.terminal,
            started: stat.started,
            command: file::read(Path::new(&format!("/proc/{pid}/cmdline"))).unwrap_or_default(),
        };
        self.0.iter().filter_map(shell).map(session).collect()
    }

    /// The PIDs of those that have one of these names.
    pub fn named(self, names: &[&[u8]]) -> Vec<i32> {
        let is_one = |stat: &Stat| names.contains(&stat.name.as_slice());
        let named = self.0.into_iter().filter(|(_, stat)| is_one(stat));
        named.map(|(pid, _)| pid).collect()
    }

    /// The descendants of a monitor's shell, also those that the monitor has adopted since, but not those that have
    /// left the session, nor those in the process group of this number: it is the shell's own, if that leads one.
    pub fn started_by(&self, monitor: i32, session: i32, group: i32) -> Vec<OwnedFd> {
        let mut family = vec![monitor];
        let mut grown = 0;
        // A parent may have a higher number than its child.
        while grown != family.len() {
            grown = family.len();
            for (pid, stat) in &self.0 {
                if family.contains(&stat.parent) && !family.contains(pid) {
                    family.push(*pid);
                }
            }
        }
        let belongs = |(pid, stat): &&(i32, Stat)| {
            family.contains(pid)
                && stat.session == session
                && stat.group != group
                && ![monitor, group].contains(pid)
        };
        let pin = |(pid, seen): &(i32, Stat)| {
            pin(*pid, |now| {
                (now.session, now.started) == (session, seen.started)
            })
        };
        self.0.iter().filter(belongs).filter_map(pin).collect()
    }
}

/// What /proc says of a process.
pub fn stat(pid: i32) -> Option<Stat> {
    let text = file::read(Path::new(&format!("/proc/{pid}/stat"))).ok()?;
    procfs::stat(&text)
}
