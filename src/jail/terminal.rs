//! The caller's terminal. A session shares it ([`shared`]): no relay, no new session, so that job control and window
//! size are the kernel's business; all that is left to do is not to start in the background. For a session with a
//! terminal of its own ([`super::pty`]) the caller's is made raw, and asked for its size.

pub mod shared;

use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr,
};

use crate::error::{Error, Result};
use crate::sys::{self, Action, SignalSet};

/// Waits, stopped, until the caller's job is in the foreground. An interactive shell that starts in the background
/// would believe itself in the foreground, since in the jail both its own group and the terminal's read as 0.
pub fn wait_for_foreground() -> Result<()> {
    // A shell uses its controlling terminal, wherever its input comes from.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let own = rustix::fs::open("/dev/tty", flags, Mode::empty()).ok();
    let terminal = match &own {
        Some(own) => own.as_fd(),
        None => match controlling() {
            Some(terminal) => terminal,
            None => return Ok(()),
        },
    };
    if is_behind(terminal) {
        let old = sys::set_disposition(Signal::TTIN, Action::Default);
        let mask = sys::unblock_signals(&SignalSet::of(&[Signal::TTIN]));
        while is_behind(terminal) {
            let stopped = is_continued_after(|| {
                rustix::process::kill_current_process_group(Signal::TTIN).ok();
            });
            if !stopped {
                return Err(Error::text(
                    "fg",
                    "another job has the terminal, and there is no shell that could give it to this one",
                ));
            }
        }
        sys::restore_disposition(Signal::TTIN, &old);
        sys::set_signal_mask(&mask);
    }
    Ok(())
}

/// Whether we may read from the terminal on standard input: we are in the foreground, or it is not our controlling
/// terminal.
pub fn is_in_front() -> bool {
    match sys::front(stdin()) {
        Ok(front) => front == sys::group(),
        Err(errno) => errno == Errno::NOTTY,
    }
}

/// Whether another group than ours is in the foreground. Both read as 0 if they are of another PID namespace.
fn is_behind(terminal: BorrowedFd<'_>) -> bool {
    sys::front(terminal).is_ok_and(|front| front != sys::group())
}

/// The first of the standard descriptors that is our controlling terminal.
fn controlling() -> Option<BorrowedFd<'static>> {
    [stdin(), stdout(), stderr()]
        .into_iter()
        .find(|fd| sys::front(*fd).is_ok())
}

/// Whether all standard descriptors are that terminal: no other program reads a session's output or feeds its input.
pub fn is_whole() -> bool {
    [stdin(), stdout(), stderr()]
        .into_iter()
        .all(|fd| sys::front(fd).is_ok())
}

/// Whether nobody could continue us if we were stopped: our parent is not of our session.
fn is_orphaned() -> bool {
    let parent = rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get());
    parent == 0 || sys::session_of(parent) != sys::session_of(0)
}

/// Whether our process group is led by us, or by our parent (the setup that runs a first session in us), so that
/// whatever was started along with us is in another one.
pub fn has_own_group() -> bool {
    let group = Pid::from_raw(sys::group());
    group.is_some()
        && (group == Some(rustix::process::getpid()) || group == rustix::process::getppid())
}

/// Whether a shell with these arguments would be interactive: an option says so, or it has neither a command nor a
/// script and reads from a terminal.
pub fn is_interactive(args: &[OsString]) -> bool {
    let mut words = args.iter().map(|word| word.as_encoded_bytes());
    let (mut reads, mut told) = (true, false);
    while let Some(word) = words.next() {
        match word {
            b"-" | b"--" => {
                reads &= words.next().is_none();
                break;
            }
            b"--rcfile" | b"--init-file" => drop(words.next()),
            [b'-', b'-', ..] => {}
            [b'-' | b'+', flags @ ..] => {
                told |= flags.contains(&b'i');
                reads &= !flags.contains(&b'c');
                // An option's name is the next word.
                if flags.iter().any(|flag| matches!(flag, b'o' | b'O')) {
                    words.next();
                }
            }
            _ => {
                reads = false;
                break;
            }
        }
    }
    told || reads && isatty(stdin()) && isatty(stderr())
}

