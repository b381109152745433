//! The image and real containers: `cargo test --test docker`. Needs a Docker engine that may run privileged containers.
#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test runs programs and waits between two looks at a condition; the program does neither"
)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has failed"
)]

/// Root's login shell.
mod accounts;
/// kak needs no other program in the image.
mod alone;
/// Names from the engine's own resolver.
mod dns;
/// `kak doctor` in containers.
mod examined;
/// Users of a container who are not root.
mod guests;
/// What `docker exec C /bin/nssh` sees, and what `docker exec C /bin/bash` sees.
mod inside;
/// IPv6, where the engine's network has it.
mod ipv6;
/// The entrypoint under docker run, stop, start and commit.
mod life;
/// `kak netns` with few capabilities.
mod netns;
/// Ports from the host into a jail.
mod publish;
/// Images and containers that remove themselves.
mod rig;
/// Sessions on a terminal.
mod terminal;
/// Every way in which such a container is started and stopped.
mod ways;
