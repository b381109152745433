//! Where a jail's root is put together, and the checks that nobody else uses or controls that place.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::config::Config;
use crate::error::{Error, Result, What as _};
use crate::file::{self, Astray};
use crate::record::Record;
use crate::text::quote;

/// The place as a path without links; an error where it is unsuitable.
pub fn root(config: &Config, others: &[Record]) -> Result<PathBuf> {
    let what = || format!("--root {}", quote(&config.root));
    let root = real(&config.root, what)?;
    file::check_ours(&root).map_err(|error| error.context(what()))?;
    // Of two nested roots, one jail would take the other's mount points for its own directories, and remove them.
    let is_in_the_way = |other: &&Record| {
        let there = &other.facts.root;
        !other.config.bare && (root.starts_with(there) || there.starts_with(&root))
    };
    match others.iter().find(is_in_the_way) {
        None => Ok(root),
        Some(other) => Err(Error::cure(
            what(),
            format!(
                "the jail {} has its root at {}",
                other.config.jail,
                quote(&other.facts.root)
            ),
            "choose another place with --root",
        )),
    }
}

/// A path without links; what is not there yet of it will not be a link. It is refused where anybody but root can write
/// on the way, or has put a link there, and so could have root make and mount things where he likes.
fn real(path: &Path, what: impl Fn() -> String) -> Result<PathBuf> {
    for there in path.ancestors() {
        match file::roots_path(there, there == path) {
            Ok(real) => {
                let rest = path.strip_prefix(there).unwrap_or(path);
                return Ok(real.components().chain(rest.components()).collect());
            }
            Err(Astray::Foreign(there, why)) => {
                return Err(Error::cure(
                    what(),
                    format!("{} {why}, who could put something else there", quote(there)),
                    "choose a --root that only root can write to, as well as the directories on the way to it",
                ));
            }
            Err(Astray::Errno(Errno::NOENT | Errno::NOTDIR)) => {
                let is_link = |stat: rustix::fs::Stat| {
                    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
                };
                if file::lstat(there)?.is_some_and(is_link) {
                    return Err(Error::cure(
                        what(),
                        format!("{} is a dangling link", quote(there)),
                        "make its target, or choose another place with --root",
                    ));
                }
            }
            Err(Astray::Errno(why)) => return Err(why).what(what),
        }
    }
    Ok(path.to_owned())
}
