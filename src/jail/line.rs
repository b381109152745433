//! What nssh and the monitor of its session talk over: a pipe for either direction. Not a socket, though that would be one
//! descriptor instead of two: whoever has one end of a socket can ask the kernel for the process at the other
//! (SO_PEERPIDFD, SCM_PIDFD), which is how the jail's root would get hold of nssh, and by it of what is outside.
//!
//! Messages have a fixed length, so that a pipe keeps them apart: it takes and gives such short ones whole (pipe(7)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::{Errno, Result};
use rustix::pipe::{PipeFlags, pipe_with};

/// nssh's end.
pub struct Outer {
    /// News come here.
    news: OwnedFd,
    /// Orders go here,
    orders: OwnedFd,
    /// and are read from here, by the monitor. That it is open here too keeps SIGPIPE from us when there is no monitor.
    _unread: OwnedFd,
}

/// The monitor's end.
pub struct Inner {
    /// Orders come here.
    orders: OwnedFd,
    /// News go here.
    news: OwnedFd,
}

/// Both ends. Only the monitor ever waits in a call: for nssh to hear its news.
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
    /// What can be read when there is news, or will never be any.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

impl AsFd for Inner {
    /// What can be read when there is an order, or will never be one.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.orders.as_fd()
    }
}

impl Outer {
    /// Sends an order; that nobody listens, or has for long, is no error.
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
    /// Sends news; that nobody listens any more is no error. Where the kernel could not for a moment it is asked again: who
    /// hears nothing takes the jail for gone.
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

/// What is heard.
pub enum Heard<const N: usize> {
    /// This.
    Message([u8; N]),
    /// Nothing yet.
    Nothing,
    /// Nobody is there any more.
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
