//! Errors: what was attempted, as a shell command, and why it did not work, in the kernel's words.
//!
//! This is the only error type of the program, and no catalogue of call sites: callers never branch on a message, only
//! on the errno, which is kept. The [`Why`] of a failed call becomes an [`Error`] by [`What::what`].

use std::fmt;

use rustix::io::Errno;

use crate::text;

/// The hint where a mount or a namespace is refused.
const SYS_ADMIN: &str = "needs CAP_SYS_ADMIN in the user namespace that it belongs to: run as root; \
    in Docker use --privileged, or --cap-add SYS_ADMIN";
/// The hint where a change of a network is refused.
const NET_ADMIN: &str = "needs CAP_NET_ADMIN in the user namespace that the network belongs to: run as root; \
    in Docker use --privileged or --cap-add NET_ADMIN";
/// The hint where the state of jails cannot be read.
const JAILS: &str = "what kak knows of jails is for root alone: run as root";

/// The program's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Something that was attempted and the reason why it did not work. One pointer wide: every result has room for it.
#[derive(Debug)]
pub struct Error(Box<Failure>);

/// What is in an [`Error`].
#[derive(Debug)]
struct Failure {
    /// What was attempted, normally a shell command that does the same. Empty where `why` says it all.
    what: String,
    /// Why it did not work.
    why: Why,
    /// The exit status, where it is not the one that belongs to the reason.
    status: Option<u8>,
}

/// The reason of an [`Error`].
#[derive(Debug)]
pub enum Why {
    /// The command line is wrong; exit status 2.
    Usage(String),
    /// No error: the applet's help is asked for.
    Help,
    /// Another process of ours has reported it already; this is its exit status.
    Told(u8),
    /// A system call was refused.
    Os(Errno),
    /// A netlink request was refused; the text is the kernel's extended ack, or empty.
    Kernel(Errno, String),
    /// Our own reason.
    Text(String),
    /// Our own reason, and what to do about it.
    Cure(String, String),
    /// Several things went wrong, each reported on a line of its own.
    Many(Vec<Error>),
}

impl From<Errno> for Why {
    fn from(errno: Errno) -> Self {
        Self::Os(errno)
    }
}

impl From<std::io::Error> for Why {
    fn from(error: std::io::Error) -> Self {
        Errno::from_io_error(&error).map_or_else(|| Self::Text(error.to_string()), Self::Os)
    }
}

impl From<lexopt::Error> for Why {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Self {
        Self::new(String::new(), error.into())
    }
}

/// Names what was attempted.
pub trait What<T> {
    /// Turns a bare reason into an [`Error`]; `what` is only made when it is needed.
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, W: Into<Why>> What<T> for std::result::Result<T, W> {
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|why| Error::new(what().into(), why.into()))
    }
}

impl Error {
    /// An attempt and a reason. Out of line: it is called from everywhere and seldom.
    #[cold]
    #[inline(never)]
    fn new(what: String, why: Why) -> Self {
        Self(Box::new(Failure {
            what,
            why,
            status: None,
        }))
    }

