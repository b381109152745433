//! A switch of the kernel under /proc/sys.

use std::fmt;
use std::path::PathBuf;

use rustix::fs::{self, Mode, OFlags};

use super::{Action, Machine, Seen, file};
use crate::error::{Result, What as _};

/// A switch that is turned on, and off again.
pub struct Sysctl {
    /// Its name below /proc/sys.
    pub key: &'static str,
}

impl Sysctl {
    /// Its file.
    fn path(&self) -> PathBuf {
        PathBuf::from("/proc/sys").join(self.key)
    }

    /// Writes `0` or `1`.
    fn write(&self, value: &[u8]) -> rustix::io::Result<()> {
        let file = fs::open(self.path(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(file, value).map(drop)
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "echo 1 >/proc/sys/{}", self.key)
    }
}

impl Action for Sysctl {
    fn observe(&self, _: &mut Machine) -> Result<Seen> {
        Ok(Seen::done(file::read(&self.path())?.first() == Some(&b'1')))
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        self.write(b"1").what(|| self.to_string())
    }

    fn undo(&self, _: &mut Machine) -> Result<()> {
        self.write(b"0")
            .what(|| format!("echo 0 >/proc/sys/{}", self.key))
    }
}
