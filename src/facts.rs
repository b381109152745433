//! What of the machine matters to a jail, as a record has it ([`crate::record`]) and a plan is made from. Nothing here
//! looks at the machine; that is [`crate::survey`].

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
    /// The files that kak is run from, as far as the jail sees them and the kernel can keep them from it.
    pub programs: Vec<PathBuf>,
    /// The uppermost mounts below /proc and /sys.
    pub submounts: Vec<PathBuf>,
    /// The file systems that it mounts afresh, for the namespaces that it has of its own.
    pub afresh: Vec<Afresh>,
    /// Whether /sys is read-only.
    pub sys_read_only: bool,
    /// Whether /etc can be written.
    pub etc_writable: bool,
    /// Whether there is an /etc/resolv.conf, be it a link that leads nowhere.
    pub resolv: resolvers::ResolvConf,
    /// Whether the jail's resolv.conf is in /etc/netns.
    pub resolv_in_etc: bool,
    /// What it shall say.
    pub resolvers: Vec<u8>,
    /// What it said before the outer one became another.
    pub resolvers_before: Vec<u8>,
    /// The directories of those who would answer for the machine's network.
    pub sockets: Vec<PathBuf>,
    /// What /etc/shells is like.
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
    /// What drops what passes through the machine.
    pub firewall: Firewall,
    /// The switches that turning forwarding off would change.
    pub single: Single,
    /// The outer network namespace, as a number that no other has; 0 where the kernel does not tell.
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
    /// Its largest packet.
    pub mtu: u32,
}

/// Where programs are that everybody finds: in the usual search path, and where `kak --install` is told to put them.
pub const PROGRAM_DIRS: [&str; 6] = [
    "/bin",
    "/usr/bin",
    "/usr/local/bin",
    "/sbin",
    "/usr/sbin",
    "/usr/local/sbin",
];

/// The largest packet where no uplink says otherwise (RFC 894).
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
    /// For which namespace of its own a jail needs it anew, if for any.
    pub fn belongs_to(kind: &str) -> Option<Namespace> {
        match kind {
            // POSIX message queues; and shared memory, which is files, but IPC to everybody who uses it.
            "mqueue" | "tmpfs" => Some(Namespace::Ipc),
            "cgroup" | "cgroup2" => Some(Namespace::Cgroup),
            _ => None,
        }
    }
}

/// Whether a path of the jail is in a directory of its own, where kak may make things: hidden, or unknown outside.
pub fn is_own(config: &Config, entries: &[Entry], path: &Path) -> bool {
    let Some(top) = path.components().nth(1).map(Component::as_os_str) else {
        return false;
    };
    OWN.iter().any(|(own, _)| top == *own)
        || config.hide.iter().any(|hidden| top == hidden)
        || !(top == "proc" || top == "sys" || entries.iter().any(|entry| top == entry.name))
}
