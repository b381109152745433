//! Looks at the machine as far as a jail depends on it: once, before the first change; what it finds ([`crate::facts`])
//! is then recorded. It chooses only what has to be looked for: a free subnet, and a shell that is there.

mod accounts;
mod before;
pub mod firewall;
mod ipv6;
mod namespaces;
mod network;
pub mod programs;
pub mod resolvers;
mod root;
mod uplink;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FileType};
use rustix::io::Errno;

use crate::config::{Accounts, Allow, Bind, Config, OWN};
use crate::error::{Error, Result, What as _};
use crate::facts::resolvers::ResolvConf;
use crate::facts::{Entry, Facts, Kind, is_own};
use crate::file;
use crate::procfs;
use crate::record::Record;
use crate::step::line::{SHELLS, Was};
use crate::step::ping::Groups;
use crate::step::{Machine, account};
use crate::sys;
use crate::text::quote;
use network::check_free;

pub use accounts::{have_others, take_in_chosen};
pub use before::Before;
pub use network::Network;

/// Looks at the machine, as it would be without what an earlier life of the jail has left; `others` are the records of
/// the other jails on it.
pub fn take(
    config: &Config,
    others: &[Record],
    before: Option<&Before<'_>>,
    machine: &mut Machine,
) -> Result<Facts> {
    config
        .publish
        .iter()
        .try_for_each(|port| check_free(*port, config.ipv6))?;
    if config.bare {
        return of_network(config, others, machine);
    }
    namespaces::check(config)?;
    check_known(config, before)?;
    let root = root::root(config, others)?;
    let mounts = procfs::mounts(&file::read(Path::new("/proc/self/mountinfo"))?);
    let mut submounts: Vec<PathBuf> = Vec::new();
    for dir in ["/proc", "/sys"] {
        submounts.extend(
            procfs::uppermost_below(
                mounts.iter().map(|mount| mount.point.as_path()),
                Path::new(dir),
            )
            .into_iter()
            .filter(|path| !is_of_a_process(path))
            .map(Path::to_owned),
        );
    }
    let sys = mounts
        .iter()
        .rev()
        .find(|mount| mount.point == Path::new("/sys"));
    let etc_writable = file::may(Path::new("/etc"), Access::WRITE_OK)?;
    let shells = match before.map_or(Ok(None), Before::shells)? {
        Some(was) => was,
        None => Was::of(Path::new(SHELLS))?,
    };
    let network = Network::gather(config, others, before)?;
    let mut entries = entries(config)?;
    entries.retain(|entry| before.is_none_or(|before| !before.made_for(&root, entry)));
    let sockets = resolvers::sockets(config, &entries);
    let bound_dirs = config
        .binds
        .iter()
        .map(|bind| bound_dir(config, &entries, bind))
        .collect::<Result<_>>()?;
    Ok(Facts {
        root,
        programs: programs::visible(&entries)?,
        entries,
        bound_dirs,
        submounts,
        afresh: namespaces::afresh(config, &mounts),
        sys_read_only: sys.is_some_and(|mount| mount.read_only),
        etc_writable,
        resolv: resolvers::outer(before)?,
        resolv_in_etc: resolvers::in_etc(config, etc_writable)?,
        resolvers: resolvers::text(config)?,
        resolvers_before: before.map_or_else(Vec::new, |before| {
            before.record.facts.resolvers_before.clone()
        }),
        sockets,
        shells,
        shell: shell(config.shell.as_deref())?,
        passwd_writable: account::is_writable()?,
        login_shells: accounts::login_shells(config, others, before)?,
        subnet: network.subnet,
        ping: Groups::gather()?,
        uplink: network.uplink,
        ipv6: network.ipv6,
        single: network.single,
        firewall: firewall::drops(
            config,
            before.map(|before| &before.record.facts.firewall),
            machine,
        )?,
        cookie: cookie()?,
    })
}

/// The same for a network without a jail: only what that needs.
fn of_network(config: &Config, others: &[Record], machine: &mut Machine) -> Result<Facts> {
    let network = Network::gather(config, others, None)?;
    let etc_writable = file::may(Path::new("/etc"), Access::WRITE_OK)?;
    Ok(Facts {
        root: config.root.clone(),
        entries: Vec::new(),
        bound_dirs: Vec::new(),
        programs: Vec::new(),
        submounts: Vec::new(),
        afresh: Vec::new(),
        sys_read_only: false,
        etc_writable,
        resolv: ResolvConf::File,
        resolv_in_etc: resolvers::in_etc(config, etc_writable)?,
        resolvers: resolvers::text(config)?,
        resolvers_before: Vec::new(),
        sockets: Vec::new(),
        shells: Was::Absent,
        shell: "/bin/sh".into(),
        passwd_writable: false,
        login_shells: Vec::new(),
        subnet: network.subnet,
        ping: Groups::gather()?,
        uplink: network.uplink,
        ipv6: network.ipv6,
        single: network.single,
        firewall: firewall::drops(config, None, machine)?,
        cookie: cookie()?,
    })
}

