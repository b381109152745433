//! Whose word a jail's state is. What others could have written, or put there, is not read: teardown would take back
//! what they name, and nssh would lead to whom they say.

use std::path::Path;

use rustix::fs::FileType;

use super::{DIR, dir};
use crate::error::{Error, Result};
use crate::file::{check_roots, lstat};

/// More than any record has: the mounts and the names of a large machine are a thousandth of that.
const LARGEST: i64 = 16 << 20;

/// That the directory of all jails is root's alone.
pub fn check_all() -> Result<()> {
    check_roots(Path::new(DIR), FileType::Directory)
}

/// That a jail's state is: from the top down, so that what is checked stays what it is.
pub fn check(jail: &str) -> Result<()> {
    let state = dir(jail);
    check_all()?;
    check_roots(&state, FileType::Directory)?;
    for name in ["record", "lock", "log"] {
        check_roots(&state.join(name), FileType::RegularFile)?;
    }
    let record = state.join("record");
    match lstat(&record)? {
        Some(stat) if stat.st_size > LARGEST => Err(Error::text(
            format!("cat {}", record.display()),
            "is too large for a record",
        )),
        _ => Ok(()),
    }
}
