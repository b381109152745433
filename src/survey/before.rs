//! What an earlier life of a jail has left on the machine, and what the machine would look like without it: a jail that
//! comes up again is made from what is there now, but not from what it has made itself.

use std::fmt::Display;
use std::path::Path;

use super::resolvers;
use crate::error::Result;
use crate::facts::Entry;
use crate::facts::resolvers::OUTER;
use crate::file;
use crate::record::Record;
use crate::step::file::{Dir, File};
use crate::step::line::{Line, Was};

/// An earlier life whose traces may still be there.
pub struct Before<'a> {
    /// Its record.
    pub record: &'a Record,
    /// The steps that the jail has made itself, as text.
    pub own: Vec<String>,
}

impl Before<'_> {
    /// Whether the jail has made a step itself.
    fn made(&self, step: &impl Display) -> bool {
        self.own.contains(&step.to_string())
    }

    /// Whether a top-level directory is only there for the jail's root below it.
    pub fn made_for(&self, root: &Path, entry: &Entry) -> bool {
        let path = Path::new("/").join(&entry.name);
        root.starts_with(&path) && self.made(&Dir { path, mode: 0o755 })
    }

    /// Whether /etc/resolv.conf is there only as a mount point.
    pub fn made_resolv(&self) -> Result<bool> {
        let is_empty = resolvers::outer_text()?.is_empty();
        Ok(is_empty && self.made(&File::mount_point(OUTER.into())))
    }

    /// What /etc/shells was like before the jail's line, if that is in it.
    pub fn shells(&self) -> Result<Option<Was>> {
        let was = self.record.facts.shells;
        let line = Line::login_shell(was);
        let is_ours = self.made(&line) && line.is_in(&file::read(&line.path)?);
        Ok(is_ours.then_some(was))
    }
}
