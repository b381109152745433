//! What the machine looks like where it matters to a jail: looked at once, before the first change, and then written
//! down ([`crate::record`]). It decides nothing but what has to be free: the subnet.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::config::{Bind, Config, OWN, Publish, Subnet};
use crate::error::{Error, Result, What as _};
use crate::nl::{self, route};
use crate::procfs;
use crate::step::{file, quote};

/// What was found.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The outer top level that the jail shall see, by name.
    pub entries: Vec<Entry>,
    /// For each of the options' binds, whether a directory is bound.
    pub bound_dirs: Vec<bool>,
    /// The uppermost mounts below /proc and /sys.
    pub submounts: Vec<PathBuf>,
    /// Whether /sys is read-only.
    pub sys_read_only: bool,
    /// Whether /etc can be written.
    pub etc_writable: bool,
    /// Whether there is an /etc/resolv.conf, be it a link that leads nowhere.
    pub has_resolv: bool,
    /// What the jail's resolv.conf shall say.
    pub resolvers: Vec<u8>,
    /// Whether the last line of /etc/shells lacks its newline.
    pub shells_unterminated: bool,
    /// The jail's shell.
    pub shell: PathBuf,
    /// The jail's addresses.
    pub subnet: Subnet,
    /// The way out of the machine.
    pub uplink: Option<Uplink>,
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

/// The largest packet where no uplink says otherwise (RFC 894).
pub const ETHERNET_MTU: u32 = 1500;

impl Facts {
    /// Looks at the machine.
    pub fn gather(config: &Config) -> Result<Self> {
        config
            .publish
            .iter()
            .try_for_each(|port| check_free(*port))?;
        if config.bare {
            return Self::of_network(config);
        }
        file::check_ours(&config.root)
            .map_err(|error| error.context(format!("--root {}", quote(&config.root))))?;
        let mounts = procfs::mounts(&file::read(Path::new("/proc/self/mountinfo"))?);
        let mut submounts: Vec<PathBuf> = Vec::new();
        for dir in ["/proc", "/sys"] {
            submounts.extend(
                procfs::uppermost_below(&mounts, Path::new(dir))
                    .into_iter()
                    .filter(|path| !is_of_a_process(path))
                    .map(Path::to_owned),
            );
        }
        let sys = mounts
            .iter()
            .rev()
            .find(|mount| mount.point == Path::new("/sys"));
        let resolv = Path::new("/etc/resolv.conf");
        let shells = file::read(Path::new("/etc/shells"))?;
        let network = Network::gather(config.subnet)?;
        let entries = entries(config)?;
        let bound_dirs = config
            .binds
            .iter()
            .map(|bind| bound_dir(config, &entries, bind))
            .collect::<Result<_>>()?;
        Ok(Self {
            entries,
            bound_dirs,
            submounts,
            sys_read_only: sys.is_some_and(|mount| mount.read_only),
            etc_writable: rustix::fs::access("/etc", Access::WRITE_OK).is_ok(),
            has_resolv: file::lstat(resolv)?.is_some(),
            resolvers: resolvers(config)?,
            shells_unterminated: shells.last().is_some_and(|last| *last != b'\n'),
            shell: shell(config.shell.as_deref())?,
            subnet: network.subnet,
            uplink: network.uplink,
            cookie: cookie()?,
        })
    }

    /// Looks only at what a network needs.
    fn of_network(config: &Config) -> Result<Self> {
        let network = Network::gather(config.subnet)?;
        Ok(Self {
            entries: Vec::new(),
            bound_dirs: Vec::new(),
            submounts: Vec::new(),
            sys_read_only: false,
            etc_writable: rustix::fs::access("/etc", Access::WRITE_OK).is_ok(),
            has_resolv: true,
            resolvers: resolvers(config)?,
            shells_unterminated: false,
            shell: "/bin/sh".into(),
            subnet: network.subnet,
            uplink: network.uplink,
            cookie: cookie()?,
        })
    }
}

/// Sees that nobody serves a port that is to lead into the jail: whoever does would not be reached any more.
fn check_free(publish: Publish) -> Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let kind = if publish.udp {
        SocketType::DGRAM
    } else {
        SocketType::STREAM
    };
    let address = publish.address.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
    let socket = || {
        let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
        // What is only left of a connection that is over does not count.
        sockopt::set_socket_reuseaddr(&socket, !publish.udp)?;
        bind(&socket, &std::net::SocketAddrV4::new(address, publish.port))?;
        if publish.udp {
            Ok(())
        } else {
            listen(&socket, 1)
        }
    };
    let what = || format!("--publish {publish}");
    match socket() {
        Err(Errno::ADDRINUSE) => Err(Error::text(what(), "somebody else serves this port")),
        Err(Errno::ADDRNOTAVAIL) => Err(Error::text(what(), "this machine has no such address")),
        other => other.what(what),
    }
}

