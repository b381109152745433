//! Whether a jail's state can be trusted. What others than root could have written, or put there, is not read: teardown
//! would take back what they name, and nssh would lead where they choose.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::{DIR, dir};
use crate::error::{Error, Result};
use crate::file::check_roots;

/// More than any record has: the mounts and top-level names of a large machine take a thousandth of that.
const LARGEST: i64 = 16 << 20;

/// Checks that the directory of all jails is root's alone.
pub fn check_all() -> Result<()> {
    check_roots(Path::new(DIR), FileType::Directory).map(drop)
}

/// The state directory of a jail, which may be missing, and is checked to be root's alone to write.
pub struct State {
    /// The jail.
    pub jail: String,
    /// Where it is; none if it was missing: one that is made later has not been checked.
    dir: Option<PathBuf>,
}

impl State {
    /// Checks it from the top down, so that nobody else can change what has been checked.
    pub fn of(jail: &str) -> Result<Self> {
        let dir = dir(jail);
        let is_there = check_roots(Path::new(DIR), FileType::Directory)?.is_some()
            && check_roots(&dir, FileType::Directory)?.is_some();
        let state = Self {
            jail: jail.into(),
            dir: is_there.then_some(dir),
        };
        for path in ["record", "lock", "log"].map(|name| state.path(name)) {
            let Some(path) = path else { break };
            let file = check_roots(&path, FileType::RegularFile)?;
            if path.ends_with("record") && file.is_some_and(|file| file.st_size > LARGEST) {
                return Err(Error::text(
                    format!("cat {}", path.display()),
                    "is too large for a record",
                ));
            }
        }
        Ok(state)
    }

    /// The path of a file in it, which may be missing.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(name))
    }
}
