//! What nssh and the monitor of its session talk over: a pipe for either direction. Not a socket, though that would be
//! one descriptor instead of two: from one end of a socket the kernel can be asked for the process at the other
//! (SO_PEERPIDFD, SCM_PIDFD), by which the jail's root would get hold of nssh, and through it of what is outside.
//!
//! Messages have a fixed length, so a pipe keeps them apart: writes as short as these are atomic (pipe(7)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::{Errno, Result};
use rustix::pipe::{PipeFlags, pipe_with};

/// nssh's end.
pub struct Outer {
    /// News comes in here.
    news: OwnedFd,
    /// Orders go out here.
    orders: OwnedFd,
    /// Where the monitor reads them. Open here too, so that writing without a monitor raises no SIGPIPE.
    _unread: OwnedFd,
}

/// The monitor's end.
pub struct Inner {
    /// Orders come in here.
    orders: OwnedFd,
    /// News goes out here.
    news: OwnedFd,
}

/// Both ends. Only the monitor ever blocks: until nssh has read its news.
pub fn pair() -> Result<(Outer, Inner)> {
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let ((orders, give_orders), (news, give_news)) =
        (pipe_with(flags)?, pipe_with(PipeFlags::CLOEXEC)?);
    rustix::fs::fcntl_setfl(&news, OFlags::NONBLOCK)?;
    let outer = Outer {
        news,
        orders: give_orders,
        _unread: rustix::io::fcntl_dupfd_cloexec(&orders, 3)?,
    };
    let inner = Inner {
        orders,
        news: give_news,
    };
    Ok((outer, inner))
}

impl AsFd for Outer {
    /// Readable when there is news, or will never be any.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

impl AsFd for Inner {
    /// Readable when there is an order, or will never be one.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.orders.as_fd()
    }
}

impl Outer {
    /// Sends an order; it is no error if the monitor is gone or has not read for long.
    pub fn order<const N: usize>(&self, order: [u8; N]) {
        rustix::io::write(&self.orders, &order).ok();
    }

    /// The next news; see [`hear`].
    pub fn hear<const N: usize>(&self) -> Heard<N> {
        hear(&self.news)
    }

    /// Where orders go.
    pub fn orders(&self) -> BorrowedFd<'_> {
        self.orders.as_fd()
    }
}

impl Inner {
    /// Sends news; it is no error if nssh is gone. If the kernel fails for a moment it is asked again: without news,
    /// nssh takes the jail for gone.
    pub fn tell<const N: usize>(&self, news: [u8; N]) {
        for _ in 0..3 {
            loop {
                match rustix::io::write(&self.news, &news) {
                    Ok(_) | Err(Errno::PIPE) => return,
                    Err(Errno::INTR) => {}
                    Err(_) => break,
                }
            }
        }
    }

    /// The next order; see [`hear`].
    pub fn hear<const N: usize>(&self) -> Heard<N> {
        hear(&self.orders)
    }

    /// Its descriptors.
    pub fn both(&self) -> [BorrowedFd<'_>; 2] {
        [self.orders.as_fd(), self.news.as_fd()]
    }
}

/// What a read has found.
pub enum Heard<const N: usize> {
    /// A message.
    Message([u8; N]),
    /// Nothing yet.
    Nothing,
    /// The other end is closed.
    Gone,
}

/// Reads a message.
pub fn hear<const N: usize>(from: impl AsFd) -> Heard<N> {
    let mut bytes = [0; N];
    match rustix::io::read(from, &mut bytes) {
        Ok(read) if read == N => Heard::Message(bytes),
        Ok(_) | Err(Errno::BADF | Errno::INVAL | Errno::IO) => Heard::Gone,
        // Not yet, or not at the moment.
        Err(_) => Heard::Nothing,
    }
}
