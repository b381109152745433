//! Which namespaces a jail's init is created in, and which of init's a process joins to be in the jail. The network
//! namespace has a name and is made before ([`crate::netns`]).

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};
use rustix::time::{ClockId, clock_gettime};

use crate::config::Namespace;
use crate::error::{Result, What as _};
use crate::file;
use crate::step::namespace::differs;
use crate::sys;

/// The flags of clone(2) for an init with these namespaces. There is none for time: that namespace is made before
/// ([`time`]), since its clocks can be set only while no process is in it.
pub fn flags(own: &[Namespace]) -> u64 {
    let flag = |kind: &Namespace| match kind {
        Namespace::Uts => libc::CLONE_NEWUTS,
        Namespace::Ipc => libc::CLONE_NEWIPC,
        Namespace::Cgroup => libc::CLONE_NEWCGROUP,
        Namespace::Time => 0,
    };
    let always = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    let all = own.iter().fold(always, |all, kind| all | flag(kind));
    all.unsigned_abs().into()
}

/// The same in shell words.
pub fn command(own: &[Namespace]) -> String {
    let more: String = own
        .iter()
        .map(|kind| format!("--{} ", kind.name()))
        .collect();
    format!("unshare {more}--pid --mount --fork")
}

/// A time namespace whose CLOCK_BOOTTIME, how long the machine has been up, begins now. CLOCK_MONOTONIC, which it could
/// set as well, is left alone: programs inside and outside exchange times by it.
pub fn time() -> Result<OwnedFd> {
    const OFFSETS: &str = "/proc/self/timens_offsets";
    // We may be in a time namespace ourselves, but the kernel takes offsets from the machine's own clock.
    let ours = file::read(OFFSETS.as_ref())?;
    let (seconds, nanoseconds) = offset(&ours).unwrap_or_default();
    let offset = seconds - clock_gettime(ClockId::Boottime).tv_sec;
    let made = sys::elsewhere(|| {
        sys::unshare(UnshareFlags::NEWTIME)?;
        let file = rustix::fs::open(OFFSETS, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(
            &file,
            format!("boottime {offset} {nanoseconds}\n").as_bytes(),
        )?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open("/proc/self/ns/time_for_children", flags, Mode::empty())
    });
    made.what(|| format!("unshare --time --boottime={offset}"))
}

/// The offset of CLOCK_BOOTTIME in a /proc/PID/timens_offsets: seconds and nanoseconds.
fn offset(text: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(text).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("boottime"))?;
    let mut words = line.split_ascii_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.next()?.ok()?))
}

/// All kinds of namespaces that a jail can have.
pub fn every() -> ThreadNameSpaceType {
    let all = Namespace::ALL
        .into_iter()
        .map(joined)
        .chain(ALWAYS.map(|(_, kind)| kind));
    all.collect()
}

/// The namespaces of a jail's init to join, as files in /proc/PID/ns and as flags of setns(2); in the order for joining
/// them one by one, since with the mount namespace /proc changes. Of those that a jail need not have, only those that
/// differ from the caller's: to join one's own could be forbidden.
pub fn to_join(init: Pid) -> Result<Vec<(&'static str, ThreadNameSpaceType)>> {
    let init = init.as_raw_nonzero().get();
    let mut all = Vec::new();
    for kind in Namespace::ALL {
        if differs(init, kind)? {
            all.push((kind.name(), joined(kind)));
        }
    }
    all.extend(ALWAYS);
    Ok(all)
}

/// Those that every jail has of its own.
const ALWAYS: [(&str, ThreadNameSpaceType); 3] = [
    ("net", ThreadNameSpaceType::NETWORK),
    ("pid", ThreadNameSpaceType::PROCESS_ID),
    ("mnt", ThreadNameSpaceType::MOUNT),
];

/// A namespace that a jail need not have, as setns(2) names it.
fn joined(kind: Namespace) -> ThreadNameSpaceType {
    match kind {
        Namespace::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
        Namespace::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
        Namespace::Cgroup => ThreadNameSpaceType::CONTROL_GROUP,
        Namespace::Time => ThreadNameSpaceType::TIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets() {
        let text = b"monotonic           0         0\nboottime         -100         7\n";
        assert_eq!(offset(text), Some((-100, 7)));
        assert_eq!(offset(b"boottime x"), None);
        assert_eq!(offset(b""), None);
    }
}
