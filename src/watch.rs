//! Reports, by inotify and the mount table and without polling, when what a path leads to may have changed: any name on
//! the way, through links too, or a mount. What has changed, if anything, is for the caller to find out.

pub mod kept;

use std::ffi::OsString;
use std::mem::take;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::event::PollFlags;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};

use crate::file::names;

/// The mount table of whoever reads it; poll(2) reports when it has changed (proc_pid_mountinfo(5)).
pub const TABLE: &str = "/proc/self/mountinfo";
/// As many links as the kernel follows in one lookup (path_resolution(7)).
const LINKS: u32 = 40;

/// What reports changes.
pub struct Watch {
    /// For names (inotify); none if this user has as many instances as he may have (inotify(7)).
    names: Option<OwnedFd>,
    /// For mounts.
    mounts: Option<OwnedFd>,
    /// The directories and files that `names` watches, by its own numbers.
    watched: Vec<i32>,
}

impl Watch {
    /// One that watches only mounts so far.
    pub fn new() -> Self {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Self {
            names: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok(),
            mounts: rustix::fs::open(TABLE, flags, Mode::empty()).ok(),
            watched: Vec::new(),
        }
    }

    /// Whether it can watch names.
    pub fn hears_names(&self) -> bool {
        self.names.is_some()
    }

    /// What to poll, and for which events.
    pub fn fds(&self) -> impl Iterator<Item = (&OwnedFd, PollFlags)> {
        let names = self.names.iter().map(|fd| (fd, PollFlags::IN));
        let mounts = self.mounts.iter().map(|fd| (fd, PollFlags::PRI));
        names.chain(mounts)
    }

    /// Reads what has been reported, so that only later changes are reported again.
    pub fn take(&self) {
        let mut events = [0; 4096];
        if let Some(names) = &self.names {
            while rustix::io::read(names, &mut events).is_ok() {}
        }
    }

    /// From now on watches the ways that these paths lead now; with `content` also what is written into the files at
    /// their ends. Whatever changes later is reported.
    pub fn follow<'a>(&mut self, paths: impl IntoIterator<Item = &'a Path>, content: bool) {
        let before = take(&mut self.watched);
        for path in paths {
            self.walk(path);
            if content {
                self.add(path, WatchFlags::CLOSE_WRITE);
            }
        }
        for old in before.iter().filter(|old| !self.watched.contains(old)) {
            if let Some(names) = &self.names {
                // An error if it is gone already.
                inotify::remove_watch(names, *old).ok();
            }
        }
    }

    /// Watches each directory in which the kernel looks for a name on the way, before that name is looked at here.
    fn walk(&mut self, path: &Path) {
        let mut links = 0;
        let mut here = PathBuf::from("/");
        let mut rest: Vec<OsString> = names(path);
        while let Some(name) = rest.pop() {
            if name == ".." {
                here.pop();
                continue;
            }
            let news = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
            self.add(&here, news);
            match rustix::fs::readlink(here.join(&name), Vec::new()) {
                Ok(target) if links < LINKS => {
                    links += 1;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        here = "/".into();
                    }
                    rest.extend(names(&target));
                }
                _ => here.push(name),
            }
        }
    }

    /// Watches one thing. If it does not exist, the watch on its directory reports when it does.
    fn add(&mut self, path: &Path, news: WatchFlags) {
        if let Some(names) = &self.names
            && let Ok(number) = inotify::add_watch(names, path, news)
            && !self.watched.contains(&number)
        {
            self.watched.push(number);
        }
    }
}
