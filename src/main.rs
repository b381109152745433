//! kak: user jails and network namespaces from one small static binary.
#![deny(unsafe_code)]
#![cfg_attr(not(test), no_main)]

mod applet;
mod config;
mod doctor;
mod engine;
mod error;
mod facts;
mod file;
mod iptables;
mod jail;
mod netns;
mod nl;
mod passwd;
mod plan;
mod procfs;
mod record;
mod step;
mod survey;
mod sys;
mod text;
mod watch;

/// The fuzz targets (tests/fuzz): whatever reads outside input. Only in fuzzing builds, never released.
#[cfg(fuzzing)]
#[path = "../tests/fuzz/targets.rs"]
mod fuzz;

use std::ffi::OsString;

/// Runs the applet that `args` (argv) names; returns the exit status.
#[cfg_attr(
    test,
    expect(dead_code, reason = "the test harness has a main of its own")
)]
fn run(args: Vec<OsString>) -> u8 {
    applet::main(args)
}
