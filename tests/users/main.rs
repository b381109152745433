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

/// Login shells, with shadow's tools at work on the same file.
mod accounts;
/// The programs that call shells, with nssh as the shell.
mod callers;
/// What a doctor says where there are several users.
mod examined;
/// Who joins by a set-user-ID nssh, and what he is inside.
mod guests;
/// State and names that somebody else has made.
mod hostile;
/// What the caller of a set-user-ID nssh can hand down.
mod inherited;
/// Where the set-user-ID copy is put, and in whose place.
mod installed;
/// Whose a session is.
mod listed;
/// What a machine has on which people log in.
mod logins;
/// What kak knows is for root alone.
mod modes;
/// By which names and with which bits kak does anything for a user.
mod names;
/// What somebody without rights can do to a jail, which is nothing.
mod others;
/// What a jail can do to kak's own binary.
mod overwritten;
/// Who is on a machine, and how a test becomes one of them.
mod people;
/// What can be reached from inside of a jail.
mod reached;
/// What goes through sshd.
mod ssh;
/// What a guest is told of a jail that is not up, or not what it says it is.
mod state;
/// What is swapped for a link while a jail is set up and taken down.
mod swapped;
/// What others of the same user can do to a set-user-ID nssh.
mod watched;
