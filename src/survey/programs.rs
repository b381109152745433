//! The files that kak is run from: this program, and set-user-ID copies of it for other users.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use crate::error::{Result, What as _};
use crate::facts::{Entry, Kind, PROGRAM_DIRS};
use crate::file;
use crate::sys;
use crate::text::quote;

/// Set-user-ID.
const USER: u32 = 0o4000;

/// The set-user-ID files named nssh, each once.
pub fn copies() -> Result<Vec<(PathBuf, Stat)>> {
    let mut found: Vec<(PathBuf, Stat)> = Vec::new();
    for dir in PROGRAM_DIRS {
        let path = Path::new(dir).join("nssh");
        let Some(stat) = file::lstat(&path)? else {
            continue;
        };
        let is_one = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_mode & USER != 0;
        let known = |other: &(PathBuf, Stat)| {
            (other.1.st_dev, other.1.st_ino) == (stat.st_dev, stat.st_ino)
        };
        if is_one && !found.iter().any(known) {
            found.push((path, stat));
        }
    }
    Ok(found)
}

/// The copies and this very program, as far as a jail with these top-level names sees them. None where the kernel
/// cannot make mounts read-only.
pub fn visible(entries: &[Entry]) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    if !sys::can_make_read_only() {
        return Ok(found);
    }
    let copies = copies()?.into_iter().map(|(path, _)| path);
    for path in copies.chain([PathBuf::from("/proc/self/exe")]) {
        let path = file::real_path(&path).what(|| format!("realpath {}", quote(&path)))?;
        let top = path.iter().nth(1);
        let is_seen = |entry: &Entry| entry.kind == Kind::Dir && top == Some(&entry.name);
        // A file that was deleted has no path.
        let is_there = file::lstat(&path)?.is_some();
        if is_there && entries.iter().any(is_seen) && !found.contains(&path) {
            found.push(path);
        }
    }
    Ok(found)
}