/// Stops this process by a signal that stopped another one, so that the caller's shell sees one stop of the same kind;
/// returns when continued. A stop signal that the terminal sent to both, and that is blocked here, is used up by it.
/// Returns whether it stopped at all: the kernel stops no process of an orphaned group, but by SIGSTOP.
pub fn stop(number: i32) -> bool {
    let signal = match Signal::from_named_raw(number) {
        Some(signal @ (Signal::TSTP | Signal::TTIN | Signal::TTOU)) => signal,
        _ if is_orphaned() => Signal::TSTP,
        _ => Signal::STOP,
    };
    let old = sys::set_disposition(signal, Action::Default);
    let stopped = is_continued_after(|| {
        rustix::process::kill_process(rustix::process::getpid(), signal).ok();
        let mask = sys::unblock_signals(&SignalSet::of(&[signal]));
        sys::set_signal_mask(&mask);
    });
    sys::restore_disposition(signal, &old);
    stopped
}

/// Whether it is a signal by which a terminal stops processes that may not use it.
pub fn is_of_terminal(number: i32) -> bool {
    [Signal::TTIN, Signal::TTOU]
        .iter()
        .any(|signal| signal.as_raw() == number)
}

/// Whether `what`, which may stop us, did: SIGCONT is blocked meanwhile, so that it stays to be seen.
fn is_continued_after(what: impl FnOnce()) -> bool {
    let going_on = SignalSet::of(&[Signal::CONT]);
    let mask = sys::block_signals(&going_on);
    let seen = sys::signalfd(&going_on);
    what();
    let continued = seen.is_ok_and(|seen| sys::read_signal(seen.as_fd()).is_some());
    sys::set_signal_mask(&mask);
    continued
}

/// The size of the terminal that standard input, output or error is.
pub fn size() -> Option<Winsize> {
    [stdin(), stdout(), stderr()]
        .into_iter()
        .find_map(|fd| tcgetwinsize(fd).ok())
}

/// The terminal on standard input, if it is one, for raw use: every byte as it was typed.
pub struct Raw {
    /// Its modes when it is not raw.
    before: Option<Termios>,
    /// Whether it is raw.
    entered: bool,
}

impl Raw {
    /// As it is now.
    pub fn new() -> Self {
        Self {
            before: tcgetattr(stdin()).ok(),
            entered: false,
        }
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.before.is_some()
    }

    /// Makes it raw if we are in the foreground, even where somebody has changed its modes meanwhile.
    pub fn enter(&mut self) {
        let stdin = stdin();
        if !self.entered
            && self.is_there()
            && let Ok(before) = tcgetattr(stdin)
        {
            self.before = Some(before);
        }
        if let Some(mut modes) = self.before.clone().filter(|_| is_in_front()) {
            modes.make_raw();
            self.entered = tcsetattr(stdin, OptionalActions::Now, &modes).is_ok();
        }
    }

    /// Restores its modes if we are in the foreground: else they are somebody else's. Never waits until what was
    /// written to it is out, which could be for ever.
    pub fn restore(&mut self) {
        if let Some(before) = self
            .before
            .as_ref()
            .filter(|_| self.entered && is_in_front())
        {
            tcsetattr(stdin(), OptionalActions::Now, before).ok();
        }
        self.entered = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_to_be_interactive_is() {
        // The tests' own standard input is not known, so only what does not depend on it.
        let is =
            |words: &[&str]| is_interactive(&words.iter().map(OsString::from).collect::<Vec<_>>());
        for told in [
            &["-i"][..],
            &["-lic", "x"],
            &["--norc", "-i"],
            &["-o", "vi", "-i"],
            &["--rcfile", "x", "-i"],
        ] {
            assert!(is(told), "{told:?}");
        }
        for not in [
            &["-c", "x -i"][..],
            &["--norc", "-c", "x"],
            &["-lc", "x"],
            &["script", "-i"],
            &["--", "script"],
            &["-o", "vi", "script"],
        ] {
            assert!(!is(not), "{not:?}");
        }
    }
}
