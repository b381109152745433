//! What the processes of kak have in common: how one waits for another, talks to it, and lets go of the caller's
//! terminal and pipes. None of it knows what a jail is.

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

/// While it lives, children can be waited for: a caller may have us ignore their end, and then the kernel forgets how they
/// ended (wait(2)). Dropped, everything is as it was.
pub struct Parent(Disposition);

impl Parent {
    /// From now on.
    pub fn become_one() -> Self {
        Self(sys::set_disposition(Signal::CHILD, Action::Default))
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        sys::restore_disposition(Signal::CHILD, &self.0);
    }
}

/// How a child ended; none if it is none of ours.
pub fn wait_for(pid: Pid) -> Option<WaitStatus> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            Ok(Some((_, status))) => return Some(status),
            _ => return None,
        }
    }
}

/// Waits for the next child to end; whether there was one.
pub fn reap_one() -> bool {
    match rustix::process::wait(WaitOptions::empty()) {
        Ok(_) | Err(Errno::INTR) => true,
        Err(_) => false,
    }
}

/// The exit status of a child that tells by itself what goes wrong; an error where it could not.
pub fn wait_status(pid: Pid, what: &str) -> Result<u8> {
    match wait_for(pid).map(|status| (status.exit_status(), status.terminating_signal())) {
        Some((Some(status), _)) => Ok(u8::try_from(status).unwrap_or(1)),
        Some((_, Some(number))) => Err(Error::text(what, format!("was killed by signal {number}"))),
        _ => Err(Error::text(what, "ended unseen")),
    }
}

/// What a process says to the one that waits for it: that it is another kak's turn,
const WAITS: u8 = b'w';
/// and that it goes on.
const WORKS: u8 = b'g';
/// Or that it has failed, and why follows.
const FAILED: u8 = b'f';

/// Longer than anybody waits.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// How long nothing is told of somebody who waits for his turn.
const PATIENCE: Duration = Duration::from_secs(3);

/// Tells who waits for us to do `what` whether we wait ourselves. An error if he is gone: nothing has been done by then,
/// and what he was killed over is not done any more when somebody else has been at work since.
pub fn say_turn(channel: &OwnedFd, what: &str, waits: bool) -> Result<()> {
    let byte = if waits { WAITS } else { WORKS };
    match rustix::net::send(channel, &[byte], SendFlags::NOSIGNAL) {
        Err(Errno::PIPE | Errno::CONNRESET) => Err(Error::text(what, "who asked for it is gone")),
        // Who does not hear of it is told nothing of the wait.
        _ => Ok(()),
    }
}

/// What is heard of a process.
pub enum Heard {
    /// It said something other than whose turn it is.
    Word,
    /// It has gone, or has closed its end.
    Nothing,
    /// The limit has come; whether it is another kak's turn.
    Late(bool),
}

/// Listens to a process, and tells if another kak has held it up for some time.
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
            complain("kak: waits for another kak, which is at work on a jail\n");
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

/// Does something that needs [`super::Lock`] in a process that no terminal can stop, and waits for it. A caller that is
/// stopped or killed meanwhile holds nobody up. `what` it is is for the messages. What goes wrong is the caller's error, as
/// it would be without the process between; where he is gone, that tells it.
pub fn apart(what: &str, work: impl FnOnce(Waits<'_>) -> Result<()>) -> Result<()> {
    let (ours, theirs) = channel()?;
    let _parent = Parent::become_one();
    let Some(pid) = sys::fork().what(|| "fork")? else {
        drop(ours);
        rustix::process::setsid().ok();
        let Err(error) = work(&mut |waits| say_turn(&theirs, what, waits)) else {
            sys::exit_now(0)
        };
        // A byte first: who listens for turns takes no more of a message.
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
    // What it has done is done, whether or not we heard of it.
    match wait_status(pid, what)? {
        0 => Ok(()),
        _ => Err(Error::unpacked(&String::from_utf8_lossy(
            text.get(..read?).unwrap_or_default(),
        ))),
    }
}

/// Runs a session in a child that is otherwise all that we are: stopped when it stops, continued with it, and what
/// somebody sends us to end it is sent on; how it ended.
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
    // What the caller has ignored or blocked is not for us, as it is not for the session.
    let mut heard = vec![Signal::HUP, Signal::TERM];
    heard.retain(|signal| !before.has(*signal) && !sys::is_ignored(*signal));
    heard.push(Signal::CHILD);
    // Typed at a terminal, these reach the session without us.
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

/// Two ends that keep the borders of messages and say when the other one is gone.
pub fn channel() -> Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .what(|| "socketpair")
}

/// Standard input and output on /dev/null: whoever waits for an end of file gets it.
pub fn be_deaf() -> rustix::io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)
}

/// Standard error too.
pub fn silence() -> rustix::io::Result<()> {
    be_deaf()?;
    rustix::stdio::dup2_stderr(rustix::stdio::stdout())
}

/// Descriptors 0, 1 and 2 are nobody else's while this is kak: what is opened next would take the number of one that the
/// caller has closed, and be written to or replaced in its place. What they lead to instead can be neither read nor
/// written, as it was, and is closed again in whatever this process becomes.
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
            // Unlike /dev/null it is on every machine.
            let place = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            // The lowest number is the next: there it stays.
            let place = place
                .ok()
                .filter(|place| place.as_raw_fd() == fd.as_raw_fd());
            place.map(OwnedFd::into_raw_fd);
        }
    }
}

/// Descriptors 0, 1 and 2 lead somewhere, and to no directory: that would be a way out of the jail.
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
                // It was closed, and the lowest number is the next: there it stays.
                let _kept = null.into_raw_fd();
            } else {
                replace(null)?;
            }
        }
    }
    Ok(())
}
