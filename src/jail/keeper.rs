//! The process outside that is init's parent: brings a jail up, takes it down, and in between only waits, and restarts
//! the relay for its resolvers. If kak is a container's entrypoint it is that process ([`crate::jail::entrypoint`]);
//! otherwise it is one in a session of its own that no terminal can stop.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open};

use super::build::{Teller, Wanted, bring_up, take_down_own};
use super::process::{Heard, Parent, be_deaf, channel, say_turn, wait_status};
use super::{Init, Waits, dns, init, process};
use crate::error::{Error, Result, What as _, complain};
use crate::sys::{self, SignalSet};

/// How long to wait for a jail to come up. A teardown that is still under way takes up to [`super::GRACE`].
const LIMIT: Duration = Duration::from_mins(1);

/// How long a keeper stays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// Until the jail ends, for whatever reason; what it was built on then stays for the next one.
    Background,
    /// As long as the process that asked for it lives and there is a session; then everything is taken back.
    Attached,
}

/// A keeper in a process of its own, as its parent sees it.
pub struct Keeper {
    /// The process.
    pid: Pid,
    /// Shut down by us, it ends an attached jail.
    channel: OwnedFd,
}

/// Brings a jail up in a process of its own that stays as its keeper. Returns when the jail is up; errors are printed
/// by that process.
pub fn spawn(wanted: &Wanted, stay: Stay, teller: &mut Teller<'_>) -> Result<Keeper> {
    let (ours, theirs) = channel()?;
    let what = format!("kak setup -n {}", wanted.config.jail);
    let _parent = Parent::become_one();
    let Some(pid) = sys::fork().what(|| "fork")? else {
        drop(ours);
        rustix::process::setsid().ok();
        let waits = &mut |waits| say_turn(&theirs, &what, waits);
        sys::exit_now(keep(wanted, stay, &theirs, waits, teller));
    };
    drop(theirs);
    let heard = process::listen(&ours, Some(LIMIT));
    let has_made_nothing = matches!(heard, Ok(Heard::Late(true)));
    let error = match heard {
        Ok(Heard::Word) => return Ok(Keeper { pid, channel: ours }),
        Ok(Heard::Nothing) => {
            return wait_status(pid, &what).and_then(|told| Err(Error::told(told)));
        }
        Ok(Heard::Late(true)) => Error::cure(
            what,
            format!("another kak has been at work for {} s", LIMIT.as_secs()),
            format!("see 'fuser -v {}'", crate::record::DIR),
        ),
        Ok(Heard::Late(false)) => {
            Error::text(what, format!("is not done after {} s", LIMIT.as_secs()))
        }
        Err(error) => error,
    };
    if !has_made_nothing {
        rustix::process::kill_process(pid, Signal::TERM).ok();
        if let Ok(keeper) = pidfd_open(pid, PidfdFlags::empty()) {
            super::wait_readable(keeper.as_fd(), super::GRACE * 2);
        }
    }
    rustix::process::kill_process(pid, Signal::KILL).ok();
    process::wait_for(pid);
    Err(error)
}

/// How a jail that was attached ended.
pub enum Over {
    /// With its last session, or killed; everything is taken back.
    Done,
    /// Somebody in it has called reboot(2); everything is taken back.
    Off,
    /// Something is left, as the keeper has reported; its exit status.
    Failed(u8),
}

impl Keeper {
    /// Lets the jail end with its last session, and waits until everything is taken back.
    pub fn release(self) -> Result<Over> {
        if rustix::net::shutdown(&self.channel, Shutdown::Write).is_err() {
            // The keeper would never notice, and we would wait for ever.
            rustix::process::kill_process(self.pid, Signal::TERM).ok();
        }
        let _parent = Parent::become_one();
        let status = wait_status(self.pid, "kak teardown")?;
        let mut byte = [0];
        let said = rustix::net::recv(&self.channel, &mut byte, RecvFlags::DONTWAIT);
        Ok(match (status, said) {
            (0, Ok((1, _))) => Over::Off,
            (0, _) => Over::Done,
            (status, _) => Over::Failed(status),
        })
    }
}

