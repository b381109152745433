//! A jail whose state in /run/kak somebody has removed, and with it the knowledge of its init or of what was made for
//! it. Init can be recognised by what it is, and ended. Links and tables that bear the jail's mark are reported, and
//! left alone: a container that has its network from us, or we from it, may have a jail of the same name.

use rustix::fs::CWD;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Init;
use super::sessions::Processes;
use crate::config::link_name;
use crate::error::{Error, Result, What as _};
use crate::netns::{self, Identity, State};
use crate::nl::nft::foreign;
use crate::nl::{self, link};

/// The name of an init process.
const NAME: &[u8] = b"kak-init";

/// The inits of a jail that no lock leads to: processes of that name in the jail's network namespace, and in a PID
/// namespace that is not ours. An imitation in the jail does no harm: the real init lives then, and is found too.
pub fn inits(jail: &str) -> Result<Vec<Init>> {
    if netns::state(jail.as_ref())? != State::Namespace {
        return Ok(Vec::new());
    }
    let here = |pid: i32, kind: &str| {
        let path = format!("/proc/{pid}/ns/{kind}");
        Identity::at(std::os::fd::AsFd::as_fd(&CWD), path.as_bytes()).ok()
    };
    let name = format!("{}/{jail}", netns::DIR);
    let network = Identity::at(std::os::fd::AsFd::as_fd(&CWD), name.as_bytes()).ok();
    let ours = here(rustix::process::getpid().as_raw_nonzero().get(), "pid");
    let is_init = |pid: &i32| {
        let pids = here(*pid, "pid");
        here(*pid, "net") == network && pids.is_some() && pids != ours
    };
    let pin = |pid: i32| {
        let pid = Pid::from_raw(pid)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Checked again now that it is pinned: the PID may have been reused.
        is_init(&pid.as_raw_nonzero().get()).then_some(Init { pid, fd })
    };
    let named = Processes::now().named(&[NAME]);
    Ok(named.into_iter().filter(is_init).filter_map(pin).collect())
}

/// Fails if there is a link of a jail without a record: setup would take it for its own. A table may have been restored
/// with a saved firewall, and is as good as a new one.
pub fn check_link(jail: &str, what: &str) -> Result<()> {
    let there = link(jail)?.into_iter().collect();
    tell(jail, what, there, false)
}

/// Fails if anything bears the mark of a jail without a record; `ended` if its init was running here until now.
pub fn check(jail: &str, ended: bool) -> Result<()> {
    let there = link(jail)?.into_iter().chain(tables(jail)).collect();
    tell(jail, &format!("kak teardown -n {jail}"), there, ended)
}

/// The error that reports what there is, if anything.
fn tell(jail: &str, what: &str, there: Vec<Marked>, ended: bool) -> Result<()> {
    if there.is_empty() {
        return Ok(());
    }
    let (names, cures): (Vec<_>, Vec<_>) = there.into_iter().unzip();
    let (whose, whether) = if ended {
        (
            "it has been ended, and what was made for it is not known",
            "",
        )
    } else {
        ("another container may have it", "if none has: ")
    };
    Err(Error::cure(
        what,
        format!(
            "there is {} of a jail {jail}, but no record of it here: {whose}",
            names.join(" and ")
        ),
        format!(
            "{whether}{}; and look for {}/{jail} and the jail's root",
            cures.join("; "),
            netns::DIR
        ),
    ))
}

/// Something that bears a jail's mark, and how it is removed.
type Marked = (String, String);

/// The jail's link.
fn link(jail: &str) -> Result<Option<Marked>> {
    let name = link_name(jail);
    let what = || format!("ip link show {name}");
    let mut socket = nl::Socket::route().what(what)?;
    let link = link::link(&mut socket, &name).what(what)?;
    let ours = link.is_some_and(|link| link.alias == Some(mark(jail)));
    Ok(ours.then(|| (format!("a link {name}"), format!("ip link delete {name}"))))
}

/// The jail's tables. A caller that may not list them has not made one.
fn tables(jail: &str) -> Vec<Marked> {
    let all = nl::Socket::netfilter().map(|mut socket| foreign::commented(&mut socket));
    let all = all.ok().and_then(Result::ok).unwrap_or_default();
    let ours = all
        .into_iter()
        .filter(|(_, _, comment)| *comment == mark(jail));
    let shown = |(family, table, _): (_, String, _)| {
        let cure = format!("nft delete table {family} {table}");
        (format!("a table {table}"), cure)
    };
    ours.map(shown).collect()
}

/// The jail's mark.
fn mark(jail: &str) -> String {
    format!("kak:{jail}")
}
