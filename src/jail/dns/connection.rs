//! A connection that the relay passes on, from both sides: whatever comes from one end goes to the other.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// How long a connection may be silent (RFC 7766, section 6.2.3).
pub const IDLE: Duration = Duration::from_secs(30);
/// One direction of a connection.
pub struct Flow {
    /// What is on the way.
    pub bytes: Vec<u8>,
    /// Whether nothing more comes.
    pub over: bool,
}

/// A connection, from both sides.
pub struct Connection {
    /// To the asker, then to the resolver.
    pub ends: [OwnedFd; 2],
    /// What came from each end, for the other.
    pub flows: [Flow; 2],
    /// When it is given up.
    pub until: Instant,
}

impl Connection {
    /// What an end is polled for: reading while nothing from it is on the way, writing while something for it is.
    pub fn interest(&self, end: usize) -> PollFlags {
        let mut flags = PollFlags::empty();
        if self
            .flows
            .get(end)
            .is_some_and(|flow| flow.bytes.is_empty() && !flow.over)
        {
            flags |= PollFlags::IN;
        }
        if self
            .flows
            .get(1 - end)
            .is_some_and(|flow| !flow.bytes.is_empty())
        {
            flags |= PollFlags::OUT;
        }
        flags
    }

    /// Whether both directions have ended and arrived.
    pub fn is_over(&self) -> bool {
        self.flows
            .iter()
            .all(|flow| flow.over && flow.bytes.is_empty())
    }

    /// Moves what can be moved, both ways.
    pub fn pump(&mut self, buffer: &mut [u8]) {
        let [asker, resolver] = &self.ends;
        let [questions, answers] = &mut self.flows;
        let moved = [
            pass(asker, resolver, questions, buffer),
            pass(resolver, asker, answers, buffer),
        ];
        if moved.contains(&true) {
            self.until = Instant::now() + IDLE;
        }
    }
}

/// Moves what can be moved from one end to the other; whether anything was.
fn pass(from: &OwnedFd, to: &OwnedFd, flow: &mut Flow, buffer: &mut [u8]) -> bool {
    let mut moved = false;
    if flow.bytes.is_empty() && !flow.over {
        match rustix::net::recv(from, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                flow.over = true;
                rustix::net::shutdown(to, rustix::net::Shutdown::Write).ok();
            }
            Ok((length, _)) => flow.bytes.extend(buffer.get(..length).unwrap_or_default()),
            // Not connected yet is nothing yet.
            Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => {}
            Err(_) => flow.over = true,
        }
        moved = !flow.bytes.is_empty();
    }
    if !flow.bytes.is_empty() {
        match rustix::net::send(to, &flow.bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(length) => {
                flow.bytes.drain(..length.min(flow.bytes.len()));
                moved = true;
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => {}
            Err(_) => {
                flow.bytes.clear();
                flow.over = true;
            }
        }
    }
    moved
}
