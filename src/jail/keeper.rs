//! The process outside that is init's parent: brings a jail up, takes it down, and while it lives does nothing but wait.
//! Where kak is the entrypoint it is PID 1 of the container ([`crate::jail::entrypoint`]); else it is a process in a
//! session of its own that no terminal can stop.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, Signal, WaitOptions};

use super::build::{Teller, Wanted, bring_up, quietly, take_down};
use super::process::{be_deaf, channel, silence, wait_status};
use super::{Init, dns};
use crate::error::{Error, Result, What as _, complain};
use crate::sys::{self, SignalSet};

/// How long somebody waits for a jail to come up before he gives up. A teardown that is under way takes up to
/// [`super::GRACE`].
const LIMIT: Duration = Duration::from_mins(1);

/// Whether the first session's process goes on as the keeper of what it brought up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// Until the jail's end, whoever brings that about; then what it stood on stays for the next.
    Background,
    /// As long as whoever asked lives and has a session; then everything is taken back.
    Attached,
}

/// A keeper that has a process of its own, seen by whoever asked for it.
pub struct Keeper {
    /// The process.
    pid: Pid,
    /// Closed by us, it ends an attached jail.
    channel: OwnedFd,
}

/// Brings a jail up in a process of its own that stays as its keeper. Returns when the jail is up; what does not work
/// is told on standard error by that process.
pub fn spawn(wanted: &Wanted, stay: Stay, teller: &mut Teller<'_>) -> Result<Keeper> {
    let (ours, theirs) = channel()?;
    let Some(pid) = sys::fork().what(|| "fork")? else {
        drop(ours);
        rustix::process::setsid().ok();
        sys::exit_now(keep(wanted, stay, &theirs, teller));
    };
    drop(theirs);
    if !super::wait_readable(ours.as_fd(), LIMIT) {
        rustix::process::kill_process(pid, Signal::KILL).ok();
        return Err(Error::cure(
            format!("kak setup -n {}", wanted.config.jail),
            format!("another kak has held the lock for {} s", LIMIT.as_secs()),
            format!("see 'fuser -v {}'", crate::record::DIR),
        ));
    }
    let mut byte = [0];
    match rustix::net::recv(&ours, &mut byte, RecvFlags::empty()) {
        Ok((1, _)) => Ok(Keeper { pid, channel: ours }),
        _ => Err(Error::told(wait_status(pid))),
    }
}

impl Keeper {
    /// Lets the jail end with its last session, and waits until everything is taken back; the keeper's exit status.
    pub fn release(self) -> u8 {
        drop(self.channel);
        wait_status(self.pid)
    }
}

/// The life of a keeper in a process of its own.
fn keep(wanted: &Wanted, stay: Stay, channel: &OwnedFd, teller: &mut Teller<'_>) -> u8 {
    let mine = match bring_up(wanted, teller) {
        Ok(init) => init,
        Err(error) => {
            complain(&error.lines("kak: setup"));
            return error.code();
        }
    };
    let jail = &wanted.config.jail;
    let ours = rustix::process::waitpid(Some(mine.pid), WaitOptions::NOHANG).is_ok();
    if ours && let Err(error) = dns::start(&mine, jail) {
        complain(&error.lines("kak: setup"));
    }
    sys::set_signal_mask(&SignalSet::all_but_faults());
    rustix::thread::set_name(c"kak-keeper").ok();
    rustix::process::chdir("/").ok();
    let quiet = match stay {
        Stay::Background => silence().and_then(|()| log(jail)),
        // Whoever asked waits for us, and hears what goes wrong at the end.
        Stay::Attached => be_deaf(),
    };
    let Ok(signals) = quiet.and_then(|()| sys::signalfd(&SignalSet::all_but_faults())) else {
        return 1;
    };
    rustix::net::send(channel, &[0], SendFlags::NOSIGNAL).ok();
    if !ours {
        // It is not our child: somebody else brought it up, and keeps it.
        return 0;
    }
    watch(&mine, channel, &signals, stay);
    if stay == Stay::Background && is_gone(&mine) {
        return 0;
    }
    match take_down(jail, &mut quietly) {
        Ok(()) => 0,
        Err(error) => {
            complain(&error.lines("kak: teardown"));
            error.code()
        }
    }
}

/// Returns when init is gone, or somebody asks for the jail's end.
fn watch(init: &Init, channel: &OwnedFd, signals: &OwnedFd, stay: Stay) {
    let mut attached = stay == Stay::Attached;
    loop {
        let mut fds = vec![
            PollFd::new(&init.fd, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        if attached {
            fds.push(PollFd::new(channel, PollFlags::IN));
        }
        poll(&mut fds, None).ok();
        let left = fds.get(2).is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        if left {
            attached = false;
            init.end_when_idle();
        }
        if is_gone(init) {
            return;
        }
        while let Some(signal) = sys::read_signal(signals.as_fd()) {
            if ends(signal.number) {
                return;
            }
        }
    }
}

/// Whether a signal asks PID 1 or a keeper to end.
pub fn ends(number: i32) -> bool {
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT]
        .iter()
        .any(|signal| signal.as_raw() == number)
}

/// Whether init is dead.
fn is_gone(init: &Init) -> bool {
    super::wait_readable(init.fd.as_fd(), Duration::ZERO)
}

/// Standard error into the jail's log.
fn log(jail: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
    let log = rustix::fs::open(crate::record::dir(jail).join("log"), flags, Mode::empty())?;
    rustix::stdio::dup2_stderr(&log)
}
