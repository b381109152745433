//! What the processes of kak have in common: how one waits for another, talks to it, and lets go of the caller's
//! terminal and pipes. None of it knows what a jail is.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::error::{Result, What as _};
use crate::sys::{self, SignalSet};

/// The exit status of a child.
pub fn wait_status(pid: Pid) -> u8 {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(Some((_, status))) => return status_number(status),
            _ => return 1,
        }
    }
}

/// A wait status as a number: the exit status, or 128 and the signal.
pub fn status_number(status: rustix::process::WaitStatus) -> u8 {
    let number = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(number).unwrap_or(1)
}

/// Does something that needs [`super::Lock`] in a process that no terminal can stop, and waits for it; its exit status. A
/// caller that is stopped or killed meanwhile holds nobody up.
pub fn apart(work: impl FnOnce() -> u8) -> Result<u8> {
    match sys::fork().what(|| "fork")? {
        None => {
            rustix::process::setsid().ok();
            sys::exit_now(work())
        }
        Some(pid) => Ok(wait_status(pid)),
    }
}

/// Runs a session in a child that is otherwise all that we are: stopped when it stops, continued with it; its exit
/// status, or 128 and the signal it died of.
pub fn in_place_of(session: impl FnOnce() -> u8) -> Result<u8> {
    let before = sys::block_signals(&SignalSet::of(&[Signal::TSTP, Signal::TTIN, Signal::TTOU]));
    let (int, quit) = (
        sys::set_disposition(Signal::INT, sys::Action::Ignore),
        sys::set_disposition(Signal::QUIT, sys::Action::Ignore),
    );
    let Some(pid) = sys::fork().what(|| "fork")? else {
        sys::restore_disposition(Signal::INT, &int);
        sys::restore_disposition(Signal::QUIT, &quit);
        sys::set_signal_mask(&before);
        sys::exit_now(session())
    };
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => {
                rustix::process::kill_process(rustix::process::getpid(), Signal::STOP).ok();
                rustix::process::kill_process(pid, Signal::CONT).ok();
            }
            Ok(Some((_, status))) => return Ok(status_number(status)),
            Err(rustix::io::Errno::INTR) => {}
            _ => return Ok(1),
        }
    }
}

/// Two ends that keep the borders of messages and say when the other one is gone.
pub fn channel() -> Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .what(|| "socketpair")
}

/// Standard input and output on /dev/null: whoever waits for an end of file gets it.
pub fn be_deaf() -> rustix::io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)
}

/// Standard error too.
pub fn silence() -> rustix::io::Result<()> {
    be_deaf()?;
    rustix::stdio::dup2_stderr(rustix::stdio::stdout())
}
