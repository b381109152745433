//! The caller's terminal. A session shares it: no relay, no new session, so that job control and window size are the
//! kernel's business. What is left to do is not to start in the background, and to leave the modes as they were. For a
//! session with a terminal of its own ([`super::pty`]) it is made raw, and where it can it is asked for its size.

use std::ffi::OsString;

use rustix::io::Errno;
use rustix::process::Signal;
use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
};

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

/// Whether we may read from the terminal on standard input: we are in the foreground, or it is not what our jobs are
/// controlled by.
pub fn is_in_front() -> bool {
    match tcgetpgrp(rustix::stdio::stdin()) {
        Ok(front) => front == rustix::process::getpgrp(),
        Err(errno) => errno == Errno::NOTTY,
    }
}

/// Whether nobody could continue us: the group's leader's parent is not in our session.
pub fn is_orphaned() -> bool {
    let session = rustix::process::getsid(None);
    rustix::process::getppid().is_none_or(|parent| rustix::process::getsid(Some(parent)) != session)
}

/// Whether a shell with these arguments would talk to a person: it is told so, or it has neither a command nor a script
/// and reads from a terminal.
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
    told || reads && isatty(rustix::stdio::stdin()) && isatty(rustix::stdio::stderr())
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

/// The size of the terminal that standard input, output or error is.
pub fn size() -> Option<Winsize> {
    use rustix::stdio::{stderr, stdin, stdout};
    [stdin(), stdout(), stderr()]
        .into_iter()
        .find_map(|fd| tcgetwinsize(fd).ok())
}

/// The terminal on standard input, if it is one, as somebody uses it who wants every byte as it was typed.
pub struct Raw {
    /// Its modes without us.
    before: Option<Termios>,
    /// Whether it is raw.
    entered: bool,
}

impl Raw {
    /// As it is now.
    pub fn new() -> Self {
        Self {
            before: tcgetattr(rustix::stdio::stdin()).ok(),
            entered: false,
        }
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.before.is_some()
    }

    /// Makes it raw, also where somebody has changed that meanwhile.
    pub fn enter(&mut self) {
        let stdin = rustix::stdio::stdin();
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

    /// Makes it what it was, if we are in the foreground: else its modes are somebody else's. Never waits for what was
    /// written to it, which could be for ever.
    pub fn restore(&mut self) {
        if let Some(before) = self
            .before
            .as_ref()
            .filter(|_| self.entered && is_in_front())
        {
            tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before).ok();
        }
        self.entered = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_to_be_interactive_is() {
        // Of the tests' own input nothing is known; so only what does not depend on it.
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
