//! The parent of a session's shell, inside the jail: a child of init that tells nssh outside what becomes of the shell,
//! and hangs it up when nssh is gone. It keeps none of the shell's pipes, its terminal only if that was handed over,
//! and ends with its shell.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Signal, WaitOptions, wait};
use rustix::stdio::stdin;

use super::line::{Heard, Inner};
use super::pty;
use super::sessions::{MONITOR, OVER, Processes};
use super::shell::{Caller, Shell};
use crate::error::{Error, What as _, complain};
use crate::sys::{self, Action, SignalSet};
use crate::text::quote;

/// What a monitor reports to nssh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// The shell stopped by this signal.
    Stopped(i32),
    /// It ended with this status.
    Exit(u8),
    /// It was killed by this signal.
    Killed(i32),
    /// It could not be run, with this errno.
    NotRun(i32),
    /// No process could be made for it, with this errno.
    NoProcess(i32),
    /// The monitor could get no signalfd, with this errno.
    NoDescriptor(i32),
}

impl News {
    /// The length of a message.
    pub const SIZE: usize = 5;

    /// The message.
    fn bytes(self) -> [u8; Self::SIZE] {
        let (kind, value) = match self {
            Self::Stopped(number) => (b'S', number),
            Self::Exit(status) => (b'E', status.into()),
            Self::Killed(number) => (b'K', number),
            Self::NotRun(errno) => (b'X', errno),
            Self::NoProcess(errno) => (b'P', errno),
            Self::NoDescriptor(errno) => (b'D', errno),
        };
        let [a, b, c, d] = value.to_ne_bytes();
        [kind, a, b, c, d]
    }

    /// A message's meaning.
    pub fn parse([kind, a, b, c, d]: [u8; Self::SIZE]) -> Option<Self> {
        let value = i32::from_ne_bytes([a, b, c, d]);
        Some(match kind {
            b'S' => Self::Stopped(value),
            b'E' => Self::Exit(u8::try_from(value).ok()?),
            b'K' => Self::Killed(value),
            b'X' => Self::NotRun(value),
            b'P' => Self::NoProcess(value),
            b'D' => Self::NoDescriptor(value),
            _ => return None,
        })
    }
}

/// The error for a fork that failed in the jail.
pub fn no_process(errno: Errno) -> Error {
    match errno {
        // The init of the PID namespace is dead, which fork(2) reports as ENOMEM.
        Errno::NOMEM => Error::text("fork", "the jail is going down"),
        errno => Error::text("fork", Error::reason(errno)),
    }
}

/// What nssh tells a monitor to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// nssh was continued: continue the shell.
    Continue,
    /// The same in the foreground: a shell that leads a process group also gets the terminal for it.
    Foreground,
    /// The terminal is gone: hang the shell up.
    HangUp,
    /// Somebody sent nssh this signal: pass it on.
    Signal(i32),
}

impl Order {
    /// The message.
    pub fn bytes(self) -> [u8; 4] {
        match self {
            Self::Continue => 0,
            Self::HangUp => -1,
            Self::Foreground => -2,
            Self::Signal(number) => number,
        }
        .to_ne_bytes()
    }

    /// A message's meaning.
    fn parse(bytes: [u8; 4]) -> Self {
        match i32::from_ne_bytes(bytes) {
            0 => Self::Continue,
            -1 => Self::HangUp,
            -2 => Self::Foreground,
            number => Self::Signal(number),
        }
    }
}

/// The PID of the jail's init, in the jail.
const INIT: u32 = 1;
/// The sender of a signal from outside the jail, as its PID reads there.
const OUTSIDE: u32 = 0;

