//! One line in a file that is somebody else's. It is appended by one write, and taken back by truncating the file where
//! that is possible: either is one system call, and keeps the file's owner, mode, attributes and hard links. Otherwise
//! the file is rewritten ([`rewrite`]).

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::account::NSSH;
use super::{Action, Machine, Seen};
use crate::error::{Result, What as _, Why};
use crate::file::rewrite::{beside, overwrite, recover, rewrite, write_all};
use crate::file::{lstat, read, real_path, remove};
use crate::text::quote;

/// The login shells of the machine.
pub const SHELLS: &str = "/etc/shells";

/// What the file was like before the line was put into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Was {
    /// There was no file.
    Absent,
    /// It was empty, or its last line had its newline.
    Whole,
    /// Its last line lacked its newline.
    Unterminated,
}

impl Was {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Absent, Self::Whole, Self::Unterminated];

    /// A word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Whole => "whole",
            Self::Unterminated => "unterminated",
        }
    }

    /// What a file is like.
    pub fn of(path: &Path) -> Result<Self> {
        let text = read(path)?;
        let last = text.last();
        if last.is_none() && real(path)?.is_none() {
            return Ok(Self::Absent);
        }
        Ok(match last {
            None | Some(b'\n') => Self::Whole,
            Some(_) => Self::Unterminated,
        })
    }
}

/// A line.
pub struct Line {
    /// The file.
    pub path: PathBuf,
    /// The line, without its newline.
    pub line: String,
    /// What the file was like without it.
    pub was: Was,
}

impl Line {
    /// nssh among the login shells (shells(5)).
    pub fn login_shell(was: Was) -> Self {
        Self {
            path: SHELLS.into(),
            line: NSSH.into(),
            was,
        }
    }

    /// Whether a text has the line.
    pub fn is_in(&self, text: &[u8]) -> bool {
        text.split(|byte| *byte == b'\n')
            .any(|line| line == self.line.as_bytes())
    }

    /// What apply adds at the end of the file.
    pub fn added(&self) -> Vec<u8> {
        let start = if self.was == Was::Unterminated {
            "\n"
        } else {
            ""
        };
        format!("{start}{}\n", self.line).into_bytes()
    }

    /// A text without the line: as it was before, if nothing was added after it, otherwise without the first such line.
    /// Any further one is somebody else's.
    pub fn without(&self, text: &[u8]) -> Vec<u8> {
        let is_line = |before: &&[u8]| {
            self.was == Was::Unterminated || matches!(before.last(), None | Some(b'\n'))
        };
        if let Some(before) = text.strip_suffix(self.added().as_slice()).filter(is_line) {
            return before.to_vec();
        }
        let mut ours = true;
        text.split_inclusive(|byte| *byte == b'\n')
            .filter(|line| {
                let is_it =
                    ours && line.strip_suffix(b"\n").unwrap_or(line) == self.line.as_bytes();
                ours &= !is_it;
                !is_it
            })
            .collect::<Vec<_>>()
            .concat()
    }
}

/// Gives a file this text, which is its old one without a line.
fn restore(path: &Path, old: &[u8], text: &[u8]) -> Result<(), Why> {
    let stat = fs::stat(path)?;
    // A file with several hard links would lose one if it were replaced.
    if old.starts_with(text) || stat.st_nlink > 1 {
        overwrite(path, text)?;
    } else {
        rewrite(path, text)?;
    }
    Ok(())
}

/// The file that a path leads to; none where it leads to none.
fn real(path: &Path) -> Result<Option<PathBuf>> {
    match real_path(path) {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some).what(|| format!("realpath {}", quote(path))),
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = if self.was == Was::Unterminated {
            "\\n"
        } else {
            ""
        };
        write!(
            f,
            "printf '{start}{}\\n' >>{}",
            self.line,
            quote(&self.path)
        )
    }
}

impl Action for Line {
    fn observe(&self, _: &mut Machine) -> Result<Seen> {
        let Some(path) = real(&self.path)? else {
            return Ok(Seen::Absent);
        };
        // Left by a process that was killed while it rewrote the file.
        if lstat(&beside(&path))?.is_some() {
            return Ok(Seen::Torn);
        }
        Ok(Seen::done(self.is_in(&read(&path)?)))
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        // One write in append mode: a line that somebody else adds at the same time is not lost.
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
        // Whatever umask the caller has: everybody may read what is made here.
        let umask = rustix::process::umask(Mode::WGRP | Mode::WOTH);
        let file = fs::open(&self.path, flags, Mode::from_raw_mode(0o644));
        rustix::process::umask(umask);
        let file = file.what(|| self.to_string())?;
        write_all(&file, &self.added()).what(|| self.to_string())
    }

    fn undo(&self, _: &mut Machine) -> Result<()> {
        let what = || format!("sed -i '\\,^{}$,d' {}", self.line, quote(&self.path));
        let Some(path) = real(&self.path)? else {
            return Ok(());
        };
        recover(&path)?;
        let text = read(&path)?;
        if !self.is_in(&text) {
            return Ok(());
        }
        let rest = self.without(&text);
        if rest.is_empty() && self.was == Was::Absent {
            return remove(&path);
        }
        restore(&path, &text, &rest).what(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_as_it_came() {
        for (was, before) in [
            (Was::Whole, "/bin/sh\n"),
            (Was::Unterminated, "/bin/sh"),
            (Was::Absent, ""),
            (Was::Whole, "/bin/nssh2\n"),
        ] {
            let line = Line::login_shell(was);
            let mut text = before.as_bytes().to_vec();
            text.extend(line.added());
            assert_eq!(line.without(&text), before.as_bytes());
        }
        let without = |was, text: &[u8]| Line::login_shell(was).without(text);
        let later = b"/bin/sh\n/bin/nssh\n/bin/zsh\n";
        assert_eq!(without(Was::Unterminated, later), b"/bin/sh\n/bin/zsh\n");
        let other = b"/bin/nssh2\n# /bin/nssh\n";
        assert_eq!(without(Was::Whole, other), other);
        // A line like ours that somebody adds after ours, or before it, stays.
        let twice = b"/bin/nssh\n/bin/zsh\n/bin/nssh\n";
        assert_eq!(without(Was::Whole, twice), b"/bin/nssh\n/bin/zsh\n");
        let twice = b"/bin/nssh\n/bin/zsh\n/bin/nssh\n/bin/fish\n";
        assert_eq!(
            without(Was::Whole, twice),
            b"/bin/zsh\n/bin/nssh\n/bin/fish\n"
        );
    }
}
