//! Accounts: one user's login shell, the last field of the user's /etc/passwd line. It is changed as shadow's tools do
//! it, under their locks ([`lock`]); how the line is found and what else stays is [`crate::passwd`]'s business.

mod lock;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::Access;

use super::{Action, Machine, Seen};
use crate::error::{Error, Result, What as _};
use crate::file;
use crate::file::rewrite::{beside, recover, rewrite};
use crate::passwd;
use crate::text::quote;

pub use lock::Lock;

/// The user database (passwd(5)).
pub const PASSWD: &str = "/etc/passwd";

/// The path under which nssh is a login shell.
pub const NSSH: &str = "/bin/nssh";

/// Whether accounts can be changed: the file itself, where it is a mount, and what is made beside it.
pub fn is_writable() -> Result<bool> {
    let writable = |path| file::may(Path::new(path), Access::WRITE_OK);
    Ok(writable("/etc")? && writable(PASSWD)?)
}

/// Removes what a process left that was killed while it changed accounts.
pub fn sweep() -> Result<()> {
    let path = Path::new(PASSWD);
    let left = lock::is_there()? || file::lstat(&beside(path))?.is_some();
    if left && is_writable()? {
        let _lock = Lock::take(&format!("rm {}", quote(beside(path))))?;
        recover(path)?;
    }
    Ok(())
}

/// Makes nssh a user's login shell. If the user no longer exists, the step counts as done.
pub struct LoginShell {
    /// The user's name.
    pub user: String,
    /// What his login shell was before.
    pub before: OsString,
}

impl LoginShell {
    /// Changes the login shell from `old` to `new`. If it is neither, `other` is called with it instead.
    fn change(
        &self,
        machine: &Machine,
        old: &[u8],
        new: &[u8],
        what: &str,
        other: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let _lock = match &machine.accounts {
            Some(_) => None,
            None => Some(Lock::take(what)?),
        };
        let path = Path::new(PASSWD);
        recover(path)?;
        let text = file::read(path)?;
        match passwd::shell(&text, &self.user) {
            // The user has gone.
            None => Ok(()),
            Some(now) if now == new => Ok(()),
            Some(now) if now != old => other(now),
            Some(_) => passwd::with_shell(&text, &self.user, new)
                .map_or(Ok(()), |text| rewrite(path, &text))
                .what(|| what),
        }
    }
}

impl fmt::Display for LoginShell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "usermod --shell {NSSH} {}", quote(&self.user))
    }
}

impl Action for LoginShell {
    fn observe(&self, _: &mut Machine) -> Result<Seen> {
        let text = file::read(Path::new(PASSWD))?;
        let shell = passwd::shell(&text, &self.user);
        Ok(Seen::done(
            shell.is_none_or(|shell| shell == NSSH.as_bytes()),
        ))
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        let what = self.to_string();
        self.change(
            machine,
            self.before.as_bytes(),
            NSSH.as_bytes(),
            &what,
            |now| {
                // Something that takes no locks has changed it. Restoring the recorded shell later would lose that.
                let now = quote(OsStr::from_bytes(now));
                let why = format!("the user's login shell has just become {now}");
                Err(Error::cure(&what, why, "try again"))
            },
        )
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        let (before, user) = (quote(&self.before), quote(&self.user));
        let what = format!("usermod --shell {before} {user}");
        // Another shell that the user has chosen meanwhile stays.
        self.change(
            machine,
            NSSH.as_bytes(),
            self.before.as_bytes(),
            &what,
            |_| Ok(()),
        )
    }

    /// Only kak makes nssh a login shell: where it is one already, the record of the jail that did so is lost.
    fn is_marked(&self) -> bool {
        true
    }
}
