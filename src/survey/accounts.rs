//! What /etc/passwd says of the users whose login shell is to be nssh. It changes nothing there; that is
//! [`crate::step::account`]'s business.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::FileType;

use super::{Before, is_program, shell as usual};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::file;
use crate::passwd;
use crate::record::Record;
use crate::step::account::{NSSH, PASSWD};
use crate::text::quote;

/// The users' login shells as they are; an error where one cannot be changed to nssh.
pub fn login_shells(
    config: &Config,
    others: &[Record],
    before: Option<&Before<'_>>,
) -> Result<Vec<OsString>> {
    if config.login_shells.is_empty() {
        return Ok(Vec::new());
    }
    let regular = file::lstat(Path::new(PASSWD))?
        .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    let text = if regular {
        file::read(Path::new(PASSWD))?
    } else {
        return Err(Error::text(PASSWD, "is not a regular file"));
    };
    let before = |user: &String| {
        let what = || format!("--login-shell {}", quote(user));
        let Some(shell) = passwd::shell(&text, user) else {
            // A user who has been deleted since the earlier life is no error.
            let gone = before.and_then(|before| known(user, [before.record].into_iter()));
            if let Some(gone) = gone {
                return Ok(gone);
            }
            let why = format!("there is no such user in {PASSWD}");
            return Err(Error::text(what(), why));
        };
        if !is_program(Path::new(NSSH))? {
            return Err(Error::cure(
                what(),
                format!("{NSSH} is not an executable file"),
                "'kak --install -s /bin' makes it one",
            ));
        }
        Ok(if shell == NSSH.as_bytes() {
            let records = before.map(|before| before.record);
            let known = known(user, records.into_iter().chain(others));
            known.map_or_else(|| usual(None).map(Into::into), Ok)?
        } else {
            OsString::from_vec(shell.to_vec())
        })
    };
    config.login_shells.iter().map(before).collect()
}

/// Whether any of these users has a login shell other than nssh, again or still.
pub fn have_others(config: &Config) -> Result<bool> {
    let text = file::read(Path::new(PASSWD))?;
    let other =
        |user: &String| passwd::shell(&text, user).is_some_and(|shell| shell != NSSH.as_bytes());
    Ok(config.login_shells.iter().any(other))
}

/// Updates the facts with shells that users have chosen themselves since theirs became nssh.
pub fn take_in_chosen(config: &Config, facts: &mut Facts) -> Result<()> {
    let text = file::read(Path::new(PASSWD))?;
    for (user, before) in config.login_shells.iter().zip(&mut facts.login_shells) {
        if let Some(now) = passwd::shell(&text, user)
            && now != NSSH.as_bytes()
        {
            *before = OsString::from_vec(now.to_vec());
        }
    }
    Ok(())
}

/// A user's earlier login shell, from the record of a jail that changed it.
fn known<'a>(user: &str, mut records: impl Iterator<Item = &'a Record>) -> Option<OsString> {
    records.find_map(|other| {
        let users = other.config.login_shells.iter();
        let (_, before) = users
            .zip(&other.facts.login_shells)
            .find(|(other, _)| *other == user)?;
        Some(before.clone())
    })
}