/// Runs a monitor.
pub fn run(line: &Inner, shell: &Shell, caller: &Caller) -> ! {
    rustix::thread::set_name(MONITOR).ok();
    // Before there is a shell, so that its end is not missed however soon that is. As a subreaper we become the parent
    // of what it leaves behind, so that we can hang that up when the shell no longer can.
    sys::set_disposition(Signal::CHILD, Action::Default);
    sys::set_signal_mask(&SignalSet::all_but_faults());
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).ok();
    let signals = match sys::signalfd(&SignalSet::all_but_faults()) {
        Ok(signals) => signals,
        Err(errno) => {
            tell(line, News::NoDescriptor(errno.raw_os_error()));
            sys::exit_now(1)
        }
    };
    let child = match sys::fork() {
        Ok(Some(child)) => child,
        Ok(None) => become_shell(line, shell, caller),
        Err(errno) => {
            tell(line, News::NoProcess(errno.raw_os_error()));
            sys::exit_now(1)
        }
    };
    let terminal = caller
        .takes_terminal
        .then(|| rustix::io::fcntl_dupfd_cloexec(stdin(), 3).ok())
        .flatten();
    // The end of file on the shell's output is to depend on the shell alone.
    sys::close_standard();
    let (mut listening, mut hung_up) = (true, false);
    // Whether the shell already has the signal that nssh is going to pass on.
    let mut has_it = false;
    loop {
        let mut fds = vec![PollFd::new(&signals, PollFlags::IN)];
        if listening {
            fds.push(PollFd::new(line, PollFlags::IN));
        }
        poll(&mut fds, None).ok();
        drop(fds);
        while let Some(signal) = sys::read_signal(signals.as_fd()) {
            match signal.sender {
                _ if signal.number != Signal::TERM.as_raw() => {}
                // Init sends this to everything when the jail ends. A service handles SIGTERM, and a hang-up would kill
                // it, or what it has started, before it has done what it has to; a shell ignores SIGTERM.
                Some(INIT) if shell.is_service => {}
                Some(INIT) => {
                    hung_up = true;
                    hang_up(child);
                }
                // It was for the caller's whole group: for us too, and for the shell unless it leads its own.
                Some(OUTSIDE) => has_it = !sys::leads_group(child),
                _ => {}
            }
        }
        if let Some(end) = look(line, child) {
            rustix::thread::set_name(OVER).ok();
            if hung_up || terminal.as_ref().is_some_and(is_gone) {
                hang_up_the_rest(child, caller);
            }
            tell(line, end);
            sys::exit_now(0);
        }
        while listening && let Some(order) = hear(line) {
            match order {
                Some(Order::Continue) => to_group(child, Signal::CONT),
                Some(Order::Foreground) => {
                    if let Some(terminal) = &terminal
                        && sys::leads_group(child)
                    {
                        sys::set_front(terminal.as_fd(), child.as_raw_nonzero().get()).ok();
                    }
                    to_group(child, Signal::CONT);
                }
                Some(Order::Signal(number)) => {
                    if !std::mem::take(&mut has_it) {
                        sys::kill_number(child, number).ok();
                    }
                }
                // None: nssh has ended, it was killed.
                Some(Order::HangUp) | None => {
                    hung_up = true;
                    hang_up(child);
                    listening = order.is_some();
                }
            }
        }
    }
}

/// The next order; `Some(None)` if nssh is gone.
#[expect(clippy::option_option, reason = "nothing yet, and nothing ever again")]
fn hear(line: &Inner) -> Option<Option<Order>> {
    match line.hear() {
        Heard::Message(bytes) => Some(Some(Order::parse(bytes))),
        Heard::Nothing => None,
        Heard::Gone => Some(None),
    }
}

/// Reaps; reports when the shell stopped, and returns how it ended.
fn look(line: &Inner, child: Pid) -> Option<News> {
    loop {
        let (pid, status) = match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            Ok(Some(news)) => news,
            Err(Errno::INTR) => continue,
            _ => return None,
        };
        if pid != child {
            continue;
        }
        if let Some(number) = status.stopping_signal() {
            tell(line, News::Stopped(number));
        } else if let Some(status) = status.exit_status() {
            return Some(News::Exit(u8::try_from(status).unwrap_or(1)));
        } else if let Some(number) = status.terminating_signal() {
            return Some(News::Killed(number));
        }
    }
}

/// Sends news; it is no error if nssh is gone.
pub fn tell(line: &Inner, news: News) {
    line.tell(news.bytes());
}