    /// A wrong command line: exit status 2.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(String::new(), Why::Usage(text.into()))
    }

    /// The request for help, which ends an applet as an error does.
    pub fn help() -> Self {
        Self::new(String::new(), Why::Help)
    }

    /// Whether this is [`Error::help`].
    pub fn asks_help(&self) -> bool {
        matches!(self.0.why, Why::Help)
    }

    /// A reason of our own.
    pub fn text(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(what.into(), Why::Text(why.into()))
    }

    /// A reason of our own together with the cure.
    pub fn cure(what: impl Into<String>, why: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(what.into(), Why::Cure(why.into(), cure.into()))
    }

    /// The same error, reported as part of a larger attempt.
    pub fn context(self, what: impl Into<String>) -> Self {
        Self::new(what.into(), Why::Many(vec![self]))
    }

    /// An error that another process of ours has reported already, ending with this status.
    pub fn told(status: u8) -> Self {
        Self::new(String::new(), Why::Told(status))
    }

    /// The same error with another exit status than the one that belongs to its reason.
    pub fn with_status(mut self, status: u8) -> Self {
        self.0.status = Some(status);
        self
    }

    /// The same error with a cure that only the caller knows.
    pub fn with_cure(mut self, cure: impl Into<String>) -> Self {
        self.0.why = Why::Cure(self.0.why.to_string(), cure.into());
        self
    }

    /// Whether this is [`Error::told`].
    pub fn is_told(&self) -> bool {
        matches!(self.0.why, Why::Told(_))
    }

    /// This error and those that came with it.
    pub fn and(self, more: impl IntoIterator<Item = Self>) -> Self {
        let mut errors = vec![self];
        errors.extend(more);
        if errors.len() > 1 {
            Self::new(String::new(), Why::Many(errors))
        } else {
            errors.remove(0)
        }
    }

    /// `Ok` if nothing went wrong.
    pub fn all(errors: Vec<Self>) -> Result<()> {
        let mut errors = errors.into_iter();
        errors.next().map_or(Ok(()), |first| Err(first.and(errors)))
    }

    /// The error as text that [`Error::unpacked`] turns back into an error in another process: exit status, text and
    /// cure of each error that has a line of its own, each ended by a zero byte, which no word and no path contains.
    pub fn packed(&self) -> String {
        match &self.0.why {
            Why::Many(errors) if self.0.what.is_empty() => {
                errors.iter().map(Self::packed).collect()
            }
            _ => format!(
                "{}\0{self}\0{}\0",
                self.code(),
                self.hint().unwrap_or_default()
            ),
        }
    }

    /// See [`Error::packed`]. A text that was cut off gives what is left of it.
    pub fn unpacked(text: &str) -> Self {
        let mut fields = text.split('\0');
        let mut errors = Vec::new();
        while let (Some(status), Some(why)) = (fields.next(), fields.next()) {
            let error = match fields.next() {
                None | Some("") => Self::text("", why),
                Some(cure) => Self::cure("", why, cure),
            };
            errors.push(error.with_status(status.parse().unwrap_or(1)));
        }
        Self::all(errors)
            .err()
            .unwrap_or_else(|| Self::text("", text))
    }

    /// The sentence for an error number.
    pub fn reason(errno: Errno) -> String {
        sentence(errno)
    }

    /// The kernel's error number, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match &self.0.why {
            Why::Os(errno) | Why::Kernel(errno, _) => Some(*errno),
            Why::Many(errors) => errors.first()?.errno(),
            _ => None,
        }
    }

    /// The exit status of a program that ends with this error.
    pub fn code(&self) -> u8 {
        self.0.status.unwrap_or(match self.0.why {
            Why::Usage(_) => 2,
            Why::Told(status) => status,
            _ => 1,
        })
    }

    /// What to do about it, where the cause is known.
    fn hint(&self) -> Option<&str> {
        let errno = match &self.0.why {
            Why::Cure(_, cure) => return Some(cure),
            _ => self.errno()?,
        };
        let tool = self.0.what.split(' ').next().unwrap_or_default();
        let sub = |word: &str| self.0.what.contains(word);
        Some(match (tool, errno) {
            (
                "mount" | "umount" | "unshare" | "nsenter" | "pivot_root",
                Errno::PERM | Errno::ACCESS,
            ) => {
                "needs CAP_SYS_ADMIN and no security profile that forbids mounts: run as root; \
                 in Docker use --privileged, or --cap-add SYS_ADMIN --security-opt apparmor=unconfined"
            }
            ("ip", Errno::PERM) if sub("netns") => SYS_ADMIN,
            ("Cannot" | "Failed" | "Bind" | "setting", Errno::PERM)
            | ("\"mount", Errno::PERM | Errno::ACCESS) => SYS_ADMIN,
            ("ip" | "nft" | "RTNETLINK", Errno::PERM) => NET_ADMIN,
            (
                "nft",
                Errno::OPNOTSUPP
                | Errno::PROTONOSUPPORT
                | Errno::NOENT
                | Errno::AFNOSUPPORT
                | Errno::INVAL,
            ) => {
                "this kernel has no nf_tables NAT (nf_tables, nft_chain_nat, nft_masq); \
                 `kak setup --no-nat` does without it"
            }
            ("mkdir" | "printf" | "cat" | "ln", Errno::ROFS) => {
                "this file system is read-only: mount a tmpfs there, in Docker with --tmpfs"
            }
            ("lslocks", Errno::ACCESS) => JAILS,
            ("ls", Errno::ACCESS) if sub("/run/kak") => JAILS,
            ("mkdir" | "printf" | "cat" | "ln" | "flock", Errno::ACCESS | Errno::PERM) => {
                "run as root"
            }
            ("sysctl", Errno::ROFS) => {
                "/proc/sys is read-only: set it outside, or use docker run --privileged or --sysctl"
            }
            _ => return None,
        })
    }

    /// The lines that report this error, each with `prefix` (`kak: setup`) and a colon before it, if it is not empty.
    pub fn lines(&self, prefix: &str) -> String {
        use fmt::Write as _;
        if let Why::Many(errors) = &self.0.why
            && self.0.what.is_empty()
        {
            return errors.iter().map(|error| error.lines(prefix)).collect();
        }
        if matches!(self.0.why, Why::Told(_)) {
            return String::new();
        }
        // ip reports errors without its name, and so does its stand-in. The cure is kak's, and says so.
        let (prefix, ours) = match prefix {
            "" => (String::new(), "kak: netns"),
            _ => (format!("{prefix}: "), prefix),
        };
        let mut lines = format!("{prefix}{self}\n");
        if let Some(hint) = self.hint() {
            // Writing to a String cannot fail.
            writeln!(lines, "{ours}: {hint}").ok();
        }
        lines
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.what.is_empty() {
            // A step's command may contain a here-document, which is left out.
            let what = self.0.what.split(" <<'KAK'").next().unwrap_or_default();
            write!(f, "{what}: ")?;
        }
        self.0.why.fmt(f)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Text(text) | Self::Cure(text, _) => f.write_str(text),
            Self::Help => f.write_str("--help"),
            Self::Told(status) => write!(f, "exit status {status}"),
            Self::Os(errno) => f.write_str(&sentence(*errno)),
            Self::Kernel(errno, text) if text.is_empty() => f.write_str(&sentence(*errno)),
            Self::Kernel(errno, text) => write!(f, "{} ({text})", sentence(*errno)),
            Self::Many(errors) => {
                for (n, error) in errors.iter().enumerate() {
                    write!(f, "{}{error}", if n == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
        }
    }
}

/// The sentence for an errno that people and scripts know: the GNU C library's. musl has other words for some.
fn sentence(errno: Errno) -> String {
    let words = match errno {
        Errno::BUSY => "Device or resource busy",
        Errno::LOOP => "Too many levels of symbolic links",
        Errno::MFILE => "Too many open files",
        Errno::NAMETOOLONG => "File name too long",
        Errno::NOMEM => "Cannot allocate memory",
        Errno::IO => "Input/output error",
        Errno::OPNOTSUPP => "Operation not supported",
        Errno::XDEV => "Invalid cross-device link",
        Errno::NETUNREACH => "Network is unreachable",
        Errno::HOSTUNREACH => "No route to host",
        Errno::ADDRINUSE => "Address already in use",
        Errno::ADDRNOTAVAIL => "Cannot assign requested address",
        Errno::AGAIN => "Resource temporarily unavailable",
        Errno::TIMEDOUT => "Connection timed out",
        Errno::NOTTY => "Inappropriate ioctl for device",
        Errno::SPIPE => "Illegal seek",
        Errno::CHILD => "No child processes",
        Errno::DEADLK => "Resource deadlock avoided",
        Errno::RANGE => "Numerical result out of range",
        _ => {
            let text = std::io::Error::from(errno).to_string();
            // Rust appends the number.
            return text
                .split(" (os error")
                .next()
                .unwrap_or_default()
                .to_owned();
        }
    };
    words.to_owned()
}

/// Prints on standard error.
pub fn complain(text: &str) {
    use std::io::Write as _;
    std::io::stderr().write_all(&text::bytes(text)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_then_the_cure() {
        let error = Err::<(), _>(Errno::PERM)
            .what(|| "mount --rbind /etc /mnt/user/etc")
            .unwrap_err();
        let lines = error.lines("kak: setup");
        let mut lines = lines.lines();
        assert_eq!(
            lines.next(),
            Some("kak: setup: mount --rbind /etc /mnt/user/etc: Operation not permitted")
        );
        assert!(
            lines
                .next()
                .is_some_and(|cure| cure.contains("CAP_SYS_ADMIN"))
        );
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn it_is_the_same_in_another_process() {
        let refused = || {
            Err::<(), _>(Errno::PERM)
                .what(|| "nft add table ip kak")
                .unwrap_err()
        };
        let text = || Error::text("a\nb", "c").with_status(255);
        for error in [
            refused(),
            text(),
            text().and([refused(), Error::cure("d", "e", "f")]),
            text().context("g"),
        ] {
            let same = Error::unpacked(&error.packed());
            assert_eq!(same.lines("kak"), error.lines("kak"));
            assert_eq!(same.code(), error.code());
        }
        assert_eq!(Error::unpacked("1\0cut o").to_string(), "cut o");
    }

    #[test]
    fn the_extended_ack_is_told() {
        let why = Why::Kernel(Errno::NETUNREACH, "Nexthop has invalid gateway".into());
        let error = Err::<(), _>(why)
            .what(|| "ip route add default")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "ip route add default: Network is unreachable (Nexthop has invalid gateway)"
        );
    }
}
