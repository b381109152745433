//! The caller's terminal, which a session shares: no relay, no new session, so that job control and window size are the
//! kernel's business. What is left to do is not to start in the background, and to leave the modes as they were.

use rustix::process::Signal;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcsetattr};

/// Waits, stopped, until the caller's job is in the foreground. An interactive shell that starts in the background
/// would believe itself in front, since in the jail both its own group and the terminal's read as 0.
pub fn wait_for_foreground() {
    let stdin = rustix::stdio::stdin();
    while let Ok(front) = tcgetpgrp(stdin) {
        // SIGTTIN does nothing to an orphaned group, which nobody would ever continue.
        if front == rustix::process::getpgrp()
            || rustix::process::kill_current_process_group(Signal::TTIN).is_err()
            || is_orphaned()
        {
            return;
        }
    }
}

/// Whether nobody could continue us: the group's leader's parent is not in our session.
fn is_orphaned() -> bool {
    let session = rustix::process::getsid(None);
    rustix::process::getppid().is_none_or(|parent| rustix::process::getsid(Some(parent)) != session)
}

/// Whether a shell with these arguments would talk to a person.
pub fn is_interactive(args: &[std::ffi::OsString]) -> bool {
    let first = args.first().map(|word| word.as_encoded_bytes());
    match first {
        None => isatty(rustix::stdio::stdin()) && isatty(rustix::stdio::stderr()),
        Some([b'-', b'-', ..]) => true,
        Some([b'-', flags @ ..]) => flags.contains(&b'i') || !flags.contains(&b'c'),
        Some(_) => false,
    }
}

/// The modes of the terminal on standard input, to be put back.
pub struct Modes(Option<Termios>);

impl Modes {
    /// As they are now.
    pub fn save() -> Self {
        Self(tcgetattr(rustix::stdio::stdin()).ok())
    }

    /// Puts them back, if we are in the foreground: else they are somebody else's.
    pub fn restore(&self) {
        let stdin = rustix::stdio::stdin();
        if let Some(modes) = &self.0
            && tcgetpgrp(stdin) == Ok(rustix::process::getpgrp())
        {
            tcsetattr(stdin, OptionalActions::Drain, modes).ok();
        }
    }
}