/// What the kernel sends to the foreground group of a terminal that is gone, when the leader of its session dies. But
/// that leader is outside, and may live on.
const GONE: [Signal; 2] = [Signal::HUP, Signal::CONT];

/// Tells the shell that its terminal is gone.
fn hang_up(child: Pid) {
    for signal in GONE {
        to_group(child, signal);
    }
}

/// Hangs up what the shell has left behind, unless that has a session of its own. Not while the shell lives: seeing its
/// job end, it would take back a terminal that may have become somebody else's.
fn hang_up_the_rest(child: Pid, caller: &Caller) {
    let [me, child] = [rustix::process::getpid(), child].map(|pid| pid.as_raw_nonzero().get());
    let session = if caller.own_terminal {
        Ok(child)
    } else {
        sys::session_of(0)
    };
    let Ok(session) = session else { return };
    for fd in Processes::now().started_by(me, session, child) {
        for signal in GONE {
            rustix::process::pidfd_send_signal(&fd, signal).ok();
        }
    }
}

/// Whether a terminal is gone.
fn is_gone(terminal: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(terminal, PollFlags::empty())];
    poll(&mut fds, Some(&super::timespec(Duration::ZERO))).is_ok_and(|ready| ready > 0)
}

/// Sends a signal to the shell's process group if the shell leads one, else to the shell: a group from outside is the
/// caller's.
fn to_group(child: Pid, signal: Signal) {
    if sys::leads_group(child) {
        rustix::process::kill_process_group(child, signal).ok();
    } else {
        rustix::process::kill_process(child, signal).ok();
    }
}

/// Turns into the shell, or says why not.
fn become_shell(line: &Inner, shell: &Shell, caller: &Caller) -> ! {
    // If the monitor is killed, nothing else hangs it up.
    rustix::process::set_parent_process_death_signal(Some(Signal::HUP)).ok();
    for (tried, dir) in shell.dirs.iter().enumerate() {
        match go(dir) {
            Ok(()) => break,
            Err(errno) if tried == 0 && shell.misses_home => {
                let error = Err::<(), _>(errno).what(|| format!("cd {}", quote(dir)));
                complain(&error.map_or_else(|error| error.lines("kak: nssh"), |()| String::new()));
            }
            Err(_) => {}
        }
    }
    if caller.own_terminal
        && let Err(errno) = pty::take_terminal()
    {
        tell(line, News::NotRun(errno.raw_os_error()));
        sys::exit_now(126);
    }
    if caller.takes_terminal {
        // All signals are still blocked, so SIGTTOU does not stop us for doing this from the background.
        rustix::process::setpgid(None, None).ok();
        let me = rustix::process::getpid().as_raw_nonzero().get();
        sys::set_front(stdin(), me).ok();
    }
    for (signal, disposition) in &caller.dispositions {
        sys::restore_disposition(*signal, disposition);
    }
    sys::set_signal_mask(&caller.mask);
    if let Some(core) = caller.core {
        rustix::process::setrlimit(Resource::Core, core).ok();
    }
    let errno = sys::execute(&shell.paths, &shell.argv, &shell.env);
    tell(line, News::NotRun(errno.raw_os_error()));
    sys::exit_now(if errno == Errno::NOENT { 127 } else { 126 })
}

/// Changes to this directory of the jail; ENOENT if it cannot be reached from the jail's root.
fn go(dir: &Path) -> rustix::io::Result<()> {
    rustix::process::chdir(dir)?;
    if rustix::process::getcwd(Vec::new())?
        .as_bytes()
        .starts_with(b"/")
    {
        Ok(())
    } else {
        Err(Errno::NOENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back() {
        for news in [
            News::Stopped(20),
            News::Exit(255),
            News::Killed(9),
            News::NotRun(2),
            News::NoProcess(11),
            News::NoDescriptor(24),
        ] {
            assert_eq!(News::parse(news.bytes()), Some(news));
        }
        assert_eq!(News::parse([0; News::SIZE]), None);
        for order in [
            Order::Continue,
            Order::Foreground,
            Order::HangUp,
            Order::Signal(15),
        ] {
            assert_eq!(Order::parse(order.bytes()), order);
        }
    }
}
