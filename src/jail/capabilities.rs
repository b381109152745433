//! The capabilities (capabilities(7)) that kak needs. All that are missing are named before anything is changed.

use rustix::thread::CapabilitySet;

use crate::error::{Error, Result, What as _};

/// A capability, and its name without `CAP_`.
type Capability = (CapabilitySet, &'static str);

/// What a network needs.
pub const NETWORK: &[Capability] = &[
    (CapabilitySet::SYS_ADMIN, "SYS_ADMIN"),
    (CapabilitySet::NET_ADMIN, "NET_ADMIN"),
];

/// What a jail needs: joining its mount namespace changes the root directory (setns(2)).
pub const JAIL: &[Capability] = &[
    (CapabilitySet::SYS_ADMIN, "SYS_ADMIN"),
    (CapabilitySet::NET_ADMIN, "NET_ADMIN"),
    (CapabilitySet::SYS_CHROOT, "SYS_CHROOT"),
];

/// Fails with the names of all capabilities that are missing.
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
