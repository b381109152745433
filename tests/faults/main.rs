//! The fault matrix: whichever system call fails, and wherever kak is killed, nothing is left half-done: `cargo test
//! --test faults -- --nocapture`, as root.
//!
//! The system calls of a clean run of each verb ([`verbs`]) are counted ([`tracer`]). Then each of them fails in a run
//! of its own, and in another its process is killed there ([`matrix`]). After an error the command fails with its
//! status and a message, and all is as before ([`state`]); or, if what failed is not needed, it succeeds and the state
//! is that of a clean run. After a kill, the same command again, or the one that undoes it, must bring the state that
//! it brings after a clean run.
//!
//! By default each call (for a verb with many of them, each `every`th) fails with one of its errnos ([`calls`]), in
//! turn, and the process is killed at those that change something: killed at any other, it leaves the same as at its
//! next change. With `KAK_FAULTS=all` each call fails with each of its errnos, and the process is killed there twice,
//! to mend that in both ways; with `KAK_FAULTS='kak.1 openat 3'` only those runs are made whose labels contain this
//! text.
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

/// Tables of system calls.
mod calls;
/// Makes the runs and checks their outcome.
mod matrix;
/// The state of a machine, as text.
mod state;
/// Traces a command, counts its system calls, makes one fail, or kills the process at it.
mod tracer;
/// The verbs that are tested.
mod verbs;

sandboxed! {
    fn setup_1() {
        matrix::part(&verbs::SETUP_VERB, 0, 4);
    }

    fn setup_2() {
        matrix::part(&verbs::SETUP_VERB, 1, 4);
    }

    fn setup_3() {
        matrix::part(&verbs::SETUP_VERB, 2, 4);
    }

    fn setup_4() {
        matrix::part(&verbs::SETUP_VERB, 3, 4);
    }

    fn teardown_1() {
        matrix::part(&verbs::TEARDOWN, 0, 2);
    }

    fn teardown_2() {
        matrix::part(&verbs::TEARDOWN, 1, 2);
    }

    fn life_1() {
        matrix::part(&verbs::LIFE, 0, 4);
    }

    fn life_2() {
        matrix::part(&verbs::LIFE, 1, 4);
    }

    fn life_3() {
        matrix::part(&verbs::LIFE, 2, 4);
    }

    fn life_4() {
        matrix::part(&verbs::LIFE, 3, 4);
    }

    fn create_1() {
        matrix::part(&verbs::CREATE, 0, 4);
    }

    fn create_2() {
        matrix::part(&verbs::CREATE, 1, 4);
    }

    fn create_3() {
        matrix::part(&verbs::CREATE, 2, 4);
    }

    fn create_4() {
        matrix::part(&verbs::CREATE, 3, 4);
    }

    fn join() {
        matrix::part(&verbs::JOIN, 0, 1);
    }

    fn add() {
        matrix::part(&verbs::ADD, 0, 1);
    }

    fn uplink_1() {
        matrix::part(&verbs::UPLINK, 0, 2);
    }

    fn uplink_2() {
        matrix::part(&verbs::UPLINK, 1, 2);
    }

    fn exec() {
        matrix::part(&verbs::EXEC, 0, 1);
    }

    fn delete() {
        matrix::part(&verbs::DELETE, 0, 1);
    }

    fn unlink_1() {
        matrix::part(&verbs::UNLINK, 0, 2);
    }

    fn unlink_2() {
        matrix::part(&verbs::UNLINK, 1, 2);
    }

    fn passwd() {
        matrix::part(&verbs::PASSWD, 0, 1);
    }

    fn passwd_back() {
        matrix::part(&verbs::PASSWD_BACK, 0, 1);
    }

    fn passwd_mount() {
        matrix::part(&verbs::PASSWD_MOUNT, 0, 1);
    }

    fn passwd_mount_back() {
        matrix::part(&verbs::PASSWD_MOUNT_BACK, 0, 1);
    }
}
