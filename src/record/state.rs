//! Whose word a jail's state is. What others could have written, or put there, is not read: teardown would take back
//! what they name, and nssh would lead to whom they say.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::{DIR, dir};
use crate::error::{Error, Result};
use crate::file::check_roots;

/// More than any record has: the mounts and the names of a large machine are a thousandth of that.
const LARGEST: i64 = 16 << 20;

/// That the directory of all jails is root's alone.
pub fn check_all() -> Result<()> {
    check_roots(Path::new(DIR), FileType::Directory).map(drop)
}

/// The state of a jail, which may have none, and which is root's alone to write.
pub struct State {
    /// The jail.
    pub jail: String,
    /// Where it is.
    dir: PathBuf,
}

impl State {
    /// Looks at it from the top down, so that what has been seen stays what it is.
    pub fn of(jail: &str) -> Result<Self> {
        check_all()?;
        let state = Self {
            jail: jail.into(),
            dir: dir(jail),
        };
        check_roots(&state.dir, FileType::Directory)?;
        for name in ["record", "lock", "log"] {
            let path = state.path(name);
            let file = check_roots(&path, FileType::RegularFile)?;
            if name == "record" && file.is_some_and(|file| file.st_size > LARGEST) {
                return Err(Error::text(
                    format!("cat {}", path.display()),
                    "is too large for a record",
                ));
            }
        }
        Ok(state)
    }

    /// A file of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}