/// Runs a keeper in a process of its own; returns its exit status.
fn keep(
    wanted: &Wanted,
    stay: Stay,
    channel: &OwnedFd,
    waits: Waits<'_>,
    teller: &mut Teller<'_>,
) -> u8 {
    // Signals are blocked, so that none ends it half-way: they are read when there is something to take back.
    sys::set_signal_mask(&SignalSet::all_but_faults());
    let jail = &wanted.config.jail;
    let init = match bring_up(wanted, teller, waits) {
        Ok(init) => init,
        Err(error) => return failed(&error, "kak: setup"),
    };
    let child = rustix::process::waitpid(Some(init.pid), WaitOptions::NOHANG);
    if child.err() == Some(Errno::CHILD) {
        // It is not our child: somebody else brought it up, and keeps it.
        say_up(channel).ok();
        return 0;
    }
    // A jail that cannot resolve names is not what was asked for.
    let left = dns::Child::start(&init, jail)
        .and_then(|relay| leave(jail, stay, channel).map(|signals| (relay, signals)));
    let (mut relay, signals) = match left {
        Ok(left) => left,
        Err(error) => {
            let error = error.and(take_down_own(jail, &init).err());
            return failed(&error, "kak: setup");
        }
    };
    watch(&init, channel, &signals, stay, &mut relay);
    let result = if stay == Stay::Background && is_gone(&init) {
        Ok(())
    } else {
        take_down_own(jail, &init)
    };
    // Not before: until it is reaped, its PID is not reused. The relay ends with it.
    if process::wait_for(init.pid).is_some_and(init::is_off) {
        rustix::net::send(channel, &[0], SendFlags::NOSIGNAL).ok();
    }
    while process::reap_one() {}
    result.map_or_else(|error| failed(&error, "kak: teardown"), |()| 0)
}

/// Prints an error; returns the exit status that belongs to it.
fn failed(error: &Error, prefix: &str) -> u8 {
    complain(&error.lines(prefix));
    error.code()
}

/// Leaves everything that belongs to the caller, and tells it that the jail is up; returns a signalfd.
fn leave(jail: &str, stay: Stay, channel: &OwnedFd) -> Result<OwnedFd> {
    sys::set_title(c"kak-keeper", jail);
    rustix::process::chdir("/").ok();
    let signals = sys::signalfd(&SignalSet::all_but_faults()).what(|| "signalfd")?;
    be_deaf().what(|| "exec <>/dev/null")?;
    let log = match stay {
        Stay::Background => Some(super::log(jail)?),
        // The caller waits for us, and errors at the end go to its standard error.
        Stay::Attached => None,
    };
    match say_up(channel) {
        // The caller is gone, maybe before it had read everything; and the jail is there for others too.
        Err(Errno::PIPE | Errno::CONNRESET) => {}
        other => other.what(|| "send")?,
    }
    if let Some(log) = log {
        // The caller no longer waits, so an error could not be reported to anybody.
        rustix::stdio::dup2_stderr(&log).ok();
    }
    Ok(signals)
}

/// Tells the process that waits for the jail that it is up.
fn say_up(channel: &OwnedFd) -> rustix::io::Result<()> {
    rustix::net::send(channel, &[0], SendFlags::NOSIGNAL).map(drop)
}

/// Returns when init is gone, or a signal asks for the jail's end.
fn watch(init: &Init, channel: &OwnedFd, signals: &OwnedFd, stay: Stay, relay: &mut dns::Child) {
    let mut attached = stay == Stay::Attached;
    loop {
        let mut fds = vec![
            PollFd::new(&init.fd, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        if attached {
            fds.push(PollFd::new(channel, PollFlags::IN));
        }
        poll(&mut fds, relay.timeout().as_ref()).ok();
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
        relay.look(init);
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
