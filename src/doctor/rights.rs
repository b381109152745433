//! What this process may do: its capabilities and user namespace, security modules, seccomp and no_new_privs.

use std::path::Path;

use rustix::thread::CapabilitySet;

use super::{Cure, Place, Report, State, say};
use crate::file;

/// The capabilities that kak uses: the state without each, and what does not work then.
const CAPABILITIES: &[(CapabilitySet, &str, State, &str)] = &[
    (
        CapabilitySet::SYS_ADMIN,
        "SYS_ADMIN",
        State::Fail,
        "namespaces and mounts cannot be made without it",
    ),
    (
        CapabilitySet::NET_ADMIN,
        "NET_ADMIN",
        State::Fail,
        "links, addresses and rules cannot be made without it",
    ),
    (
        CapabilitySet::SYS_CHROOT,
        "SYS_CHROOT",
        State::Fail,
        "no jail can be joined without it",
    ),
    (
        CapabilitySet::NET_BIND_SERVICE,
        "NET_BIND_SERVICE",
        State::Warn,
        "resolvers on loopback addresses are not relayed without it",
    ),
];

/// Whether AppArmor denies capabilities in the user namespaces of unprivileged programs.
const RESTRICTED: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// Runs the checks.
pub fn look(place: &Place, report: &mut Report) {
    for (capability, word, state, lost) in CAPABILITIES {
        let what = format!("CAP_{word}");
        if place.have.contains(*capability) {
            report.ok("capability", &what, "");
        } else {
            let cure = format!("run as root; in Docker use --cap-add {word}");
            report.add("capability", *state, &what, lost, Cure::Say(cure));
        }
    }
    user_namespace(report);
    security_module(report);
    if place.filtered {
        let why = "a filter is on; what it forbids is reported where it is needed";
        report.ok("seccomp", "seccomp", why);
    } else {
        report.ok("seccomp", "seccomp", "no filter");
    }
    let what = "no_new_privs";
    if status(b"NoNewPrivs:") == 1 {
        let why = "is set: a set-user-ID nssh that is started from here has no rights to lend";
        let cure = say("start without it; in Docker leave out --security-opt no-new-privileges");
        report.warn(what, what, why, cure);
    } else {
        report.ok(what, what, "is not set");
    }
}

/// The user namespace.
fn user_namespace(report: &mut Report) {
    let name = "user-namespace";
    let map = file::read(Path::new("/proc/self/uid_map")).unwrap_or_default();
    let Some(why) = map_of_its_own(&map) else {
        report.ok(name, "user namespace", "the machine's initial one");
        return;
    };
    if read(RESTRICTED).starts_with(b"1") {
        let why = format!("{why}; AppArmor may deny it everything that root may do");
        let cure = format!("outside, as root: echo 0 >{RESTRICTED}");
        report.warn(name, "user namespace", &why, Cure::Say(cure));
        return;
    }
    report.ok(name, "user namespace", &why);
}

/// What /proc/self/uid_map says of a user namespace; none if that is the machine's first one.
pub fn map_of_its_own(map: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(map).ok()?;
    let mut who = "one of its own; there is no root here".to_owned();
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["0", "0", "4294967295"] => return None,
            ["0", outside, _] => {
                who = format!("one of its own; root here is user {outside} outside");
            }
            _ => {}
        }
    }
    (!text.is_empty()).then_some(who)
}

/// The security module, AppArmor or SELinux, and its label for this process.
fn security_module(report: &mut Report) {
    let label = label();
    let what = if Path::new("/sys/fs/selinux/enforce").exists() || label.contains(':') {
        "SELinux"
    } else {
        "AppArmor"
    };
    match label.as_str() {
        "" => report.ok("lsm", "security module", "none confines this process"),
        label => report.ok("lsm", what, label),
    }
}

/// A security module's label for this process; empty where there is none.
pub fn label() -> String {
    let text = match read("/proc/self/attr/apparmor/current") {
        text if text.is_empty() => read("/proc/self/attr/current"),
        text => text,
    };
    let text = String::from_utf8_lossy(&text);
    text.trim_end_matches(['\0', '\n']).to_owned()
}

/// A file's bytes; none where it cannot be read.
fn read(path: &str) -> Vec<u8> {
    file::read(Path::new(path)).unwrap_or_default()
}

/// A number in /proc/self/status; 0 where it is missing.
pub fn status(key: &[u8]) -> u32 {
    let text = read("/proc/self/status");
    field(&text, key).unwrap_or(0)
}

/// The number after a word at the beginning of a line.
pub fn field(text: &[u8], key: &[u8]) -> Option<u32> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(key))?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn user_namespaces() {
        assert_eq!(map_of_its_own(b"         0          0 4294967295\n"), None);
        assert_eq!(map_of_its_own(b""), None);
        for (map, said) in [
            (&b"0 65534 1\n1 100000 65535\n"[..], "user 65534 outside"),
            (b"1000 1000 1\n", "no root"),
        ] {
            assert!(map_of_its_own(map).is_some_and(|why| why.contains(said)));
        }
    }

    #[test]
    fn fields() {
        let text = b"Name:\tkak\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";
        assert_eq!(field(text, b"Seccomp:"), Some(2));
        assert_eq!(field(text, b"NoNewPrivs:"), Some(1));
        assert_eq!(field(text, b"Nothing:"), None);
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            map_of_its_own(&text);
            field(&text, b"a");
        }
    }
}
