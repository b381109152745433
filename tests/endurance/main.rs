//! Tests of many calls, at once or one after the other: `cargo test --test endurance`, as root, since they read the
//! whole kernel's counts. Each test runs in a sandbox of its own, as in the other test programs (see [`sandbox`]), one
//! after the other. `-- --show-output` shows what they print.
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
#[allow(dead_code, reason = "the other test programs use the rest")]
mod sandbox;

/// How each command may end, and why.
mod allowed;
/// Random commands at the same time.
mod concurrency;
/// Counts of what a machine and its processes hold.
mod figures;
/// Counts that must not grow by thousands of calls.
mod flat;
/// Users other than root.
#[path = "../users/people.rs"]
#[allow(dead_code, reason = "the tests with several users use the rest")]
mod people;
/// Reproducible random choices.
mod random;
/// Commands that must end in time.
mod running;
