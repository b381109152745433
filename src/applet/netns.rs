//! `kak netns`, `netns-VERB` and `ip netns`: named network namespaces on the command line. What a name is, and how it
//! comes and goes, is [`crate::netns`]'s.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::{Applet, Call, print};
use crate::error::{Error, Result, What as _, complain};
use crate::jail::session;
use crate::jail::shell::{Environment, c_string, search};
use crate::netns::{self, State};
use crate::procfs;
use crate::step::{file, quote};
use crate::sys;

/// `kak netns`.
pub const APPLET: Applet = Applet {
    name: "netns",
    links: &["netns-list", "netns-add", "netns-delete", "netns-exec"],
    help: "\
usage: kak netns [list]
       kak netns add NAME...
       kak netns delete NAME...
       kak netns exec NAME CMD [ARG]...

Make, list, enter and delete network namespaces, as 'ip netns' does.

A verb can be shortened as for ip. 'netns-add', 'netns-exec' and so on are the
same by name. A namespace is a file in /run/netns; 'ip netns' and kak see each
other's. A name that lost its namespace is told by list, and add replaces it.

Exit status: 0 done, 1 failed, 2 wrong usage; exec: CMD's own, 127 not found,
126 not executable, 1 the namespace cannot be entered.
",
    run,
};

/// `ip`, as far as it is about namespaces.
pub const IP: Applet = Applet {
    name: "ip",
    links: &[],
    help: "\
usage: kak ip netns [VERB] [ARG]...
       ip netns [VERB] [ARG]...

The part of ip that is about named network namespaces.

Stands in where iproute2 is not installed; see 'kak help netns'.
",
    run: run_ip,
};

/// What a verb does with the words after it.
type Verb = fn(&[OsString]) -> Result<u8>;

/// The verbs. The order decides what a shortened verb means, as in ip.
const VERBS: &[(&str, Verb)] = &[
    ("list", list),
    ("show", list),
    ("lst", list),
    ("add", add),
    ("delete", delete),
    ("exec", exec),
];

/// Does it.
fn run(call: Call) -> Result<u8> {
    let Call { args, .. } = call;
    let Some((verb, rest)) = args.split_first() else {
        return list(&[]);
    };
    let found = VERBS
        .iter()
        .find(|(name, _)| !verb.is_empty() && name.as_bytes().starts_with(verb.as_bytes()));
    match found {
        Some((_, act)) => act(rest),
        None => Err(Error::usage(format!(
            "no verb {verb:?}: list, add, delete or exec"
        ))),
    }
}

/// `ip netns ...`.
fn run_ip(call: Call) -> Result<u8> {
    let Call {
        login,
        own_name,
        mut args,
    } = call;
    // "net" and "netn" are netns for ip too; shorter ones mean neighbours.
    if args
        .first()
        .is_some_and(|word| word.len() >= 3 && b"netns".starts_with(word.as_bytes()))
    {
        args.remove(0);
        return run(Call {
            login,
            own_name,
            args,
        });
    }
    let object = args
        .first()
        .map_or_else(String::new, |word| format!(" {}", word.display()));
    Err(Error::usage(format!(
        "ip{object}: kak's ip knows 'ip netns' only; install iproute2 for the rest"
    )))
}

/// `list`.
fn list(_: &[OsString]) -> Result<u8> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let names = match rustix::fs::open(netns::DIR, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(0),
        other => other
            .and_then(rustix::fs::Dir::new)
            .what(|| format!("ls {}", netns::DIR))?,
    };
    for entry in names.flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        if netns::state(name)? != State::Namespace {
            complain(&format!(
                "kak: netns: {}: stale, it has no namespace\n",
                name.display()
            ));
        }
        print(&format!("{}\n", name.display()));
    }
    Ok(0)
}

/// `add NAME...`.
fn add(names: &[OsString]) -> Result<u8> {
    each(names, |name| {
        netns::prepare_dir()?;
        netns::create(name)
    })
}

