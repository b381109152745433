//! `-batch`: one command per line of a file, all in one process. The file becomes standard input, so that a program
//! that a line starts reads on from where kak has read to, as with ip.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::options::Options;
use crate::error::{Error, Result, What as _, complain};
use crate::text::shown;

/// The most words that a line may have (ip's `MAX_ARGS`).
const WORDS: usize = 511;
/// How much is read at once.
const BLOCK: usize = 4096;

/// What became of a line.
pub enum Ended {
    /// Its status. If that is not 0, the batch goes on only with `-force`.
    Status(u8),
    /// The batch ends here, with this status.
    Over(u8),
}

/// Runs every line of a file; `-` is standard input.
pub fn run(
    options: &Options,
    file: &OsStr,
    act: impl Fn(&Options, Vec<OsString>) -> Ended,
) -> Result<u8> {
    if file != "-" {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let what = || format!("Cannot open file \"{}\" for reading", shown(file));
        let opened = rustix::fs::open(file, flags, Mode::empty()).what(what)?;
        rustix::stdio::dup2_stdin(&opened).what(what)?;
    }
    let mut lines = Lines::default();
    let mut result = 0;
    while let Some(line) = lines.next()? {
        let Some(words) = split(&line).map_err(|why| Error::text("", why))? else {
            continue;
        };
        match act(options, words) {
            Ended::Status(0) => {}
            Ended::Status(_) => {
                complain(&format!(
                    "Command failed {}:{}\n",
                    shown(file),
                    lines.number
                ));
                result = 1;
                if !options.force {
                    break;
                }
            }
            Ended::Over(status) => return Ok(status),
        }
    }
    Ok(result)
}

/// Standard input, line by line.
#[derive(Default)]
pub struct Lines {
    /// What was read and not used yet.
    pub rest: Vec<u8>,
    /// The last line's number.
    pub number: usize,
    /// Whether there is nothing more to read.
    pub over: bool,
}

impl Lines {
    /// The next line, joined with those that a backslash at its very end continues it with, and without comments. None,
    /// with a message, if a continuation line is missing.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(mut line) = self.physical()? else {
            return Ok(None);
        };
        while line.ends_with(b"\\\n") {
            line.truncate(line.len() - 2);
            let Some(more) = self.physical()? else {
                complain("Missing continuation line\n");
                return Ok(None);
            };
            line.extend(more);
        }
        Ok(Some(line))
    }

    /// The next line of the file, with its newline; where there is a comment it is cut off, and the newline with it.
    fn physical(&mut self) -> Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let found = self
                .rest
                .iter()
                .skip(searched)
                .position(|byte| *byte == b'\n');
            if let Some(end) = found {
                let tail = self.rest.split_off(searched + end + 1);
                let line = std::mem::replace(&mut self.rest, tail);
                self.number += 1;
                return Ok(Some(without_comment(line)));
            }
            searched = self.rest.len();
            if self.over {
                let line = std::mem::take(&mut self.rest);
                self.number += usize::from(!line.is_empty());
                return Ok((!line.is_empty()).then_some(without_comment(line)));
            }
            self.rest.reserve(BLOCK);
            match rustix::io::read(
                rustix::stdio::stdin(),
                rustix::buffer::spare_capacity(&mut self.rest),
            ) {
                Err(Errno::INTR) => {}
                other => self.over = other.what(|| "Cannot read the batch")? == 0,
            }
        }
    }
}

/// A line up to its comment.
fn without_comment(mut line: Vec<u8>) -> Vec<u8> {
    if let Some(comment) = line.iter().position(|byte| *byte == b'#') {
        line.truncate(comment);
    }
    line
}

/// The words of a line; none if it is blank. A word that begins with a quote ends at the next quote of the same kind.
pub fn split(line: &[u8]) -> Result<Option<Vec<OsString>>, &'static str> {
    let blank = |byte: &u8| b" \t\r\n".contains(byte);
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let start = rest
            .iter()
            .position(|byte| !blank(byte))
            .unwrap_or(rest.len());
        rest = rest.get(start..).unwrap_or_default();
        let word = match rest.first() {
            None => return Ok((!words.is_empty()).then_some(words)),
            Some(quote @ (b'\'' | b'"')) => {
                let inner = rest.get(1..).unwrap_or_default();
                let end = inner.iter().position(|byte| byte == quote);
                let end = end.ok_or("Unterminated quoted string")?;
                rest = inner.get(end + 1..).unwrap_or_default();
                inner.get(..end)
            }
            Some(_) => {
                let end = rest.iter().position(blank).unwrap_or(rest.len());
                let (word, more) = rest.split_at(end);
                rest = more;
                Some(word)
            }
        };
        if words.len() == WORDS {
            return Err("Too many arguments to command");
        }
        words.push(OsString::from_vec(word.unwrap_or_default().to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words() {
        let words = |line: &str| split(line.as_bytes());
        assert_eq!(words(" \t"), Ok(None));
        assert_eq!(
            words("add 'a b' \"c'd\" e\"f\r"),
            Ok(Some(vec![
                "add".into(),
                "a b".into(),
                "c'd".into(),
                "e\"f".into()
            ]))
        );
        assert_eq!(words("add ''"), Ok(Some(vec!["add".into(), "".into()])));
        assert_eq!(words("add 'a"), Err("Unterminated quoted string"));
        assert!(words(&"x ".repeat(511)).is_ok());
        assert!(words(&"x ".repeat(512)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes(line: Vec<u8>) {
            split(&line).ok();
        }
    }
}
