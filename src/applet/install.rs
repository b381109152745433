//! `kak --install`: links to this binary, and the one copy of it that may be set-user-ID.
//!
//! The bit sits on the inode, so a link to the multicall binary must never have it: every applet would have it too. The
//! copy is a file of its own named nssh: under any other name a set-user-ID kak does nothing ([`crate::jail::guest`]).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, FileType, Gid, Mode, OFlags, Stat, StatVfsMountFlags, Uid};
use rustix::io::Errno;

use crate::error::{Error, Result, What as _};
use crate::file;
use crate::text::quote;

/// A string that every kak contains, whatever its version. An ELF file that contains it is taken for a kak.
const MARK: &[u8] = b"kak: many names, one binary: 6b616b2d6e737368";

/// The name of the copy.
const NAME: &str = "nssh";

/// The copy's name until it is complete.
const UNFINISHED: &str = "nssh.kak-new";

/// The longest file in which [`MARK`] is looked for.
const LONGEST: i64 = 1 << 26;

/// `kak --install ...`: `words` is what comes after it, `names` are the links.
pub fn install(words: &[OsString], names: impl Iterator<Item = &'static str>) -> Result<()> {
    match words {
        [option, path] if option == "--setuid-nssh" => copy(Path::new(path)),
        [option, dir] if option == "-s" => link(true, Path::new(dir), names),
        [dir] if !dir.as_encoded_bytes().starts_with(b"-") => link(false, Path::new(dir), names),
        _ => Err(Error::usage(
            "--install takes one directory, or --setuid-nssh and a path: \
             kak --install [-s] DIR, kak --install --setuid-nssh PATH",
        )),
    }
}

/// This binary's path.
fn this() -> Result<PathBuf> {
    let me = fs::readlink("/proc/self/exe", Vec::new()).what(|| "readlink /proc/self/exe")?;
    Ok(OsString::from_vec(me.into_bytes()).into())
}

/// Makes a link to this binary for every applet. Where there is one already it is kept; any other file is left alone
/// and reported.
fn link(symbolic: bool, dir: &Path, names: impl Iterator<Item = &'static str>) -> Result<()> {
    let me = this()?;
    let my = fs::stat(&me).what(|| format!("stat {}", quote(&me)))?;
    let mut errors = Vec::new();
    for name in names {
        let link = dir.join(name);
        let made = if symbolic {
            fs::symlink(&me, &link)
        } else {
            fs::link(&me, &link)
        };
        let option = if symbolic { " -s" } else { "" };
        let text = || format!("ln{option} {} {}", me.display(), link.display());
        match made {
            Err(Errno::EXIST) => match fs::stat(&link) {
                Ok(there) if is_same(&there, &my) => {}
                _ => errors.push(Error::text(text(), FOREIGN)),
            },
            // The other links would fail, too.
            Err(Errno::XDEV) => {
                return Err(Error::cure(
                    text(),
                    "a hard link cannot point to another file system",
                    "use 'kak --install -s DIR' for symbolic links",
                ));
            }
            other => errors.extend(other.what(text).err()),
        }
    }
    Error::all(errors)
}

/// The error for a file that is not kak's.
const FOREIGN: &str = "a file that is not kak's is there already; it is left as it is";

/// Whether both are the same file.
fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Makes the set-user-ID copy, whole or not at all.
fn copy(path: &Path) -> Result<()> {
    if path.file_name() != Some(OsStr::new(NAME)) {
        return Err(Error::usage(format!(
            "--setuid-nssh {path:?}: the copy must be named nssh, which is the only name that it answers to"
        )));
    }
    let me = this()?;
    let (from, to) = (quote(&me), quote(path));
    let what = || format!("install -o root -g root -m 4755 {from} {to}");
    if !rustix::process::geteuid().is_root() {
        return Err(Error::cure(what(), "only root can", "run as root"));
    }
    let dir = place(path).map_err(|error| error.context(what()))?;
    let path = dir.join(NAME);
    if !may_go(&path).map_err(|error| error.context(what()))? {
        return Err(Error::text(what(), FOREIGN));
    }
    let text = file::read(Path::new("/proc/self/exe"))?;
    let new = dir.join(UNFINISHED);
    let written = write(&new, &text).and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        fs::unlink(&new).ok();
    }
    written.and_then(|()| sync(&dir)).what(what)
}

