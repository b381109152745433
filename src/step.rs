//! The step: one reversible change to a machine, and what steps need to see and change it.
//!
//! What a step is *for* belongs to the plan ([`crate::plan`]); what it *does* is here, once, as the verbs of [`Action`]
//! and the equivalent shell command. A new kind of change is one more type and one more line in the plan.

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

/// How much of a step's change is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Nothing of it; also where something that it depends on is missing.
    Absent,
    /// A part of it, left by a process that was killed: setup completes it, teardown removes it.
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
    /// Looks whether it is there. That something it depends on is missing is never an error.
    fn observe(&self, machine: &mut Machine) -> Result<Seen>;

    /// Makes it.
    fn apply(&self, machine: &mut Machine) -> Result<()>;

    /// Completes it where it is torn.
    fn mend(&self, machine: &mut Machine) -> Result<()> {
        self.undo(machine)?;
        self.apply(machine)
    }

    /// Takes it back. A step that does not implement this leaves it to the kernel, which removes the change together
    /// with the namespace that it is in, as a mount with its mount namespace.
    fn undo(&self, _machine: &mut Machine) -> Result<()> {
        Ok(())
    }

    /// Whether it bears a mark of ours, so that it is ours whichever process made it: a firewall that was saved while
    /// kak's rules were in it is reloaded with them.
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

/// What steps work with: sockets in the outer and the jail's network namespace, opened when first needed; the jail's
/// mounts and namespaces as this process sees them; and the lock under which accounts are changed.
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
    /// The lock on accounts, where the process that made the plan holds it already.
    pub accounts: Option<account::Lock>,
}

/// The jail as its init sees it.
pub struct View {
    /// Init's PID in our PID namespace; none where this process is that init.
    pub init: Option<i32>,
    /// Its mountinfo.
    pub mounts: Vec<procfs::Mount>,
    /// The path of the jail's root in that mountinfo: `/` once the jail is up.
    pub root: PathBuf,
}

impl View {
    /// The topmost mount at a path of the jail; if there is none, at the path that symbolic links on the way lead to.
    pub fn at(&self, path: &Path) -> Option<&procfs::Mount> {
        let find = |path: &Path| {
            let point = inside(&self.root, path);
            self.mounts.iter().rev().find(|mount| mount.point == point)
        };
        find(path).or_else(|| find(&real_within(&self.dir(), path).ok()?))
    }

    /// The path by which this process reaches the jail's root.
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

    /// The jail's network namespace; none while it does not exist. If there is an init it is init's, whatever the name
    /// refers to by now.
    pub fn network(&self) -> Result<Option<OwnedFd>> {
        let name = OsStr::new(&self.netns);
        if let Some(init) = self.view.as_ref().and_then(|view| view.init) {
            let path = format!("/proc/{init}/ns/net");
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            match rustix::fs::open(&path, flags, Mode::empty()) {
                // Init has ended meanwhile.
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

    /// Closes the socket in the jail's namespace, which is about to be deleted.
    pub fn leave_jail(&mut self) {
        self.inner = None;
    }
}

/// A path of the jail, below its root.
pub fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Where a path of the jail leads to, below its root: symbolic links are followed as they will be inside.
pub fn place(root: &Path, path: &Path, what: impl FnOnce() -> String) -> Result<PathBuf> {
    let real = real_within(root, path).map_err(|astray| astray.told(what))?;
    Ok(inside(root, &real))
}
