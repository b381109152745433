//! Several users on one machine: `cargo test --test users`, as root, since who has no rights cannot become somebody
//! else. Each test is on a machine of its own, as those of the other test program are (see [`sandbox`]).
#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test runs programs and waits between two looks at a condition; the program does neither"
)]
#![allow(
    clippy::zombie_processes,
    reason = "the sandbox's first process reaps, and its end ends all"
)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has failed"
)]

/// Fresh namespaces and a root of its own for each test, and what a test asks such a machine.
#[macro_use]
#[path = "../sandbox/mod.rs"]
#[allow(dead_code, reason = "the other test program uses the rest")]
mod sandbox;

/// The programs that call shells, with nssh as the shell.
mod callers;
/// What a machine has on which people log in.
mod logins;
/// What somebody without rights can do to a jail, which is nothing.
mod others;
/// What goes through sshd.
mod ssh;
