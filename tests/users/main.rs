//! Several users on one machine: `cargo test --test users`, as root, since only root can become other users. Each test
//! runs in a sandbox of its own, as in the other test programs (see [`sandbox`]).
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

/// Login shells, while shadow's tools edit the same file.
mod accounts;
/// The programs that call shells, with nssh as the shell.
mod callers;
/// `kak doctor` with several users.
mod examined;
/// Which users can join by a set-user-ID nssh, and what they are inside.
mod guests;
/// State and names that another user has made.
mod hostile;
/// What the caller of a set-user-ID nssh passes to it.
mod inherited;
/// Where the set-user-ID copy is put, and what it may replace.
mod installed;
/// The user of a session.
mod listed;
/// A machine on which users can log in.
mod logins;
/// The modes of kak's state, which is for root alone.
mod modes;
/// The names and mode bits with which kak does anything for a user.
mod names;
/// What a user without rights can do to a jail, which is nothing.
mod others;
/// What a jail can do to kak's own binary.
mod overwritten;
/// The users of a machine, and how a test runs a command as one of them.
mod people;
/// What can be reached from inside a jail.
mod reached;
/// Transfers and commands through sshd.
mod ssh;
/// The messages to a guest about a jail that is not up, or whose state cannot be trusted.
mod state;
/// Directories that are replaced by links while a jail is set up and taken down.
mod swapped;
/// What other processes of the same user can do to a set-user-ID nssh.
mod watched;
