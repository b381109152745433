//! The outer resolv.conf, of which the jail's is a copy: when it changes, so does the jail's, in place, since a mount
//! keeps showing the file that it was made of. A copy that somebody else has written to since is left alone.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::error::Result;
use crate::facts::resolvers::OUTER;
use crate::file;
use crate::jail::Lock;
use crate::plan::{follows, own_resolvers};
use crate::record::Record;
use crate::watch::Watch;

/// How long to wait for a process that makes or ends a jail just now.
const WAIT: Duration = Duration::from_millis(50);

/// The outer resolv.conf, followed.
pub struct Outer {
    /// The jail.
    jail: String,
    /// What the jail has now.
    text: Vec<u8>,
    /// Reports that it may have changed.
    watch: Watch,
    /// When to look again without news.
    pub again: Option<Instant>,
}

/// What came of a look.
pub enum Look {
    /// Nothing is new, or not yet.
    Same,
    /// The jail's resolvers have to change.
    Change(Box<Change>),
    /// The jail's file is somebody else's now, or the jail is gone.
    Over,
}

/// New resolvers for the jail, and the right to give it them.
pub struct Change {
    /// The new text.
    pub text: Vec<u8>,
    /// The jail's record, which says so already.
    record: Record,
    /// So that nobody else makes or ends a jail meanwhile.
    _lock: Lock,
}

impl Outer {
    /// Follows it for a jail that has this text now.
    pub fn new(jail: &str, text: Vec<u8>) -> Self {
        Self {
            jail: jail.into(),
            text,
            watch: Watch::new(),
            again: Some(Instant::now()),
        }
    }

    /// What to poll, and for which events.
    pub fn fds(&self) -> impl Iterator<Item = (&OwnedFd, PollFlags)> {
        self.watch.fds()
    }

    /// Looks at what there is now.
    pub fn look(&mut self) -> Look {
        self.watch.take();
        self.watch.follow([Path::new(OUTER)], true);
        self.again = None;
        let text = file::read(Path::new(OUTER)).unwrap_or_default();
        // A file that is gone, or is just being written, says nothing.
        if text.is_empty() || text == self.text {
            return Look::Same;
        }
        let record = || Record::read(&self.jail).ok().flatten();
        let Some(lock) = Lock::take_free() else {
            if record().is_none() {
                return Look::Over;
            }
            self.again = Some(Instant::now() + WAIT);
            return Look::Same;
        };
        let Some(mut record) = record().filter(follows) else {
            return Look::Over;
        };
        let ours = own_resolvers(&record)
            .and_then(|own| own.read().ok().filter(|there| own.is_ours(there)));
        let Some(there) = ours else {
            return Look::Over;
        };
        record.facts.resolvers_before = there;
        record.facts.resolvers.clone_from(&text);
        self.text.clone_from(&text);
        Look::Change(Box::new(Change {
            text,
            record,
            _lock: lock,
        }))
    }
}

impl Change {
    /// Makes the change. The record has both texts, so that whenever this is interrupted the file is known to be ours.
    pub fn make(&self) -> Result<()> {
        self.record.write()?;
        own_resolvers(&self.record).map_or(Ok(()), |own| own.overwrite())
    }
}
