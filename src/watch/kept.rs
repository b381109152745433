//! Keeps mounts in place. When somebody replaces a file by rename, or a directory by another, the kernel detaches in
//! every mount namespace whatever is mounted on the old one (mount_namespaces(7)), and the path leads to the new one.
//! That cannot be prevented; but the kernel reports the new name at once, and the mount is made again over it. If the
//! source of a mount is replaced so, the mount still shows the old one; if wanted, it is made anew of the new one. Who
//! owns the files, and what is in them, does not matter here.
//!
//! In between the new file can be seen: for some ten microseconds, as long as it takes to wake up.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::Watch;

/// The first wait before a mount is tried again where names cannot be watched: the mount table reports that it went
/// just before the new file is in its place.
const FIRST_WAIT: Duration = Duration::from_millis(1);
/// The longest wait before it is tried again.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The device and the inode of a file.
type Identity = (u64, u64);

/// A mount of ours.
pub struct Place {
    /// Where it is, as the path by which everybody looks it up.
    path: PathBuf,
    /// What is mounted there; none for a cover, where anything will do, and nothing if the path does not exist.
    source: Option<PathBuf>,
    /// Whether it is made anew when its source is replaced.
    follows: bool,
    /// What the path leads to while the mount is in place.
    ours: Option<Identity>,
    /// Makes it; returns whether it could.
    make: Box<dyn Fn() -> bool>,
}

impl Place {
    /// A mount on `path` of what is at `source`, which `make` makes.
    pub fn new(path: &Path, source: &Path, make: impl Fn() -> bool + 'static) -> Self {
        Self {
            path: path.into(),
            source: Some(source.into()),
            follows: false,
            ours: identity(source),
            make: Box::new(make),
        }
    }

    /// The same mount, which is made anew when another file takes its source's place.
    pub fn following(self) -> Self {
        Self {
            follows: true,
            ..self
        }
    }

    /// A cover of `path`, which `make` makes. Whatever else is mounted there covers it as well.
    pub fn cover(path: &Path, make: impl Fn() -> bool + 'static) -> Self {
        Self {
            path: path.into(),
            source: None,
            follows: false,
            ours: None,
            make: Box::new(make),
        }
    }

    /// Whether it is in place.
    fn stands(&self) -> bool {
        if self.source.is_none() {
            return rustix::fs::lstat(&self.path).is_err() || is_mounted(&self.path);
        }
        match rustix::fs::stat(&self.path) {
            Ok(stat) => self.ours == Some((stat.st_dev, stat.st_ino)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => false,
            // A passing error does not mean that it has gone; made again over itself it would be there twice.
            Err(_) => true,
        }
    }

    /// Makes it if it is not in place, or is of what its source was before.
    fn mend(&mut self) {
        // Not of what is found there afterwards: that may be somebody else's again.
        let source = self.source.as_deref().and_then(identity);
        if source.is_some() && source != self.ours {
            if identity(&self.path) == source {
                // The source could not be looked at before, or was replaced just when the mount was made.
                self.ours = source;
                return;
            }
            if self.follows {
                self.let_go();
            }
        }
        if !self.stands() && (self.make)() {
            self.ours = source;
        }
    }

    /// Unmounts what is of the old source, unless the new one is of another type. That may be two mounts: one on a
    /// link, and then one on what the link leads to.
    fn let_go(&self) {
        let kind = |path| rustix::fs::stat(path).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let fits = self.source.as_deref().map(kind) == Some(kind(&self.path));
        while fits && identity(&self.path) == self.ours {
            if unmount(&self.path, UnmountFlags::DETACH).is_err() {
                return;
            }
        }
    }
}

/// Mounts of ours, and what reports that one may be gone.
pub struct Kept {
    /// Reports changes.
    watch: Watch,
    /// The mounts.
    places: Vec<Place>,
    /// When to try again without a report, and how long that wait is.
    again: Option<(Instant, Duration)>,
}

impl Kept {
    /// Keeps mounts that have been made. One that has gone since is made again.
    pub fn new(places: Vec<Place>) -> Self {
        let mut kept = Self {
            watch: Watch::new(),
            places,
            again: None,
        };
        kept.mend();
        kept
    }

    /// What to poll.
    pub fn fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let fds = self.watch.fds();
        fds.map(|(fd, flags)| PollFd::new(fd, flags))
    }

    /// How long to poll at most.
    pub fn limit(&self) -> Option<Timespec> {
        let (when, _) = self.again?;
        let rest = when.saturating_duration_since(Instant::now());
        Some(Timespec {
            tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: rest.subsec_nanos().into(),
        })
    }

    /// Makes what is gone, if something was reported (`told`) or a retry is due.
    pub fn look(&mut self, told: bool) {
        let due = self.again.is_some_and(|(when, _)| when <= Instant::now());
        if !told && !due {
            return;
        }
        let wait = match self.again {
            Some((_, wait)) if !told => (wait * 2).min(LAST_WAIT),
            _ => FIRST_WAIT,
        };
        self.watch.take();
        self.mend();
        let blind = !self.watch.hears_names() && !self.places.iter().all(Place::stands);
        self.again = blind.then(|| (Instant::now() + wait, wait));
    }

    /// Makes what is gone.
    fn mend(&mut self) {
        self.places.iter_mut().for_each(Place::mend);
        // The way there may be another now, and may have changed just before it was watched: so once more after that.
        let following = self.places.iter().filter(|place| place.follows);
        let sources = following.filter_map(|place| place.source.as_ref());
        let paths = self.places.iter().map(|place| &place.path).chain(sources);
        self.watch.follow(paths.map(PathBuf::as_path), false);
        self.places.iter_mut().for_each(Place::mend);
    }
}

/// What a path leads to, through links.
fn identity(path: &Path) -> Option<Identity> {
    let stat = rustix::fs::stat(path).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// Whether something is mounted at a path. True where the kernel does not say (before Linux 5.8, or a passing error).
pub fn is_mounted(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    let root = StatxAttributes::MOUNT_ROOT;
    let about = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    match about {
        Ok(about) => {
            about.stx_attributes.contains(root) || !about.stx_attributes_mask.contains(root)
        }
        Err(errno) => ![Errno::NOENT, Errno::NOTDIR].contains(&errno),
    }
}
