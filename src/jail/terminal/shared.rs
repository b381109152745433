//! The caller's terminal while a session shares it: handed over to a shell that would take it anyway, and taken back.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, pidfd_open};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{controlling, is_behind};
use crate::jail::guest::Guest;
use crate::jail::line::{Heard, Outer};
use crate::jail::monitor::{News, Order};
use crate::jail::sessions::stat;
use crate::jail::{timespec, wait_readable};
use crate::sys::{self, SignalSet};

/// How long the last process of a jail that went away may take to be gone.
const LAST: Duration = Duration::from_secs(1);

/// How long a guard lets the shell outside have to take the terminal.
const SETTLING: Duration = Duration::from_millis(500);

/// How long a guard waits for the end of a session.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lets others do what there is no message of.
fn nap() {
    poll(&mut [], Some(&timespec(Duration::from_millis(1)))).ok();
}

/// The terminal on the standard descriptors of a session that began in the foreground.
pub struct Shared {
    /// One of them.
    fd: BorrowedFd<'static>,
    /// Its modes as they were.
    modes: Termios,
}

impl Shared {
    /// As it is now; none if there is none, or if it is somebody else's at the moment.
    pub fn ours() -> Option<Self> {
        let fd = controlling().filter(|fd| !is_behind(*fd))?;
        let modes = tcgetattr(fd).ok()?;
        Some(Self { fd, modes })
    }

    /// Whether we are in the foreground again.
    pub fn is_ours(&self) -> bool {
        !is_behind(self.fd)
    }

    /// Takes it back from a session that has ended, and puts the modes back if the jail went away under it. What somebody
    /// else has meanwhile taken is left to him.
    pub fn take_back(&self, jail_is_gone: bool) {
        let group = sys::group();
        let is_left =
            || sys::front(self.fd).is_ok_and(|front| front == group || !sys::has_members(front));
        // The kernel kills all processes of a jail one after the other, and tells nobody of the last.
        let deadline = Instant::now() + LAST;
        while jail_is_gone && !is_left() && Instant::now() < deadline {
            nap();
        }
        if is_left() {
            // From the background both would stop us, were SIGTTOU not blocked.
            sys::set_front(self.fd, group).ok();
            if jail_is_gone {
                tcsetattr(self.fd, OptionalActions::Drain, &self.modes).ok();
            }
        }
    }
}

/// A process that stays outside while a session has the terminal, and comes in when nssh is killed. What then happens in
/// the jail is nobody's but the shell's that is told to hang up, and which may take the terminal once more while it ends,
/// from the shell outside that has it by then and would read no line any more. From inside the jail nobody could give it
/// back: there is no number for a group of outside.
///
/// It is sent away by a pipe. By a pidfd whoever is in the jail could get hold of it, in the moment in which the first
/// process there still has all that nssh has open.
pub struct Guard {
    /// Sends it away.
    tell: OwnedFd,
    /// Where it is told so; open here too, so that one that is gone is no SIGPIPE.
    _told: OwnedFd,
}

impl Guard {
    /// Leaves one; `line` leads to where the session's monitor will be. Without one it is as well, mostly.
    pub fn leave(shared: &Shared, line: &Outer, guest: Option<&Guest>) -> Option<Self> {
        // Who would have the terminal without us, or else without whoever started us.
        let parent = rustix::process::getppid()?.as_raw_nonzero().get();
        let heirs = [sys::group_of(parent), sys::session_of(0)];
        let us = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).ok()?;
        let (told, tell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        if sys::fork().ok()?.is_some() {
            return Some(Self { tell, _told: told });
        }
        if guest.is_some_and(|guest| guest.drop_rights().is_err()) {
            sys::exit_now(1)
        }
        sys::set_signal_mask(&SignalSet::all_but_faults());
        sys::set_title(c"kak-guard", "");
        // Nothing else stays open, so that the line tells when the monitor is gone, and the monitor that nssh is.
        sys::close_but(&[line.as_fd(), line.orders(), us.as_fd(), told.as_fd()]);
        let mut fds = [&us, &told].map(|fd| PollFd::new(fd, PollFlags::IN));
        poll(&mut fds, None).ok();
        if rustix::io::read(&told, &mut [0]).is_ok_and(|read| read > 0) {
            sys::exit_now(0);
        }
        // Had it ended by itself, it would have told us first. A shell outside has the terminal now, and has begun to wait
        // for a line; one that only wanted to begin would be refused while the shell in the jail has it once more.
        let deadline = Instant::now() + SETTLING;
        let waits =
            || sys::front(shared.fd) == heirs[0] && stat(parent).is_some_and(|stat| stat.waits);
        while !waits() && Instant::now() < deadline {
            nap();
        }
        line.order(Order::HangUp.bytes());
        while wait_readable(line.as_fd(), PATIENCE)
            && !matches!(line.hear::<{ News::SIZE }>(), Heard::Gone)
        {}
        let heir = heirs
            .into_iter()
            .flatten()
            .find(|heir| sys::has_members(*heir));
        if let Some(heir) = heir
            && sys::front(shared.fd).is_ok_and(|front| !sys::has_members(front))
        {
            sys::set_front(shared.fd, heir).ok();
        }
        sys::exit_now(0)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        rustix::io::write(&self.tell, &[0]).ok();
    }
}
