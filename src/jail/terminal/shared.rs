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

/// How long the last process of a jail that went away may take to die.
const LAST: Duration = Duration::from_secs(1);

/// How long a guard waits for the shell outside to take the terminal.
const SETTLING: Duration = Duration::from_millis(500);

/// How long a guard waits for the end of a session.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sleeps, to wait for what nothing reports.
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
    /// As it is now; none if there is none, or if another group has it at the moment.
    pub fn ours() -> Option<Self> {
        let fd = controlling().filter(|fd| !is_behind(*fd))?;
        let modes = tcgetattr(fd).ok()?;
        Some(Self { fd, modes })
    }

    /// Whether we are in the foreground again.
    pub fn is_ours(&self) -> bool {
        !is_behind(self.fd)
    }

    /// Takes it back from a session that has ended, and restores the modes if the jail went away under it. What another
    /// group has taken meanwhile is left to it.
    pub fn take_back(&self, jail_is_gone: bool) {
        let group = sys::group();
        let is_left =
            || sys::front(self.fd).is_ok_and(|front| front == group || !sys::has_members(front));
        // The kernel kills all processes of a jail one after the other, and does not report the last.
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

/// A process that stays outside while a session has the terminal, and acts if nssh is killed. Then the shell in the
/// jail is hung up, and may take the terminal once more while it ends: from the shell outside, which has it by then and
/// would read no line any more. From inside the jail nobody could give it back: an outer process group has no number
/// there.
///
/// It is dismissed by a pipe. By a pidfd, a process in the jail could get hold of it, in the moment in which the first
/// process there still has all that nssh has open.
pub struct Guard {
    /// Dismisses it.
    tell: OwnedFd,
    /// What it waits on; open here too, so that there is no SIGPIPE if it is gone.
    _told: OwnedFd,
}

impl Guard {
    /// Leaves one; `line` leads to the session's future monitor. If that fails, it mostly works without one, too.
    pub fn leave(shared: &Shared, line: &Outer, guest: Option<&Guest>) -> Option<Self> {
        // The groups that may have the terminal without us: that of our parent, or else that of the session's leader.
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
        // Nothing else stays open: it would hide from us that the monitor is gone, or later from it that nssh is.
        sys::close_but(&[line.as_fd(), line.orders(), us.as_fd(), told.as_fd()]);
        let mut fds = [&us, &told].map(|fd| PollFd::new(fd, PollFlags::IN));
        poll(&mut fds, None).ok();
        if rustix::io::read(&told, &mut [0]).is_ok_and(|read| read > 0) {
            sys::exit_now(0);
        }
        // Had nssh ended by itself, it would have dismissed us first. A shell outside has the terminal now, and waits
        // for a line; one that was only about to would be refused while the shell in the jail has it once more.
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
