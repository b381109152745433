//! What kak's processes have in common: how one waits for another, talks to it, and lets go of the caller's terminal
//! and pipes. Nothing here knows what a jail is.

use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use super::Waits;
use crate::error::{Error, Result, What as _, complain};
use crate::sys::{self, Action, Disposition, SignalSet};

/// While this value lives, children can be waited for: if the caller left SIGCHLD ignored, the kernel would discard how
/// they ended (wait(2)). Dropping it restores the disposition.
pub struct Parent(Disposition);

impl Parent {
    /// Sets SIGCHLD to its default.
    pub fn become_one() -> Self {
        Self(sys::set_disposition(Signal::CHILD, Action::Default))
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        sys::restore_disposition(Signal::CHILD, &self.0);
    }
}

/// Waits for a child and returns how it ended; none if it is not ours.
pub fn wait_for(pid: Pid) -> Option<WaitStatus> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            Ok(Some((_, status))) => return Some(status),
            _ => return None,
        }
    }
}

/// Waits for a child to end; false if there is none.
pub fn reap_one() -> bool {
    match rustix::process::wait(WaitOptions::empty()) {
        Ok(_) | Err(Errno::INTR) => true,
        Err(_) => false,
    }
}

/// Waits for a child that reports its own errors. Returns its exit status, or an error if it was killed.
pub fn wait_status(pid: Pid, what: &str) -> Result<u8> {
    match wait_for(pid).map(|status| (status.exit_status(), status.terminating_signal())) {
        Some((Some(status), _)) => Ok(u8::try_from(status).unwrap_or(1)),
        Some((_, Some(number))) => Err(Error::text(what, format!("was killed by signal {number}"))),
        _ => Err(Error::text(what, "ended, its status is unknown")),
    }
}

/// Message to the process that waits for this one: another kak holds the lock, and this one waits for it.
const WAITS: u8 = b'w';
/// Message: the lock is held, and work goes on.
const WORKS: u8 = b'g';
/// Message: it has failed. The error follows.
const FAILED: u8 = b'f';

/// Longer than anybody waits.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// How long a wait for another kak is not reported.
const PATIENCE: Duration = Duration::from_secs(3);

/// Tells the process that waits for `what` whether we wait ourselves. Fails if it is gone: nothing has been done by
/// then, and an action whose caller was killed must not be done later, when others may have been at work since.
pub fn say_turn(channel: &OwnedFd, what: &str, waits: bool) -> Result<()> {
    let byte = if waits { WAITS } else { WORKS };
    match rustix::net::send(channel, &[byte], SendFlags::NOSIGNAL) {
        Err(Errno::PIPE | Errno::CONNRESET) => Err(Error::text(what, "its caller is gone")),
        // Any other error only costs the caller the news of the wait.
        _ => Ok(()),
    }
}

/// What came from a process.
pub enum Heard {
    /// A message other than [`WAITS`] and [`WORKS`].
    Word,
    /// It has gone, or has closed its end.
    Nothing,
    /// The limit is over; whether the process is waiting for another kak.
    Late(bool),
}

/// Waits for a process's message, and prints a note if another kak has held it up for some time.
pub fn listen(channel: &OwnedFd, limit: Option<Duration>) -> Result<Heard> {
    let start = Instant::now();
    let (mut waits, mut told) = (false, false);
    loop {
        let rest = limit.map_or(FOR_EVER, |limit| limit.saturating_sub(start.elapsed()));
        let patience = if waits && !told {
            rest.min(PATIENCE)
        } else {
            rest
        };
        if !super::wait_readable(channel.as_fd(), patience) {
            if patience == rest {
                return Ok(Heard::Late(waits));
            }
            complain("kak: waiting for another kak, which is at work on a jail\n");
            told = true;
            continue;
        }
        let mut byte = [0];
        match rustix::net::recv(channel, &mut byte, RecvFlags::empty()) {
            Ok((1, _)) => match byte {
                [WAITS] => waits = true,
                [WORKS] => waits = false,
                _ => return Ok(Heard::Word),
            },
            Ok(_) | Err(Errno::CONNRESET) => return Ok(Heard::Nothing),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).what(|| "recv"),
        }
    }
}

/// A wait status as a number: the exit status, or 128 and the signal.
pub fn status_number(status: WaitStatus) -> u8 {
    let number = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(number).unwrap_or(1)
}

