//! What on this machine would stop kak: a list of checks, each with its cure. It changes nothing. What can only be seen
//! by making something is made by a child in namespaces of its own, and is gone with the child.
//!
//! Theory of operation. The checks are grouped in rooms, which are gone through in order ([`ROOMS`]); each looks at the
//! [`Place`] and adds to the [`Report`]. What cannot be checked for want of a right is reported as such, once for each
//! check, and never guessed: a refusal by the kernel is a defect of the machine only if this process had the right.

pub mod files;
mod kernel;
mod names;
mod namespaces;
mod network;
pub mod rights;
mod setuid;
mod stale;
mod trial;

use std::path::Path;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

use crate::error::Error;
use crate::file;
use crate::jail::shell;
use crate::procfs::{self, Mount};

/// The result of a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// As it should be.
    Ok,
    /// kak works, but some part of it does not, or could not be checked.
    Warn,
    /// kak does not work.
    Fail,
}

impl State {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cure {
    /// Nothing: all is well.
    None,
    /// A command for a shell, after which the check passes.
    Run(String),
    /// Something else: an option of Docker's, a kernel.
    Say(String),
}

/// [`Cure::Say`].
fn say(text: &str) -> Cure {
    Cure::Say(text.into())
}

/// One check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Its name, for programs.
    pub name: &'static str,
    /// Its result.
    pub state: State,
    /// What was looked at.
    pub what: String,
    /// What was seen, as far as there is more to say.
    pub why: String,
    /// What to do about it.
    pub cure: Cure,
}

/// All checks, in order.
pub struct Report(pub Vec<Check>);

impl Report {
    /// Adds a check. Control characters become `?`: none acts on a terminal, and a line stays a line.
    #[inline(never)]
    fn add(&mut self, name: &'static str, state: State, what: &str, why: &str, cure: Cure) {
        let plain = |text: &str| text.replace(char::is_control, "?");
        let cure = match cure {
            Cure::Run(text) | Cure::Say(text) if text.contains(char::is_control) => {
                Cure::Say(plain(&text))
            }
            other => other,
        };
        self.0.push(Check {
            name,
            state,
            what: plain(what),
            why: plain(why),
            cure,
        });
    }

    /// All is well.
    fn ok(&mut self, name: &'static str, what: &str, why: &str) {
        self.add(name, State::Ok, what, why, Cure::None);
    }

    /// Something of kak does not work.
    fn warn(&mut self, name: &'static str, what: &str, why: &str, cure: Cure) {
        self.add(name, State::Warn, what, why, cure);
    }

    /// kak does not work.
    fn fail(&mut self, name: &'static str, what: &str, why: &str, cure: Cure) {
        self.add(name, State::Fail, what, why, cure);
    }

    /// Something could not be checked without this capability.
    fn unchecked(&mut self, name: &'static str, what: &str, capability: &str) {
        let why = format!("not checked: that takes CAP_{capability}");
        let cure = format!("run as root; in Docker use --cap-add {capability}");
        self.warn(name, what, &why, Cure::Say(cure));
    }

    /// Whether any check has failed.
    pub fn has_failed(&self) -> bool {
        self.0.iter().any(|check| check.state == State::Fail)
    }
}

/// What the checks have in common: facts of this process and its machine.
pub struct Place {
    /// The kernel's version, as far as it counts.
    version: (u32, u32),
    /// The capabilities of this process.
    have: CapabilitySet,
    /// A seccomp filter is on, and may refuse any system call.
    filtered: bool,
    /// This is the inside of a jail.
    inside: bool,
    /// The mounts that this process sees.
    mounts: Vec<Mount>,
}

impl Place {
    /// Gathers these facts.
    fn here() -> Self {
        let release = rustix::system::uname();
        let mounts = file::read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
        let have = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        Self {
            version: kernel::version(release.release().to_bytes()).unwrap_or_default(),
            have,
            filtered: rights::status(b"Seccomp:") == 2,
            inside: shell::is_inside().unwrap_or_default(),
            mounts: procfs::mounts(&mounts),
        }
    }

    /// The topmost mount at a path.
    fn mount(&self, path: &str) -> Option<&Mount> {
        let at = |mount: &&Mount| mount.point == Path::new(path);
        self.mounts.iter().rev().find(at)
    }

    /// Whether this process has CAP_SYS_ADMIN.
    fn is_admin(&self) -> bool {
        self.have.contains(CapabilitySet::SYS_ADMIN)
    }

    /// Whether this process has CAP_NET_ADMIN.
    fn is_net_admin(&self) -> bool {
        self.have.contains(CapabilitySet::NET_ADMIN)
    }

    /// Why a system call that came with this kernel version fails, and what to do about it.
    fn missing(&self, errno: Errno, (major, minor): (u32, u32)) -> (String, Cure) {
        let said = Error::reason(errno);
        if self.filtered {
            return (
                format!("{said}; a seccomp filter is on"),
                say("make the filter allow it; in Docker use --security-opt seccomp=unconfined"),
            );
        }
        let cure = format!("use Linux {major}.{minor} or later");
        (said, Cure::Say(cure))
    }
}

/// The rooms.
const ROOMS: &[fn(&Place, &mut Report)] = &[
    place,
    kernel::look,
    rights::look,
    namespaces::look,
    trial::look,
    files::look,
    network::look,
    names::look,
    setuid::look,
    stale::look,
];

/// Looks at everything.
pub fn examine() -> Report {
    let (place, mut report) = (Place::here(), Report(Vec::new()));
    for room in ROOMS {
        room(&place, &mut report);
    }
    report
}

/// Whether this is a jail, and whether there is a /proc.
fn place(place: &Place, report: &mut Report) {
    let name = "place";
    if place.inside {
        let why = "jails are made outside it, and what is left of them is seen only there";
        let cure = say("run 'kak doctor' outside");
        report.warn(name, "this is the inside of a jail", why, cure);
    }
    if place.mounts.is_empty() {
        let cure = Cure::Run("mount -t proc proc /proc".into());
        report.fail(name, "/proc", "there is none", cure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line() {
        let mut report = Report(Vec::new());
        report.ok("x", "a\nb", "\x1b[2J");
        report.warn("x", "", "", Cure::Run("rm 'a\nb'".into()));
        assert_eq!(
            (report.0[0].what.as_str(), report.0[0].why.as_str()),
            ("a?b", "?[2J")
        );
        // A command that had to be changed is no longer one to run.
        assert_eq!(report.0[1].cure, say("rm 'a?b'"));
        assert!(!report.has_failed());
        report.fail("x", "", "", Cure::None);
        assert!(report.has_failed());
    }
}
