//! A session with a terminal of its own (`kak nssh --pty`): a pty of the jail's, whose master stays with nssh outside.
//!
//! Theory of operation. A process that has a terminal open, and the right, can put words into its input (ioctl_tty(2),
//! TIOCSTI), and the shell outside would read them as typed. So nothing in the jail ever has the caller's terminal, not
//! even for a moment, and nssh itself is never in the jail:
//!
//! 1. A child leaves the caller's session and lets go of the caller's terminal. Then it joins the jail.
//! 2. It opens a pty there, gives it the caller's modes and size, and sends nssh the master over a socket that is
//!    closed before there is a process in the jail. Standard input, output and error are the slave from then on.
//! 3. It leaves a monitor, as for any session, and ends. The shell begins a session of its own on the slave.
//! 4. nssh acts as the terminal of that session: a [`relay`].

mod flow;
pub mod relay;

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::OFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Termios, Winsize};

use super::line::{self, Inner, Outer};
use super::monitor::{self, News};
use super::{process, terminal};
use crate::error::{Error, Result, What as _};
use crate::sys;

/// The message that carries the master.
const MASTER: &[u8] = b"pty";

/// Our end of a session.
pub struct Ends {
    /// The master of its pty.
    pub master: OwnedFd,
    /// The line to its monitor.
    pub line: Outer,
}

/// Starts a session on a terminal of its own. `join` joins the jail, `leave` leaves a monitor there that talks over a
/// line; both run in a child.
pub fn start(
    join: impl FnOnce() -> Result<()>,
    leave: impl FnOnce(&Inner) -> rustix::io::Result<()>,
) -> Result<Ends> {
    let (outer, inner) = line::pair().what(|| "pipe")?;
    let (ours, theirs) = process::channel()?;
    let modes = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok();
    let size = terminal::size();
    if sys::fork().what(|| "fork")?.is_none() {
        drop((ours, outer));
        let sent = let_go()
            .and_then(|()| join())
            .and_then(|()| open(modes, size))
            .and_then(|master| send(&theirs, &master));
        if let Err(error) = sent {
            let text = error.packed();
            rustix::net::send(&theirs, text.as_bytes(), SendFlags::NOSIGNAL).ok();
            sys::exit_now(0);
        }
        drop(theirs);
        if let Err(errno) = leave(&inner) {
            monitor::tell(&inner, News::NoProcess(errno.raw_os_error()));
        }
        sys::exit_now(0);
    }
    drop((theirs, inner));
    receive(&ours).map(|master| Ends {
        master,
        line: outer,
    })
}

/// Leaves the caller's session and terminal.
fn let_go() -> Result<()> {
    rustix::process::setsid().what(|| "setsid")?;
    process::silence().what(|| "exec <>/dev/null")
}

/// Opens a pty of the jail that was joined, and makes its slave the standard descriptors; returns the master.
fn open(modes: Option<Termios>, size: Option<Winsize>) -> Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).what(|| "open /dev/ptmx")?;
    let slave = unlockpt(&master).and_then(|()| ioctl_tiocgptpeer(&master, flags));
    let slave = slave.what(|| "open /dev/pts/*")?;
    let set = || {
        let (user, owner) = (rustix::process::getuid(), rustix::process::geteuid());
        if user != owner {
            rustix::fs::fchown(&slave, Some(user), None)?;
        }
        rustix::termios::tcsetattr(&slave, OptionalActions::Now, &initial(modes, &slave)?)?;
        if let Some(size) = size {
            rustix::termios::tcsetwinsize(&slave, size)?;
        }
        // The relay polls it together with everything else.
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
        rustix::stdio::dup2_stdin(&slave)?;
        rustix::stdio::dup2_stdout(&slave)?;
        rustix::stdio::dup2_stderr(&slave)
    };
    set().what(|| "stty </dev/pts/*")?;
    Ok(master)
}

/// The modes that a pty begins with: those of the caller's terminal. If standard input is no terminal, the pty's own
/// without echo: nobody wants to see that input again.
fn initial(modes: Option<Termios>, slave: &OwnedFd) -> rustix::io::Result<Termios> {
    if let Some(modes) = modes {
        return Ok(modes);
    }
    let mut modes = rustix::termios::tcgetattr(slave)?;
    modes.local_modes -= LocalModes::ECHO;
    Ok(modes)
}

/// Sends the master to nssh.
fn send(socket: &OwnedFd, master: &OwnedFd) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    let fds = [master.as_fd()];
    with.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(MASTER)],
        &mut with,
        SendFlags::NOSIGNAL,
    )
    .what(|| "sendmsg SCM_RIGHTS")
    .map(drop)
}

/// Receives the master, or why there is none.
fn receive(socket: &OwnedFd) -> Result<OwnedFd> {
    let mut text = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let length = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut with, flags)
        .what(|| "recvmsg")?
        .bytes;
    let fd = with.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fd.ok_or_else(|| failure(text.get(..length).unwrap_or_default()))
}

/// Why a session could not be started, as the child told it.
fn failure(text: &[u8]) -> Error {
    if text.is_empty() {
        return Error::text("fork", "the jail is going down");
    }
    Error::unpacked(&String::from_utf8_lossy(text))
}

/// Begins a session on the terminal that is standard input.
pub fn take_terminal() -> rustix::io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
}