/// `delete NAME...`.
fn delete(names: &[OsString]) -> Result<u8> {
    each(names, netns::delete)
}

/// Does something to every name, and tells all that went wrong.
fn each(names: &[OsString], act: impl Fn(&OsStr) -> Result<()>) -> Result<u8> {
    if names.is_empty() {
        return Err(Error::usage("takes a name"));
    }
    Error::all(names.iter().filter_map(|name| act(name).err()).collect()).map(|()| 0)
}

/// `exec NAME CMD [ARG]...`: this process becomes the command. Of what it was nothing changes but the network, /sys,
/// the files of /etc/netns/NAME, and `KAK_NETNS` in its environment.
fn exec(words: &[OsString]) -> Result<u8> {
    let [name, command, ..] = words else {
        return Err(Error::usage("takes a name and a command"));
    };
    let namespace = netns::open(name)?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .what(|| format!("nsenter --net={}/{}", netns::DIR, name.display()))?;
    drop(namespace);
    sys::unshare(UnshareFlags::NEWNS).what(|| "unshare --mount")?;
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .what(|| "mount --make-rslave /")?;
    replace_sys(name)?;
    bind_files(name)?;

    let mut env = Environment::of_caller();
    let paths = search(command, env.get("PATH"))?;
    let argv: Vec<CString> = words
        .iter()
        .skip(1)
        .map(|word| c_string(word))
        .collect::<Result<_>>()?;
    env.set("KAK_NETNS", name.clone());
    let errno = sys::execute(&paths, &argv, &env.into_c_strings()?);
    Ok(session::End::NotRun(command.display().to_string(), errno).follow("kak: netns"))
}

/// Lays a sysfs of this network over /sys, with everything that is mounted in the old one and no more rights than that
/// one gave. Where the kernel allows none the old one stays.
fn replace_sys(name: &OsStr) -> Result<()> {
    let mounts = procfs::mounts(&file::read(std::path::Path::new("/proc/self/mountinfo"))?);
    let sys = std::path::Path::new("/sys");
    let Some(old) = mounts.iter().rev().find(|mount| mount.point == sys) else {
        return Ok(());
    };
    let mut kept: Vec<(std::path::PathBuf, OwnedFd)> = Vec::new();
    for point in procfs::uppermost_below(&mounts, sys) {
        let flags = rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE
            | rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC
            | rustix::mount::OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(rustix::fs::CWD, point, flags)
            .what(|| format!("mount --rbind {}", quote(point)))?;
        kept.push((point.to_owned(), tree));
    }
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if old.read_only {
        flags |= MountFlags::RDONLY;
    }
    if let Err(errno) = mount(name, "/sys", "sysfs", flags, None) {
        complain(&format!(
            "kak: netns: mount -t sysfs {} /sys: {}; the old one stays\n",
            name.display(),
            Error::reason(errno)
        ));
        return Ok(());
    }
    for (point, tree) in kept {
        let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&tree, c"", rustix::fs::CWD, &point, flags)
            .what(|| format!("mount --move {}", quote(&point)))?;
    }
    Ok(())
}

/// Binds every file of /etc/netns/NAME over the one of the same name in /etc. One that cannot be is told and left.
fn bind_files(name: &OsStr) -> Result<()> {
    let dir = std::path::Path::new("/etc/netns").join(name);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(files) = rustix::fs::open(&dir, flags, Mode::empty()).and_then(rustix::fs::Dir::new)
    else {
        return Ok(());
    };
    for entry in files {
        let entry = entry.what(|| format!("ls {}", quote(&dir)))?;
        let file = OsStr::from_bytes(entry.file_name().to_bytes());
        if file == "." || file == ".." {
            continue;
        }
        let (source, target) = (dir.join(file), std::path::Path::new("/etc").join(file));
        if let Err(errno) = mount_bind_recursive(&source, &target) {
            complain(&format!(
                "Bind {} -> {} failed: {}\n",
                source.display(),
                target.display(),
                Error::reason(errno)
            ));
        }
    }
    Ok(())
}
