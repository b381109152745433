//! The outer resolv.conf, which the jail's is a copy of: when it becomes another, so does the jail's, in place, since a
//! mount shows the file that it was made of. A file that somebody else has written since is his.

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

/// How long to wait for somebody who makes or ends a jail just now.
const WAIT: Duration = Duration::from_millis(50);

/// The outer resolv.conf, followed.
pub struct Outer {
    /// The jail.
    jail: String,
    /// What it has now.
    text: Vec<u8>,
    /// Tells that it may be another.
    watch: Watch,
    /// When to look again without news.
    pub again: Option<Instant>,
}

/// What came of a look.
pub enum Look {
    /// Nothing is new, or not yet.
    Same,
    /// The jail's resolvers become others.
    Change(Box<Change>),
    /// The jail's are somebody's own now, or it is gone.
    Over,
}

/// Resolvers that the jail does not have yet, and the right to give it them.
pub struct Change {
    /// What it gets.
    pub text: Vec<u8>,
    /// Its record, which will say so.
    record: Record,
    /// Nobody else makes or ends a jail meanwhile.
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

    /// What to poll, and for what.
    pub fn fds(&self) -> impl Iterator<Item = (&OwnedFd, PollFlags)> {
        self.watch.fds()
    }

    /// Looks at what there is now.
    pub fn look(&mut self) -> Look {
        self.watch.take();
        self.watch.follow([Path::new(OUTER)], true);
        self.again = None;
        let text = file::read(Path::new(OUTER)).unwrap_or_default();
        // One that is gone, or is just being written, says nothing.
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
    /// Makes it. The record knows both texts, so whenever this is interrupted the file is known to be ours.
    pub fn make(&self) -> Result<()> {
        self.record.write()?;
        own_resolvers(&self.record).map_or(Ok(()), |own| own.overwrite())
    }
}
