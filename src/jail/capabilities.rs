//! Which capabilities (capabilities(7)) what kak makes takes; all of them are named before anything is changed.

use rustix::thread::CapabilitySet;

use crate::error::{Error, Result, What as _};

/// A capability, and its name without `CAP_`.
type Capability = (CapabilitySet, &'static str);

/// What a network takes.
pub const NETWORK: &[Capability] = &[
    (CapabilitySet::SYS_ADMIN, "SYS_ADMIN"),
    (CapabilitySet::NET_ADMIN, "NET_ADMIN"),
];

/// What a jail takes: to join its mounts is to have another root (setns(2)).
pub const JAIL: &[Capability] = &[
    (CapabilitySet::SYS_ADMIN, "SYS_ADMIN"),
    (CapabilitySet::NET_ADMIN, "NET_ADMIN"),
    (CapabilitySet::SYS_CHROOT, "SYS_CHROOT"),
];

/// Names the capabilities that are missing, before anything is changed.
pub fn check(what: &str, needed: &[Capability]) -> Result<()> {
    let have = rustix::thread::capabilities(None)
        .what(|| "capget")?
        .effective;
    let missing = needed.iter().filter(|(one, _)| !have.contains(*one));
    let (names, options): (Vec<String>, Vec<String>) = missing
        .map(|(_, name)| (format!("CAP_{name}"), format!("--cap-add {name} ")))
        .unzip();
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::cure(
        what,
        format!("needs {}", names.join(" and ")),
        format!(
            "run as root; in Docker use --privileged, or {}--security-opt apparmor=unconfined",
            options.concat()
        ),
    ))
}