/// Runs `work`, which needs [`super::Lock`], in a child that no terminal can stop, and waits for it: a caller that is
/// stopped or killed meanwhile holds nobody up. `what` names the work in messages. An error of the child's is returned
/// as if it had happened here; if the caller is gone, the child prints it.
pub fn apart(what: &str, work: impl FnOnce(Waits<'_>) -> Result<()>) -> Result<()> {
    let (ours, theirs) = channel()?;
    let _parent = Parent::become_one();
    let Some(pid) = sys::fork().what(|| "fork")? else {
        drop(ours);
        rustix::process::setsid().ok();
        let Err(error) = work(&mut |waits| say_turn(&theirs, what, waits)) else {
            sys::exit_now(0)
        };
        // The byte is a message of its own: `listen` reads one byte of each and drops the rest.
        let text = error.packed();
        let say = |message| rustix::net::send(&theirs, message, SendFlags::NOSIGNAL);
        if say(&[FAILED]).and_then(|_| say(text.as_bytes())).is_err() {
            complain(&error.lines("kak"));
        }
        sys::exit_now(1)
    };
    drop(theirs);
    let mut text = [0; 4096];
    let read = listen(&ours, None).and_then(|heard| match heard {
        Heard::Word => rustix::net::recv(&ours, &mut text, RecvFlags::empty())
            .map(|(read, _)| read)
            .what(|| "recv"),
        _ => Ok(0),
    });
    // The exit status decides: what the child has done is done, whether or not its message arrived.
    match wait_status(pid, what)? {
        0 => Ok(()),
        _ => Err(Error::unpacked(&String::from_utf8_lossy(
            text.get(..read?).unwrap_or_default(),
        ))),
    }
}

/// Runs a session in a child and follows it: stops when it stops, continues it when continued, and passes on the
/// signals that are sent to end us. Returns how it ended.
pub fn in_place_of(session: impl FnOnce() -> u8) -> Result<WaitStatus> {
    let parent = Parent::become_one();
    let before = sys::block_signals(&SignalSet::of(&[
        Signal::CHILD,
        Signal::HUP,
        Signal::TERM,
        Signal::TSTP,
        Signal::TTIN,
        Signal::TTOU,
    ]));
    // Signals that the caller has ignored or blocked are not passed on: the session ignores or blocks them too.
    let mut heard = vec![Signal::HUP, Signal::TERM];
    heard.retain(|signal| !before.has(*signal) && !sys::is_ignored(*signal));
    heard.push(Signal::CHILD);
    // When typed at a terminal, these reach the session without us.
    let (int, quit) = (
        sys::set_disposition(Signal::INT, Action::Ignore),
        sys::set_disposition(Signal::QUIT, Action::Ignore),
    );
    let as_before = || {
        sys::restore_disposition(Signal::INT, &int);
        sys::restore_disposition(Signal::QUIT, &quit);
        sys::set_signal_mask(&before);
    };
    let Some(pid) = sys::fork().what(|| "fork")? else {
        as_before();
        drop(parent);
        sys::exit_now(session())
    };
    let signals = sys::signalfd(&SignalSet::of(&heard)).what(|| "signalfd")?;
    let ended = loop {
        poll(&mut [PollFd::new(&signals, PollFlags::IN)], None).ok();
        while let Some(signal) = sys::read_signal(signals.as_fd()) {
            if signal.number != Signal::CHILD.as_raw() {
                sys::kill_number(pid, signal.number).ok();
            }
        }
        let options = WaitOptions::UNTRACED | WaitOptions::NOHANG;
        match retry_on_intr(|| rustix::process::waitpid(Some(pid), options)) {
            Ok(Some((_, status))) => match status.stopping_signal() {
                Some(number) => {
                    super::terminal::stop(number);
                    rustix::process::kill_process(pid, Signal::CONT).ok();
                }
                None => break status,
            },
            Ok(None) => {}
            Err(errno) => return Err(errno).what(|| "waitpid"),
        }
    };
    as_before();
    Ok(ended)
}

/// A socket pair that keeps message boundaries, and reports when the other end is gone.
pub fn channel() -> Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .what(|| "socketpair")
}

/// Points standard input and output to /dev/null: whoever waits for an end of file on the old ones gets it.
pub fn be_deaf() -> rustix::io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)
}

/// The same, and standard error.
pub fn silence() -> rustix::io::Result<()> {
    be_deaf()?;
    rustix::stdio::dup2_stderr(rustix::stdio::stdout())
}

/// Opens something on each of descriptors 0, 1 and 2 that the caller has closed: the next file opened would otherwise
/// get that number, and be read, written or replaced as a standard stream. As with a closed one, what is opened
/// (O_PATH) can be neither read nor written, and is closed when this process executes another program.
pub fn fill_standard_descriptors() {
    use rustix::stdio::{stderr, stdin, stdout};
    let standard = [stdin(), stdout(), stderr()];
    let mut fds = standard.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    let at_once = rustix::event::Timespec::default();
    if poll(&mut fds, Some(&at_once)) == Ok(0) {
        return;
    }
    for (fd, seen) in standard.iter().zip(fds) {
        if seen.revents().contains(PollFlags::NVAL) {
            // Unlike /dev/null, it is on every machine.
            let place = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            // open(2) returns the lowest free number, which is this one.
            let place = place
                .ok()
                .filter(|place| place.as_raw_fd() == fd.as_raw_fd());
            place.map(OwnedFd::into_raw_fd);
        }
    }
}

/// Opens /dev/null on each of descriptors 0, 1 and 2 that is closed, or a directory: a way out of the jail.
pub fn keep_standard_descriptors() -> rustix::io::Result<()> {
    type Replace = fn(OwnedFd) -> rustix::io::Result<()>;
    use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};
    let unfit = |fd| {
        let stat = rustix::fs::fstat(fd);
        stat.map_or(true, |stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        })
    };
    let standard: [(_, Replace); 3] = [
        (stdin(), dup2_stdin),
        (stdout(), dup2_stdout),
        (stderr(), dup2_stderr),
    ];
    for (fd, replace) in standard {
        if unfit(fd) {
            let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
            if null.as_raw_fd() == fd.as_raw_fd() {
                // It was closed, and open(2) has returned this very number.
                let _kept = null.into_raw_fd();
            } else {
                replace(null)?;
            }
        }
    }
    Ok(())
}
