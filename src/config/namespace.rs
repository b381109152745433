//! The namespaces that a jail can have of its own besides those that every jail has, as words; and the form of a host
//! name, which belongs to one of them.

use std::ffi::OsStr;

use crate::error::{Error, Result};

/// A kind of namespace that a jail need not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Namespace {
    /// Host name.
    Uts,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// The root of the tree of control groups.
    Cgroup,
    /// How long the machine has been up.
    Time,
}

/// What every jail has anyway.
const ALWAYS: [&str; 3] = ["pid", "mnt", "net"];

impl Namespace {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Uts, Self::Ipc, Self::Cgroup, Self::Time];

    /// The kernel's word, in /proc/PID/ns.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uts => "uts",
            Self::Ipc => "ipc",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// Reads a list with commas. Each kind comes once, in the order of [`Self::ALL`], however often it is named.
    pub fn parse(list: &OsStr) -> Result<Vec<Self>> {
        let text = list.to_string_lossy();
        let is_known = |word: &&str| {
            ALWAYS.contains(word) || Self::ALL.iter().any(|kind| kind.name() == *word)
        };
        if let Some(word) = text.split(',').find(|word| !is_known(word)) {
            return Err(Error::usage(format!(
                "--unshare {list:?}: {word:?} is none of uts, ipc, cgroup, time (nor of pid, mnt, net, which a jail \
                 always has)"
            )));
        }
        let is_asked_for = |kind: &Self| text.split(',').any(|word| word == kind.name());
        Ok(Self::ALL.into_iter().filter(is_asked_for).collect())
    }

    /// Writes a list with commas.
    pub fn list(kinds: &[Self]) -> String {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        names.join(",")
    }
}

/// Checks a host name: parts of letters, digits and dashes, with dots between them, as hostname(1) takes it; as long as
/// the kernel has room for.
pub fn hostname(word: &OsStr) -> Result<String> {
    /// `__NEW_UTS_LEN`, linux/utsname.h.
    const ROOM: usize = 64;
    let part = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !part.is_empty()
            && part.bytes().all(plain)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    match word.to_str() {
        Some(name) if name.len() <= ROOM && name.split('.').all(part) => Ok(name.into()),
        _ => Err(Error::usage(format!(
            "--hostname {word:?}: must be 1 to {ROOM} of A-Za-z0-9.-, with no part empty, or beginning or ending with a dash"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let parse =
            |word: &str| Namespace::parse(OsStr::new(word)).map(|kinds| Namespace::list(&kinds));
        assert_eq!(parse("time,uts,time").unwrap(), "uts,time");
        assert_eq!(parse("cgroup,ipc").unwrap(), "ipc,cgroup");
        assert_eq!(parse("pid,uts,mnt,net").unwrap(), "uts");
        assert_eq!(parse("net").unwrap(), "");
        for bad in ["", ",", "uts,", "user", "UTS", "uts ipc", "uts, ipc"] {
            assert_eq!(parse(bad).unwrap_err().code(), 2, "{bad}");
        }
    }

    #[test]
    fn hostnames() {
        for good in ["a", "web-1", "web.example.org", "1", &"x".repeat(64)] {
            assert_eq!(hostname(OsStr::new(good)).unwrap(), good);
        }
        for bad in [
            "",
            "-a",
            "a-",
            ".a",
            "a.",
            "a..b",
            "a.-b",
            "a_b",
            "a b",
            "ä",
            "a\n",
            &"x".repeat(65),
        ] {
            assert_eq!(hostname(OsStr::new(bad)).unwrap_err().code(), 2, "{bad}");
        }
    }
}