/// What a resolv.conf of one's own shall say.
fn resolvers(config: &Config) -> Result<Vec<u8>> {
    if config.dns.is_empty() {
        return file::read(Path::new("/etc/resolv.conf"));
    }
    let line = |address| format!("nameserver {address}\n");
    Ok(config.dns.iter().map(line).collect::<String>().into_bytes())
}

/// The cookie of the network namespace we are in.
pub fn cookie() -> Result<u64> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .what(|| "socket")?;
    Ok(crate::sys::netns_cookie(std::os::fd::AsFd::as_fd(&socket)))
}

/// The outer top level as far as the jail sees it, in the order of names.
fn entries(config: &Config) -> Result<Vec<Entry>> {
    let what = || "ls -A /";
    for hidden in &config.hide {
        let path = Path::new("/").join(hidden);
        if file::lstat(&path)?
            .is_none_or(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory)
        {
            return Err(Error::text(
                format!("--hide {}", quote(&path)),
                "there is no such directory",
            ));
        }
    }
    let own = |name: &[u8]| {
        [&b"."[..], b"..", b"proc", b"sys"].contains(&name)
            || OWN.iter().any(|(own, _)| own.as_bytes() == name)
            || config.hide.iter().any(|hidden| hidden.as_bytes() == name)
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).what(what)?;
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(&root).what(what)? {
        let entry = entry.what(what)?;
        let name = entry.file_name().to_bytes();
        if own(name) {
            continue;
        }
        let name = OsString::from_vec(name.to_vec());
        let path = Path::new("/").join(&name);
        // Looked at, not taken from the directory: an overlay may not say.
        let Some(stat) = file::lstat(&path)? else {
            continue;
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Dir,
            FileType::RegularFile => Kind::File,
            FileType::Symlink => {
                let target = rustix::fs::readlink(&path, Vec::new())
                    .what(|| format!("readlink {}", quote(&path)))?;
                Kind::Link(OsString::from_vec(target.into_bytes()))
            }
            _ => continue,
        };
        entries.push(Entry { name, kind });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Whether a path is one of a process, which another proc does not have: `/proc/PID/...`.
fn is_of_a_process(path: &Path) -> bool {
    let name = path
        .strip_prefix("/proc")
        .ok()
        .and_then(|rest| rest.iter().next());
    name.is_some_and(|name| name.as_bytes().iter().all(u8::is_ascii_digit))
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

/// Whether a bind is one of a directory; an error where it cannot be made.
fn bound_dir(config: &Config, entries: &[Entry], bind: &Bind) -> Result<bool> {
    let what = || format!("--bind {}", quote(bind.to_word()));
    let is_dir = |path: &Path| match rustix::fs::stat(path) {
        Ok(stat) => Ok(Some(
            FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
        )),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).what(what),
    };
    let Some(dir) = is_dir(&bind.source)? else {
        return Err(Error::text(
            what(),
            format!("there is no {}", quote(&bind.source)),
        ));
    };
    if !is_own(config, entries, &bind.target) {
        // The place is in a directory of the machine's, where kak makes nothing.
        match is_dir(&bind.target)? {
            None => {
                return Err(Error::cure(
                    what(),
                    format!("there is no {} to put it on", quote(&bind.target)),
                    "make it, or choose a place in /mnt, /opt or another directory of the jail's own",
                ));
            }
            Some(there) if there != dir => {
                return Err(Error::text(
                    what(),
                    "one is a directory and the other is not",
                ));
            }
            Some(_) => {}
        }
    }
    Ok(dir)
}

/// The resolvers of a resolv.conf (resolv.conf(5)) that no other network namespace reaches.
pub fn loopbacks(text: &[u8]) -> Vec<IpAddr> {
    let text = String::from_utf8_lossy(text);
    let addresses = text.lines().filter_map(|line| {
        line.strip_prefix("nameserver")?
            .trim()
            .parse::<IpAddr>()
            .ok()
    });
    let mut found: Vec<IpAddr> = Vec::new();
    for address in addresses.filter(IpAddr::is_loopback) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// The jail's shell.
fn shell(wanted: Option<&Path>) -> Result<PathBuf> {
    let usable = |path: &Path| {
        let regular = rustix::fs::stat(path)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        regular && rustix::fs::access(path, Access::EXEC_OK).is_ok()
    };
    let Some(wanted) = wanted else {
        let bash = Path::new("/bin/bash");
        return Ok(if usable(bash) {
            bash
        } else {
            Path::new("/bin/sh")
        }
        .into());
    };
    let what = || format!("--shell {}", quote(wanted));
    if !usable(wanted) {
        return Err(Error::text(what(), "is not an executable file"));
    }
    let (shell, me) = (rustix::fs::stat(wanted), rustix::fs::stat("/proc/self/exe"));
    if let (Ok(shell), Ok(me)) = (shell, me)
        && (shell.st_dev, shell.st_ino) == (me.st_dev, me.st_ino)
    {
        return Err(Error::text(what(), "is kak itself"));
    }
    Ok(wanted.into())
}

/// What the outer network decides.
struct Network {
    /// The jail's addresses.
    subnet: Subnet,
    /// The way out.
    uplink: Option<Uplink>,
}

impl Network {
    /// Asks for links, addresses and routes.
    fn gather(wanted: Option<Subnet>) -> Result<Self> {
        let mut socket = nl::Socket::route().what(|| "socket AF_NETLINK NETLINK_ROUTE")?;
        let addresses = route::addresses(&mut socket).what(|| "ip addr show")?;
        let routes = route::routes(&mut socket).what(|| "ip route show table all")?;
        let mut taken: Vec<(Subnet, String)> = Vec::new();
        for address in &addresses {
            let subnet = Subnet::around(address.address, address.prefix);
            taken.push((
                subnet,
                format!("the address {}/{}", address.address, address.prefix),
            ));
        }
        for route in routes.iter().filter(|route| route.prefix > 0) {
            let subnet = Subnet::around(route.destination, route.prefix);
            taken.push((subnet, format!("the route to {subnet}")));
        }
        let way = routes
            .iter()
            .filter(|route| {
                route.prefix == 0
                    && route.kind == route::RTN_UNICAST
                    && route.table == route::RT_TABLE_MAIN
            })
            .min_by_key(|route| route.metric)
            .and_then(|route| route.oif);
        let uplink = match way {
            None => None,
            Some(index) => {
                let links = route::links(&mut socket).what(|| "ip link show")?;
                links
                    .into_iter()
                    .find(|link| link.index == index)
                    .map(|link| Uplink {
                        name: link.name,
                        mtu: link.mtu,
                    })
            }
        };
        Ok(Self {
            subnet: choose(wanted, &taken)?,
            uplink,
        })
    }
}

/// The wanted subnet if it is free; else the first /24 of 10.0.0.0/8 that is.
fn choose(wanted: Option<Subnet>, taken: &[(Subnet, String)]) -> Result<Subnet> {
    let collision = |subnet: Subnet| {
        taken
            .iter()
            .find(|(other, _)| other.overlaps(subnet))
            .map(|(_, by)| by)
    };
    if let Some(subnet) = wanted {
        return match collision(subnet) {
            None => Ok(subnet),
            Some(by) => Err(Error::cure(
                format!("--subnet {subnet}"),
                format!("is taken by {by}"),
                "choose another one, or leave the option out: the first free one is found",
            )),
        };
    }
    (0..=u16::MAX)
        .map(|n| {
            Subnet::around(
                std::net::Ipv4Addr::from_bits(0x0A00_0000 | u32::from(n) << 8),
                24,
            )
        })
        .find(|subnet| collision(*subnet).is_none())
        .ok_or_else(|| {
            Error::cure(
                "",
                "no /24 of 10.0.0.0/8 is free",
                "name a free network with --subnet",
            )
        })
}

/// The name of a jail's outer link: `kak-JAIL`, with a hash in the name's stead where that is longer than a link's name
/// can be (IFNAMSIZ: 15 bytes).
pub fn link_name(jail: &str) -> String {
    let name = format!("kak-{jail}");
    if name.len() <= 15 {
        return name;
    }
    // FNV-1a.
    let hash = jail.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("kak-{:010x}", hash >> 24)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    /// `10.0.0.0/24` as a subnet.
    fn net(text: &str) -> Subnet {
        Subnet::parse(OsStr::new(text)).unwrap()
    }

    #[test]
    fn the_first_free_network() {
        assert_eq!(choose(None, &[]).unwrap(), net("10.0.0.0/24"));
        let taken = [
            (net("10.0.0.0/23"), "x".into()),
            (net("10.0.2.128/25"), "y".into()),
        ];
        assert_eq!(choose(None, &taken).unwrap(), net("10.0.3.0/24"));
        assert!(choose(None, &[(net("10.0.0.0/8"), "x".into())]).is_err());
        let error = choose(Some(net("10.0.1.0/24")), &taken).unwrap_err();
        assert_eq!(error.to_string(), "--subnet 10.0.1.0/24: is taken by x");
    }

    #[test]
    fn link_names_fit() {
        assert_eq!(link_name("USER"), "kak-USER");
        assert_eq!(link_name("elevenchars"), "kak-elevenchars");
        let long = link_name("a-name-of-more-than-eleven");
        assert!(long.len() <= 15 && long != link_name("a-name-of-more-than-twelve"));
    }

    #[test]
    fn whom_a_jail_cannot_ask() {
        let found = |text: &[u8]| {
            loopbacks(text)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            found(b"# Docker\nnameserver 127.0.0.11\noptions ndots:0\n"),
            ["127.0.0.11"]
        );
        let text = b"nameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.53\nnameserver\t127.0.0.53\n";
        assert_eq!(found(text), ["127.0.0.53", "::1"]);
        assert_eq!(found(b"search 127.0.0.1\nnameserver x\n"), [""; 0]);
    }
}