/// Checks that whoever `--allow` newly names exists. Who may join is decided at that time, by the accounts of then.
fn check_known(config: &Config, before: Option<&Before<'_>>) -> Result<()> {
    if config.allow.is_empty() {
        return Ok(());
    }
    let users = file::read(Path::new("/etc/passwd"))?;
    let groups = file::read(Path::new("/etc/group"))?;
    let accounts = Accounts {
        users: &users,
        groups: &groups,
    };
    let is_new =
        |who: &&Allow| before.is_none_or(|before| !before.record.config.allow.contains(who));
    let mut new = config.allow.iter().filter(is_new);
    match new.find(|who| !who.is_known(accounts)) {
        None => Ok(()),
        Some(who) => Err(Error::text(
            format!("--allow {who}"),
            "there is no such user or group in /etc/passwd and /etc/group",
        )),
    }
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
    sys::netns_cookie(std::os::fd::AsFd::as_fd(&socket)).what(|| "getsockopt SO_NETNS_COOKIE")
}

/// The outer top level as far as the jail sees it, sorted by name.
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
        [&b"proc"[..], b"sys"].contains(&name)
            || OWN.iter().any(|(own, _)| own.as_bytes() == name)
            || config.hide.iter().any(|hidden| hidden.as_bytes() == name)
    };
    let mut entries = Vec::new();
    for name in sys::entries("/").what(what)? {
        if own(name.as_bytes()) {
            continue;
        }
        let path = Path::new("/").join(&name);
        // By lstat, not by the directory entry: on an overlay that may lack the type.
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
        // Inserted in order: the library's sort would be as much code as the rest of this function.
        let at = entries.partition_point(|entry: &Entry| entry.name < name);
        entries.insert(at, Entry { name, kind });
    }
    Ok(entries)
}

/// Whether a path is in a process's directory, which the jail's proc does not have: `/proc/PID/...`.
fn is_of_a_process(path: &Path) -> bool {
    let name = path
        .strip_prefix("/proc")
        .ok()
        .and_then(|rest| rest.iter().next());
    name.is_some_and(|name| name.as_bytes().iter().all(u8::is_ascii_digit))
}

/// Whether a bind's source is a directory; an error where the bind cannot be made.
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
        // The target is in a directory of the machine's, where kak makes nothing.
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

/// Whether a path leads to a file that can be executed.
fn is_program(path: &Path) -> Result<bool> {
    let regular = match rustix::fs::stat(path) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => false,
        Err(errno) => return Err(errno).what(|| format!("stat {}", quote(path))),
    };
    Ok(regular && file::may(path, Access::EXEC_OK)?)
}

/// The jail's shell.
fn shell(wanted: Option<&Path>) -> Result<PathBuf> {
    let Some(wanted) = wanted else {
        let usual = [Path::new("/bin/bash"), Path::new("/bin/sh")];
        let mut there = Vec::new();
        for path in usual {
            if is_program(path)? {
                there.push(path);
            }
        }
        if there.is_empty() {
            return Ok("/bin/sh".into());
        }
        return there
            .into_iter()
            .find(|path| !is_kak(path))
            .map(Into::into)
            .ok_or_else(|| {
                Error::cure(
                    "ls -l /bin/bash /bin/sh",
                    "there is no shell but kak itself",
                    "name one with --shell PATH",
                )
            });
    };
    let what = || format!("--shell {}", quote(wanted));
    if !is_program(wanted)? {
        return Err(Error::text(what(), "is not an executable file"));
    }
    if is_kak(wanted) {
        return Err(Error::text(what(), "is kak itself"));
    }
    Ok(wanted.into())
}

/// Whether a file is this very program, by whatever name or link, or a copy of it: as a jail's shell it would only look
/// for the jail's shell.
pub fn is_kak(path: &Path) -> bool {
    let me = Path::new("/proc/self/exe");
    let (Ok(it), Ok(mine)) = (rustix::fs::stat(path), rustix::fs::stat(me)) else {
        return false;
    };
    (it.st_dev, it.st_ino) == (mine.st_dev, mine.st_ino)
        || it.st_size == mine.st_size
            && file::read(path).is_ok_and(|it| file::read(me).is_ok_and(|mine| it == mine))
}
