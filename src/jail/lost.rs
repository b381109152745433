//! A jail whose state somebody has taken away: by `rm` in /run/kak it is lost who its init is, or what was made for it.
//! Init can be told by what it is, and ended. What bears the jail's mark is told, and left as it is: a container that has
//! its network from us, or we from it, may have a jail of the same name.

use rustix::fs::CWD;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Init;
use super::sessions::Processes;
use crate::config::link_name;
use crate::error::{Error, Result, What as _};
use crate::netns::{self, Identity, State};
use crate::nl::nft::foreign;
use crate::nl::{self, link};

/// How init calls itself.
const NAME: &[u8] = b"kak-init";

/// The inits of a jail that no lock leads to: by that name, in the jail's network, and in a PID namespace that is not
/// ours. Whoever imitates one in the jail has an init.
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
        // Looked at again once it is pinned: the number may have gone to another.
        is_init(&pid.as_raw_nonzero().get()).then_some(Init { pid, fd })
    };
    let named = Processes::now().named(&[NAME]);
    Ok(named.into_iter().filter(is_init).filter_map(pin).collect())
}

/// That there is no link of a jail of which there is no record: setup would take it for its own. A table may have been
/// loaded with a firewall that was saved with it, and is as good as a new one.
pub fn check_link(jail: &str, what: &str) -> Result<()> {
    let there = link(jail)?.into_iter().collect();
    tell(jail, what, there, false)
}

/// That nothing bears the mark of a jail of which there is no record; `ended` if it has lived here, until now.
pub fn check(jail: &str, ended: bool) -> Result<()> {
    let there = link(jail)?.into_iter().chain(tables(jail)).collect();
    tell(jail, &format!("kak teardown -n {jail}"), there, ended)
}

/// Tells what there is.
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
        ("another container may have it", "if nobody has: ")
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

/// The jail's tables. Who may not look has not made one.
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
