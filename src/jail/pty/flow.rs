//! The relay's parts: a buffer of fixed size for bytes in transit, and retries at growing intervals.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How many bytes are held for either direction.
pub const ROOM: usize = 16 * 1024;
/// The wait before the first retry.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// The longest wait before a retry.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Bytes that have been read and not been written.
pub struct Flow {
    /// The buffer.
    bytes: Vec<u8>,
    /// Where the bytes begin.
    start: usize,
    /// Where they end.
    end: usize,
}

impl Flow {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; ROOM],
            start: 0,
            end: 0,
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether no more fit.
    pub fn is_full(&self) -> bool {
        self.end == ROOM
    }

    /// Reads once; returns how many bytes came.
    pub fn fill(&mut self, from: BorrowedFd<'_>) -> rustix::io::Result<usize> {
        let room = self.bytes.get_mut(self.end..).unwrap_or_default();
        let read = rustix::io::read(from, room)?;
        self.end += read;
        Ok(read)
    }

    /// Writes once, `most` bytes at most.
    pub fn drain(&mut self, to: BorrowedFd<'_>, most: usize) -> rustix::io::Result<()> {
        let end = self.end.min(self.start + most);
        let bytes = self.bytes.get(self.start..end).unwrap_or_default();
        self.start += rustix::io::write(to, bytes)?;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        Ok(())
    }

    /// Adds a byte, if there is room.
    pub fn push(&mut self, byte: u8) {
        if let Some(room) = self.bytes.get_mut(self.end) {
            *room = byte;
            self.end += 1;
        }
    }
}

/// Something that is tried again, at growing intervals.
#[derive(Clone, Copy)]
pub struct Again {
    /// When to try.
    pub at: Instant,
    /// How long the wait until then is.
    wait: Duration,
}

impl Again {
    /// The first retry.
    pub fn soon() -> Self {
        Self {
            at: Instant::now() + FIRST_LOOK,
            wait: FIRST_LOOK,
        }
    }

    /// The next retry, after twice the wait.
    pub fn later(self) -> Self {
        let wait = (self.wait * 2).min(LAST_LOOK);
        Self {
            at: Instant::now() + wait,
            wait,
        }
    }

    /// Whether it is time.
    pub fn is_due(self) -> bool {
        self.at <= Instant::now()
    }
}
