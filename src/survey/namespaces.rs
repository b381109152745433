//! Facts for `--unshare`: whether the kernel has the namespaces, and where file systems are mounted that show what is
//! in one. Each of those is mounted afresh in such a jail, with the options that it has outside.

use std::path::Path;

use crate::config::{Config, Namespace};
use crate::error::{Error, Result};
use crate::facts::Afresh;
use crate::file;
use crate::procfs::Mount;

/// Where POSIX shared memory is (shm_overview(7)).
const SHM: &str = "/dev/shm";

/// Checks that the kernel has the namespaces that are wanted.
pub fn check(config: &Config) -> Result<()> {
    for kind in &config.unshare {
        let name = kind.name();
        if file::lstat(&Path::new("/proc/self/ns").join(name))?.is_none() {
            return Err(Error::cure(
                format!("--unshare {name}"),
                format!("this kernel has no {name} namespaces"),
                match kind {
                    Namespace::Time => {
                        "they came with Linux 5.6 (CONFIG_TIME_NS): leave the word out"
                    }
                    _ => "leave the word out",
                },
            ));
        }
    }
    Ok(())
}

/// The file systems that a jail like this mounts afresh.
pub fn afresh(config: &Config, mounts: &[Mount]) -> Vec<Afresh> {
    let mut found: Vec<Afresh> = Vec::new();
    for mount in mounts {
        let path = &mount.point;
        let wanted = Afresh::belongs_to(&mount.kind).is_some_and(|kind| config.unshare.contains(&kind))
            && (path == Path::new(SHM) || mount.kind != "tmpfs")
            // Elsewhere the jail may have something else at that path.
            && (path.starts_with("/dev") || path.starts_with("/sys"))
            // What is mounted on it, perhaps to mask a part, would be lost.
            && !mounts.iter().any(|other| other.parent == mount.id && other.point != *path);
        // Of several at one place, the last is the one that is seen.
        found.retain(|other| other.path != *path);
        if wanted {
            found.push(Afresh {
                path: path.clone(),
                kind: mount.kind.clone(),
                options: options(mount),
            });
        }
    }
    found.retain(is_seen);
    found
}

/// Whether it is seen there, and not hidden by a mount over a directory on the way to it.
fn is_seen(it: &Afresh) -> bool {
    // linux/magic.h
    let magic = match it.kind.as_str() {
        "mqueue" => 0x1980_0202,
        "tmpfs" => 0x0102_1994,
        "cgroup" => 0x0027_e0eb,
        _ => 0x6367_7270,
    };
    rustix::fs::statfs(&it.path).is_ok_and(|stat| u64::try_from(stat.f_type).ok() == Some(magic))
}

/// A mount's options, as far as another mount of its kind takes them.
fn options(mount: &Mount) -> String {
    let flag = |word: &&str| ["ro", "nosuid", "nodev", "noexec"].contains(word);
    let its_own = |word: &&str| match mount.kind.as_str() {
        "tmpfs" => ["size=", "nr_inodes=", "mode="]
            .iter()
            .any(|name| word.starts_with(name)),
        // A hierarchy is identified by its controllers, or by its name if it has none.
        "cgroup" => {
            word.starts_with("name=")
                || !word.contains('=')
                    && ![
                        "rw",
                        "ro",
                        "xattr",
                        "noprefix",
                        "clone_children",
                        "cpuset_v2_mode",
                    ]
                    .contains(word)
        }
        _ => false,
    };
    let flags = mount.options.split(',').filter(flag);
    let words: Vec<&str> = flags.chain(mount.data.split(',').filter(its_own)).collect();
    words.join(",")
}
