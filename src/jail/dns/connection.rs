//! A TCP connection that the relay passes on, with both its sides: whatever comes from one end goes to the other, and
//! when one is closed or breaks, so does the other. Each direction holds a buffer's worth at most.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::{Errno, Result};
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketType, sockopt};

use super::door::socket;

/// How long a connection may be silent (RFC 7766, section 6.2.3).
const IDLE: Duration = Duration::from_secs(30);

/// One side of a connection.
struct End {
    /// The socket.
    fd: OwnedFd,
    /// What it is watched for.
    watched: EventFlags,
    /// What came from it and could not be passed on yet.
    bytes: Vec<u8>,
    /// Whether nothing more comes from it.
    over: bool,
}

/// A connection, from both sides.
pub struct Connection {
    /// The asker's, then the resolver's.
    ends: [End; 2],
    /// Whether the resolver has accepted it.
    connected: bool,
    /// When it is given up.
    pub until: Instant,
}

impl Connection {
    /// Takes an asker's connection, and opens another to the resolver.
    pub fn new(asker: OwnedFd, resolver: SocketAddr) -> Result<Self> {
        let outside = socket(resolver, SocketType::STREAM)?;
        match rustix::net::connect(&outside, &resolver) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => {
                abort(&asker);
                return Err(errno);
            }
        }
        let end = |fd| End {
            fd,
            watched: EventFlags::empty(),
            bytes: Vec::new(),
            over: false,
        };
        Ok(Self {
            ends: [end(asker), end(outside)],
            connected: false,
            until: Instant::now() + IDLE,
        })
    }

    /// Moves what can be moved, both ways, and watches both ends for what is to come next; false if nothing is.
    pub fn pump(&mut self, epoll: &OwnedFd, data: EventData, buffer: &mut [u8]) -> bool {
        self.turn(epoll, data, buffer).unwrap_or_else(|_| {
            // An end that is still there is to see a reset, not a close.
            self.ends.iter().for_each(|end| abort(&end.fd));
            false
        })
    }

    /// See [`Connection::pump`].
    fn turn(&mut self, epoll: &OwnedFd, data: EventData, buffer: &mut [u8]) -> Result<bool> {
        let [asker, outside] = &mut self.ends;
        if !self.connected {
            sockopt::socket_error(&outside.fd)??;
            // An unconnected socket has no peer.
            self.connected = rustix::net::getpeername(&outside.fd).is_ok();
        }
        if !self.connected {
            return watch(epoll, data, outside, EventFlags::OUT).map(|()| true);
        }
        let moved = [pass(asker, outside, buffer)?, pass(outside, asker, buffer)?];
        if moved.contains(&true) {
            self.until = Instant::now() + IDLE;
        }
        let waits = |from: &End| {
            if from.bytes.is_empty() && !from.over {
                EventFlags::IN
            } else {
                EventFlags::empty()
            }
        };
        let brings = |to: &End| {
            if to.bytes.is_empty() {
                EventFlags::empty()
            } else {
                EventFlags::OUT
            }
        };
        let wanted = [
            waits(asker) | brings(outside),
            waits(outside) | brings(asker),
        ];
        watch(epoll, data, asker, wanted[0])?;
        watch(epoll, data, outside, wanted[1])?;
        Ok(wanted.iter().any(|wanted| !wanted.is_empty()))
    }
}

/// Makes closing this end reset the connection (SO_LINGER), so that its peer sees a break.
fn abort(fd: &OwnedFd) {
    sockopt::set_socket_linger(fd, Some(Duration::ZERO)).ok();
}

/// Watches an end, unless nothing is wanted of it: the kernel would report again and again that it is closed.
fn watch(epoll: &OwnedFd, data: EventData, end: &mut End, wanted: EventFlags) -> Result<()> {
    if end.watched == wanted {
        return Ok(());
    }
    if wanted.is_empty() {
        epoll::delete(epoll, &end.fd)?;
    } else if end.watched.is_empty() {
        epoll::add(epoll, &end.fd, data, wanted)?;
    } else {
        epoll::modify(epoll, &end.fd, data, wanted)?;
    }
    end.watched = wanted;
    Ok(())
}

/// Moves what can be moved from one end to the other; whether anything was.
fn pass(from: &mut End, to: &End, buffer: &mut [u8]) -> Result<bool> {
    let mut moved = false;
    if from.bytes.is_empty() && !from.over {
        match rustix::net::recv(&from.fd, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                from.over = true;
                rustix::net::shutdown(&to.fd, Shutdown::Write)?;
                return Ok(true);
            }
            Ok((length, _)) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                let sent = send(to, bytes)?;
                from.bytes.extend(bytes.get(sent..).unwrap_or_default());
                return Ok(true);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    } else if !from.bytes.is_empty() {
        let sent = send(to, &from.bytes)?;
        moved = sent > 0;
        if sent == from.bytes.len() {
            // The memory is freed too: most connections never need any.
            from.bytes = Vec::new();
        } else {
            from.bytes.drain(..sent);
        }
    }
    Ok(moved)
}

/// How much of it could be sent.
fn send(to: &End, bytes: &[u8]) -> Result<usize> {
    match rustix::net::send(&to.fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        other => other,
    }
}
