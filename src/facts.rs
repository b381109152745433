//! The facts about a machine that matter to a jail: a record keeps them ([`crate::record`]), and a plan is made from
//! them. Nothing here looks at the machine; [`crate::survey`] does.

mod firewall;
mod ipv6;
pub mod resolvers;

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use crate::config::{Config, Namespace, OWN, Subnet};
use crate::step::forwarding::Single;
use crate::step::line::Was;
use crate::step::ping::Groups;

pub use firewall::Firewall;
pub use ipv6::Ipv6;

/// What was found.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Where the jail's root is, without links on the way.
    pub root: PathBuf,
    /// The outer top level that the jail shall see, by name.
    pub entries: Vec<Entry>,
    /// For each of the options' binds, whether a directory is bound.
    pub bound_dirs: Vec<bool>,
    /// The files that kak is run from, as far as the jail sees them and the kernel can make them read-only there.
    pub programs: Vec<PathBuf>,
    /// The uppermost mounts below /proc and /sys.
    pub submounts: Vec<PathBuf>,
    /// The file systems that the jail mounts afresh, for the namespaces of `--unshare`.
    pub afresh: Vec<Afresh>,
    /// Whether /sys is read-only.
    pub sys_read_only: bool,
    /// Whether /etc can be written.
    pub etc_writable: bool,
    /// What /etc/resolv.conf is, if there is one.
    pub resolv: resolvers::ResolvConf,
    /// Whether the jail's resolv.conf is in /etc/netns.
    pub resolv_in_etc: bool,
    /// The text of the jail's resolv.conf.
    pub resolvers: Vec<u8>,
    /// Its text before the outer one last changed.
    pub resolvers_before: Vec<u8>,
    /// The directories of local services that would answer lookups for the machine's network.
    pub sockets: Vec<PathBuf>,
    /// What /etc/shells is like without the jail's line.
    pub shells: Was,
    /// The jail's shell.
    pub shell: PathBuf,
    /// Whether /etc/passwd can be written.
    pub passwd_writable: bool,
    /// For each of the options' users whose login shell nssh becomes, what it was before.
    pub login_shells: Vec<OsString>,
    /// The jail's addresses.
    pub subnet: Subnet,
    /// Which groups may ping, if any.
    pub ping: Option<Groups>,
    /// The way out of the machine.
    pub uplink: Option<Uplink>,
    /// What IPv6 needs, where the jail shall have it.
    pub ipv6: Option<Ipv6>,
    /// The firewall that drops what passes through the machine.
    pub firewall: Firewall,
    /// The switches that turning forwarding off would change.
    pub single: Single,
    /// The cookie of the outer network namespace, which no other has; 0 before Linux 5.14.
    pub cookie: u64,
}

/// A name at the outer top level.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// What it is.
    pub kind: Kind,
}

/// What a name at the top level can be. Sockets, pipes and devices are not the jail's business.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link, and where to.
    Link(OsString),
}

/// The link that the default route leaves by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Its MTU.
    pub mtu: u32,
}

/// The directories of the usual search path, which are also where `kak --install` is told to put its links.
pub const PROGRAM_DIRS: [&str; 6] = [
    "/bin",
    "/usr/bin",
    "/usr/local/bin",
    "/sbin",
    "/usr/sbin",
    "/usr/local/sbin",
];

/// The MTU where there is no uplink (RFC 894).
pub const ETHERNET_MTU: u32 = 1500;

/// A file system to be mounted afresh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Afresh {
    /// Where.
    pub path: PathBuf,
    /// Its type.
    pub kind: String,
    /// Its options, as mount(8) takes them.
    pub options: String,
}

impl Afresh {
    /// The namespace that a file system of this type shows, if any.
    pub fn belongs_to(kind: &str) -> Option<Namespace> {
        match kind {
            // POSIX message queues; and POSIX shared memory, which is files on a tmpfs but IPC to its users.
            "mqueue" | "tmpfs" => Some(Namespace::Ipc),
            "cgroup" | "cgroup2" => Some(Namespace::Cgroup),
            _ => None,
        }
    }
}

/// Whether a path is in a top-level directory of the jail's own, where kak may make things: hidden, or absent outside.
pub fn is_own(config: &Config, entries: &[Entry], path: &Path) -> bool {
    let Some(top) = path.components().nth(1).map(Component::as_os_str) else {
        return false;
    };
    OWN.iter().any(|(own, _)| top == *own)
        || config.hide.iter().any(|hidden| top == hidden)
        || !(top == "proc" || top == "sys" || entries.iter().any(|entry| top == entry.name))
}
