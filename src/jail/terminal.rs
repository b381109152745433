//! The caller's terminal, which a session shares: no relay, no new session, so that job control and window size are the
//! kernel's business. What is left to do is not to start in the background, and to leave the modes as they were.

use std::ffi::OsString;

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
