//! How a session ended, and how a process that waited for it ends in the same way.

use std::time::Duration;

use rustix::io::Errno;
use rustix::process::WaitStatus;

use super::process;
use crate::error::{What as _, complain};
use crate::sys;

/// How long nssh waits for the end of a shell that was hung up.
pub const HANG_UP: Duration = Duration::from_secs(1);

/// How a session ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// With this status.
    Exit(u8),
    /// By this signal.
    Signal(i32),
    /// It could not be run, for this reason.
    NotRun(String, Errno),
    /// The jail went away under it.
    Gone,
}

impl End {
    /// How a child that ran a session for us ended.
    pub fn of(status: WaitStatus) -> Self {
        status
            .terminating_signal()
            .map_or_else(|| Self::Exit(process::status_number(status)), Self::Signal)
    }

    /// Ends this process as the session ended: dies of the same signal, or returns the status to exit with. Errors are
    /// printed under `name`.
    pub fn follow(self, name: &str) -> u8 {
        match self {
            Self::Exit(status) => status,
            Self::Signal(number) => {
                sys::die_of(number);
                u8::try_from(128 + number).unwrap_or(255)
            }
            Self::NotRun(program, errno) => {
                let error = Err::<(), _>(errno).what(|| format!("exec {program}")).err();
                complain(&error.map_or_else(String::new, |error| error.lines(name)));
                if errno == Errno::NOENT { 127 } else { 126 }
            }
            Self::Gone => {
                complain(&format!("{name}: the jail is gone\n"));
                137
            }
        }
    }
}
