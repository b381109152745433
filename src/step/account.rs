//! Accounts: one user's login shell, the last field of his line in /etc/passwd. It is changed as shadow's tools do it,
//! under their locks ([`lock`]); how the line is found and what else stays is [`crate::passwd`]'s business.

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

/// Where users stand.
pub const PASSWD: &str = "/etc/passwd";

/// The path under which nssh is a login shell.
pub const NSSH: &str = "/bin/nssh";

/// Whether accounts can be changed: the file itself, where it is a mount, and what is made beside it.
pub fn is_writable() -> Result<bool> {
    let writable = |path| file::may(Path::new(path), Access::WRITE_OK);
    Ok(writable("/etc")? && writable(PASSWD)?)
}

/// Takes away what somebody left who was killed while he changed accounts.
pub fn sweep() -> Result<()> {
    let path = Path::new(PASSWD);
    let left = lock::is_there()? || file::lstat(&beside(path))?.is_some();
    if left && is_writable()? {
        let _lock = Lock::take(&format!("rm {}", quote(beside(path))))?;
        recover(path)?;
    }
    Ok(())
}

/// nssh is a user's login shell. A user who has gone meanwhile has no other, so for him it is done.
pub struct LoginShell {
    /// The user's name.
    pub user: String,
    /// What his login shell was before.
    pub before: OsString,
}

impl LoginShell {
    /// Makes the login shell `new`. Where it is neither that nor `old`, `other` says what becomes of that.
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
                // By somebody who knows no locks. Restoring what is written down would lose it.
                let now = quote(OsStr::from_bytes(now));
                let why = format!("his login shell has just become {now}");
                Err(Error::cure(&what, why, "try again"))
            },
        )
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        let (before, user) = (quote(&self.before), quote(&self.user));
        let what = format!("usermod --shell {before} {user}");
        // What he has chosen meanwhile is his.
        self.change(
            machine,
            NSSH.as_bytes(),
            self.before.as_bytes(),
            &what,
            |_| Ok(()),
        )
    }

    /// Nobody else makes it one: where it is one already, the record of who did that is lost.
    fn is_marked(&self) -> bool {
        true
    }
}
