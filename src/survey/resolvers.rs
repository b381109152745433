//! Facts about name resolution: the text and place of the jail's resolv.conf, what the machine's own is, and the
//! directories of local services that would answer instead.

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

/// What the machine's resolv.conf is.
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

/// The text of the machine's resolv.conf; empty if that is not a file.
pub fn outer_text() -> Result<Vec<u8>> {
    match file::read(Path::new(OUTER)) {
        Err(error) if matches!(error.errno(), Some(Errno::ISDIR | Errno::LOOP)) => Ok(Vec::new()),
        other => other,
    }
}

/// The text of the jail's resolv.conf.
pub fn text(config: &Config) -> Result<Vec<u8>> {
    if config.dns.is_empty() {
        return outer_text();
    }
    let line = |address| format!("nameserver {address}\n");
    Ok(config.dns.iter().map(line).collect::<String>().into_bytes())
}

/// Those of [`SOCKETS`] that the jail would see.
pub fn sockets(config: &Config, entries: &[Entry]) -> Vec<PathBuf> {
    let is_dir = |path: &Path| {
        let stat = rustix::fs::lstat(path);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    };
    // With a link on the way it is only another name for one of the others.
    let there = |path: &PathBuf| path.ancestors().all(is_dir) && !is_own(config, entries, path);
    SOCKETS.iter().map(PathBuf::from).filter(there).collect()
}
