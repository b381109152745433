//! What is in a directory. rustix's iterator clears its buffer byte by byte before each read, which is half of the
//! instructions of a short command; this one reads into the stack. It is here, and not with the functions for files,
//! because [`super::close_from`] lists its own descriptors where there is no close_range(2).

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Result;

/// The names in a directory without `.` and `..`, in the directory's order.
pub fn entries(path: impl AsRef<Path>) -> Result<Vec<OsString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    entries_of(rustix::fs::open(path.as_ref(), flags, Mode::empty())?)
}

/// The same for an open directory, from its offset on.
/// <https://man7.org/linux/man-pages/man2/getdents.2.html>
pub fn entries_of(dir: impl AsFd) -> Result<Vec<OsString>> {
    // A hundred names or at least one of the longest, and less than a page: more is touched page by page.
    let mut buffer = [MaybeUninit::uninit(); 3072];
    let mut entries = RawDir::new(dir.as_fd(), &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_are_there_once() {
        let dir = std::env::temp_dir().join(format!("kak-entries-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a directory");
        assert_eq!(entries(&dir), Ok(Vec::new()));
        // Of more than one look, with the longest that there can be.
        let made: Vec<OsString> = (0..300)
            .map(|n| {
                format!("{n:03}")
                    .repeat(if n % 9 == 0 { 85 } else { 1 })
                    .into()
            })
            .collect();
        for name in &made {
            std::fs::write(dir.join(name), "").expect("a file");
        }
        let found = entries(&dir);
        std::fs::remove_dir_all(&dir).expect("the directory goes");
        let mut found = found.expect("a listing");
        found.sort();
        assert_eq!(found, {
            let mut made = made;
            made.sort();
            made
        });
        assert_eq!(entries(&dir), Err(rustix::io::Errno::NOENT));
    }
}
