//! The step: one reversible change to a machine, and what steps need to see and change it.
//!
//! What a step is *for* belongs to the plan ([`crate::plan`]); what it *does* is here, once, as three verbs and the
//! shell command that does the same. A new kind of change is one more type below and one more line in the plan.

pub mod accept;
pub mod account;
pub mod below;
pub mod cover;
pub mod file;
pub mod forwarding;
pub mod forwarding6;
pub mod line;
pub mod link;
pub mod mount;
pub mod namespace;
pub mod nat;
pub mod netns;
pub mod ping;
pub mod resolvers;
pub mod switch;

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Result, What as _};
use crate::file::real_within;
use crate::nl;
use crate::procfs;

/// What is there of a step's change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Nothing of it; also where what it would stand on is missing.
    Absent,
    /// A part of it, from somebody who was killed: setup makes it whole, teardown takes it away.
    Torn,
    /// All of it.
    Done,
    /// Something else stands in its place; the text says what.
    Other(String),
}

impl Seen {
    /// Done or absent.
    pub fn done(done: bool) -> Self {
        if done { Self::Done } else { Self::Absent }
    }
}

/// One reversible change. `Display` is the shell command that does the same.
pub trait Action: fmt::Display {
    /// Looks whether it is there. Never an error because something else is missing.
    fn observe(&self, machine: &mut Machine) -> Result<Seen>;

    /// Makes it.
    fn apply(&self, machine: &mut Machine) -> Result<()>;

    /// Makes it whole where it is torn.
    fn mend(&self, machine: &mut Machine) -> Result<()> {
        self.undo(machine)?;
        self.apply(machine)
    }

    /// Takes it back. Where nothing is written here, the kernel takes it back together with what it stands on: an
    /// address with its link, a mount with its namespace.
    fn undo(&self, _machine: &mut Machine) -> Result<()> {
        Ok(())
    }

    /// Whether it bears a mark of ours in somebody else's place, so that it is ours whoever made it: a firewall that was
    /// saved with it is loaded with it.
    fn is_marked(&self) -> bool {
        false
    }
}

/// A change and the reason for it.
pub struct Step {
    /// Why it is made, for people.
    pub why: &'static str,
    /// The change.
    pub act: Box<dyn Action>,
}

/// What steps work with: sockets into the outer and the jail's network namespace, opened when first needed and never
/// moved, the jail's mounts and namespaces as they are seen from where kak stands, and the lock that accounts are changed
/// under.
pub struct Machine {
    /// The jail's network namespace, by name.
    netns: String,
    /// rtnetlink, outside.
    outer: Option<nl::Socket>,
    /// rtnetlink, in the jail.
    inner: Option<nl::Socket>,
    /// nf_tables, outside.
    netfilter: Option<nl::Socket>,
    /// The jail's mounts and namespaces, where there is one.
    pub view: Option<View>,
    /// The right to change accounts, where whoever made the plan has it already.
    pub accounts: Option<account::Lock>,
}

/// The jail as its init has it.
pub struct View {
    /// Init, in our PID namespace; none where it is init that looks.
    pub init: Option<i32>,
    /// Its mountinfo.
    pub mounts: Vec<procfs::Mount>,
    /// How that mountinfo calls the jail's root: `/` once the jail is up.
    pub root: PathBuf,
}

impl View {
    /// The topmost mount at a place of the jail; where a link is on the way, at where that leads.
    pub fn at(&self, path: &Path) -> Option<&procfs::Mount> {
        let find = |path: &Path| {
            let point = inside(&self.root, path);
            self.mounts.iter().rev().find(|mount| mount.point == point)
        };
        find(path).or_else(|| find(&real_within(&self.dir(), path).ok()?))
    }

    /// By which path the jail's root is reached from here.
    pub fn dir(&self) -> PathBuf {
        self.init.map_or_else(
            || self.root.clone(),
            |init| format!("/proc/{init}/root/.").into(),
        )
    }
}

/// Which network namespace a step is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The outer one.
    Outer,
    /// The jail's.
    Jail,
}

impl Machine {
    /// A machine whose jail has (or will have) this network namespace.
    pub fn new(netns: &str) -> Self {
        Self {
            netns: netns.into(),
            outer: None,
            inner: None,
            netfilter: None,
            view: None,
            accounts: None,
        }
    }

    /// The rtnetlink socket of a side; none while the jail's namespace does not exist.
    pub fn route(&mut self, side: Side) -> Result<Option<&mut nl::Socket>> {
        match side {
            Side::Outer if self.outer.is_none() => {
                let socket = nl::Socket::route().what(|| "socket AF_NETLINK NETLINK_ROUTE");
                self.outer = Some(socket?);
            }
            Side::Jail if self.inner.is_none() => {
                let Some(namespace) = self.network()? else {
                    return Ok(None);
                };
                let socket = nl::Socket::route_in(namespace.as_fd());
                self.inner = Some(socket.what(|| format!("ip netns exec {}", self.netns))?);
            }
            _ => {}
        }
        Ok(match side {
            Side::Outer => self.outer.as_mut(),
            Side::Jail => self.inner.as_mut(),
        })
    }

    /// The jail's network namespace; none while it does not exist. Where there is an init it is that one's, wherever the
    /// name leads to by now.
    pub fn network(&self) -> Result<Option<OwnedFd>> {
        let name = OsStr::new(&self.netns);
        if let Some(init) = self.view.as_ref().and_then(|view| view.init) {
            let path = format!("/proc/{init}/ns/net");
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            match rustix::fs::open(&path, flags, Mode::empty()) {
                // It has gone meanwhile.
                Err(Errno::NOENT | Errno::SRCH) => {}
                network => return network.map(Some).what(|| path),
            }
        }
        match crate::netns::state(name)? {
            crate::netns::State::Namespace => crate::netns::open(name).map(Some),
            _ => Ok(None),
        }
    }

    /// The nf_tables socket, outside.
    pub fn netfilter(&mut self) -> Result<&mut nl::Socket> {
        if self.netfilter.is_none() {
            self.netfilter = Some(nl::Socket::netfilter().what(|| "nft list ruleset")?);
        }
        self.netfilter
            .as_mut()
            .ok_or_else(|| crate::error::Error::text("nft", "no socket"))
    }

    /// Forgets the socket in the jail's namespace, which is about to go.
    pub fn leave_jail(&mut self) {
        self.inner = None;
    }
}

/// A path of the jail, below its root.
pub fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Where a path of the jail leads to, below its root: a link on the way is followed as it will be in there.
pub fn place(root: &Path, path: &Path, what: impl FnOnce() -> String) -> Result<PathBuf> {
    let real = real_within(root, path).map_err(|astray| astray.told(what))?;
    Ok(inside(root, &real))
}