/// The directory that the copy goes into. Only root may be able to write to it or to replace it, so that from here on
/// it stays what it is; and the set-user-ID bit must have an effect there.
fn place(path: &Path) -> Result<PathBuf> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    // A path with a slash at its end is found only if it is a directory.
    let dir = file::real_path(&dir.join("")).what(|| format!("realpath {}", quote(dir)))?;
    for above in dir.ancestors() {
        let stat = fs::lstat(above).what(|| format!("stat {}", quote(above)))?;
        // In a sticky directory only the owner can replace an entry, but others can add some: fine above `dir` only.
        let sticky = stat.st_mode & 0o1000 != 0 && above != dir;
        if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 && !sticky {
            let (mode, user) = (stat.st_mode & 0o7777, stat.st_uid);
            return Err(Error::text(
                quote(above),
                format!(
                    "is not root's alone (mode {mode:o}, user {user}): others could put something else there"
                ),
            ));
        }
    }
    let about = fs::statvfs(&dir).what(|| format!("stat -f {}", quote(&dir)))?;
    if about.f_flag.contains(StatVfsMountFlags::NOSUID) {
        return Err(Error::text(
            quote(&dir),
            "is mounted nosuid: the set-user-ID bit would have no effect there",
        ));
    }
    Ok(dir)
}

/// Whether what is at `path` may be replaced: nothing, a link to this binary, or a copy of root's of any version of
/// kak, recognised by [`MARK`].
fn may_go(path: &Path) -> Result<bool> {
    let Some(there) = file::lstat(path)? else {
        return Ok(true);
    };
    if let (Ok(leads_to), Ok(my)) = (fs::stat(path), fs::stat("/proc/self/exe"))
        && is_same(&leads_to, &my)
    {
        return Ok(true);
    }
    let regular = FileType::from_raw_mode(there.st_mode) == FileType::RegularFile;
    if !regular || there.st_uid != 0 || there.st_size > LONGEST {
        return Ok(false);
    }
    let text = file::read(path)?;
    // Hidden from the optimiser, which would split it up: this binary has to contain it in one piece.
    let mark = std::hint::black_box(MARK);
    Ok(text.starts_with(b"\x7fELF") && text.windows(mark.len()).any(|part| part == mark))
}

/// Writes the copy under its unfinished name; the bit comes last, when every byte is there.
fn write(path: &Path, mut text: &[u8]) -> rustix::io::Result<()> {
    match fs::unlink(path) {
        Err(Errno::NOENT) => {}
        // Removes what a killed process has left.
        other => other?,
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = fs::open(path, flags, Mode::from_raw_mode(0o600))?;
    while !text.is_empty() {
        let written = rustix::io::write(&new, text)?;
        text = text.get(written..).unwrap_or_default();
    }
    // A set-group-ID directory gives its group to new files; and chown(2) clears the bit, so it comes first.
    fs::fchown(&new, Some(Uid::ROOT), Some(Gid::ROOT))?;
    fs::fchmod(&new, Mode::from_raw_mode(0o4755))?;
    fs::fsync(&new)
}

/// Makes a rename in a directory survive a crash (fsync(2)).
fn sync(dir: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::fsync(fs::open(dir, flags, Mode::empty())?)
}

/// The warning for this binary itself having a bit that only the copy should have.
pub fn misplaced_bit() -> Option<String> {
    let bits = fs::stat("/proc/self/exe").ok()?.st_mode & 0o6000;
    let me = this().ok()?;
    let misplaced = bits != 0 && me.file_name() != Some(OsStr::new(NAME));
    misplaced.then(|| {
        format!(
            "{0} has the set-user-ID or the set-group-ID bit, and so refuses users other than root: `chmod ug-s {0}`; \
             'kak --install --setuid-nssh PATH' makes the copy that is meant to have it",
            quote(&me)
        )
    })
}
