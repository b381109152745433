//! Facts about names: what a jail's resolv.conf shall say and where it is, which resolvers only this machine reaches, and
//! whose sockets would answer around them.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::Before;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::facts::resolvers::{OUTER, ResolvConf, SOCKETS};
use crate::facts::{Entry, is_own};
use crate::file;

/// Whether a jail's resolv.conf is, or can be, in /etc/netns.
pub fn in_etc(config: &Config, etc_writable: bool) -> Result<bool> {
    let path = Path::new("/etc/netns")
        .join(&config.jail)
        .join("resolv.conf");
    let there = etc_writable || file::lstat(&path)?.is_some();
    if !there && config.bare && !config.dns.is_empty() {
        return Err(Error::text(
            "--dns",
            "needs a file in /etc/netns, and /etc is read-only",
        ));
    }
    Ok(there)
}

/// What the machine's is.
pub fn outer(before: Option<&Before<'_>>) -> Result<ResolvConf> {
    let is_dir =
        |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if file::lstat(Path::new(OUTER))?.is_none() {
        return Ok(ResolvConf::Absent);
    }
    if rustix::fs::stat(OUTER).is_ok_and(is_dir) {
        return Ok(ResolvConf::Directory);
    }
    let ours = before.map_or(Ok(false), Before::made_resolv)?;
    Ok(if ours {
        ResolvConf::Absent
    } else {
        ResolvConf::File
    })
}

/// What the machine's says, which is nothing where it is not a file.
pub fn outer_text() -> Result<Vec<u8>> {
    match file::read(Path::new(OUTER)) {
        Err(error) if matches!(error.errno(), Some(Errno::ISDIR | Errno::LOOP)) => Ok(Vec::new()),
        other => other,
    }
}

/// What it shall say.
pub fn text(config: &Config) -> Result<Vec<u8>> {
    if config.dns.is_empty() {
        return outer_text();
    }
    let line = |address| format!("nameserver {address}\n");
    Ok(config.dns.iter().map(line).collect::<String>().into_bytes())
}

/// Those of them that the jail would see.
pub fn sockets(config: &Config, entries: &[Entry]) -> Vec<PathBuf> {
    let is_dir = |path: &Path| {
        let stat = rustix::fs::lstat(path);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    };
    // Where a part of the way is a link, it is another one's name.
    let there = |path: &PathBuf| path.ancestors().all(is_dir) && !is_own(config, entries, path);
    SOCKETS.iter().map(PathBuf::from).filter(there).collect()
}
