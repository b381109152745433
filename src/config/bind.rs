//! `--bind SRC[:DST][:ro|:rw]`: something from outside that the jail sees at DST.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use super::absolute;
use crate::error::{Error, Result};

/// A bind that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bind {
    /// What is outside.
    pub source: PathBuf,
    /// Where it is inside.
    pub target: PathBuf,
    /// Whether the jail may only read it.
    pub read_only: bool,
}

impl Bind {
    /// Parses the option's value.
    pub fn parse(word: &OsStr) -> Result<Self> {
        let bytes = word.as_bytes();
        let (bytes, read_only) = match (bytes.strip_suffix(b":ro"), bytes.strip_suffix(b":rw")) {
            (Some(rest), _) => (rest, true),
            // The default; accepted, since container volumes may spell it out.
            (None, Some(rest)) => (rest, false),
            (None, None) => (bytes, false),
        };
        let mut parts = bytes.splitn(3, |byte| *byte == b':');
        let source = parts.next().unwrap_or_default();
        let target = parts.next().unwrap_or(source);
        // A mistyped mode must not become part of a name, and the bind writable.
        if parts.next().is_some() {
            return Err(Error::usage(format!(
                "--bind {word:?}: must be SRC[:DST][:ro|:rw], without a colon in a name"
            )));
        }
        let target = absolute("--bind", OsStr::from_bytes(target))?;
        if target.parent().is_none() {
            return Err(Error::usage(format!(
                "--bind {word:?}: nothing can be put over the jail's root"
            )));
        }
        Ok(Self {
            source: absolute("--bind", OsStr::from_bytes(source))?,
            target,
            read_only,
        })
    }

    /// The option's value again.
    pub fn to_word(&self) -> OsString {
        let mut word = self.source.clone().into_os_string().into_vec();
        word.push(b':');
        word.extend(self.target.as_os_str().as_bytes());
        if self.read_only {
            word.extend(b":ro");
        }
        OsString::from_vec(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn binds() {
        let bind = Bind::parse(OsStr::new("/a/./b:/c:ro")).unwrap();
        assert_eq!(
            (bind.source.to_str(), bind.target.to_str(), bind.read_only),
            (Some("/a/b"), Some("/c"), true)
        );
        assert_eq!(Bind::parse(&bind.to_word()).unwrap(), bind);
        assert_eq!(
            Bind::parse(OsStr::new("/a")).unwrap().target,
            Path::new("/a")
        );
        let bind = Bind::parse(OsStr::new("/a:/c:rw")).unwrap();
        assert_eq!((bind.target.to_str(), bind.read_only), (Some("/c"), false));
        for bad in [
            "a",
            "/a:b",
            "/a:/",
            "/a/../b",
            "",
            "/a:/b:RO",
            "/a:/b:c:ro",
            "/a:/b:/c",
            "/a:",
        ] {
            assert_eq!(Bind::parse(OsStr::new(bad)).unwrap_err().code(), 2, "{bad}");
        }
    }
}
