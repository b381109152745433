//! What only many calls show, at once or one after the other: `cargo test --test endurance`, as root, since the figures
//! are of the whole kernel's. Each test is on a machine of its own, as those of the other test programs are (see
//! [`sandbox`]), one after the other. What they print is shown by `-- --show-output`.
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

/// How each command may end, and by which rule.
mod allowed;
/// Commands against each other.
mod concurrency;
/// What a machine and its processes hold.
mod figures;
/// What is as it was after thousands of calls.
mod flat;
/// Who is no root.
#[path = "../users/people.rs"]
#[allow(dead_code, reason = "the tests with several users use the rest")]
mod people;
/// Choices that can be made again.
mod random;
/// Commands that have to end.
mod running;
