//! What a relay waits with: bytes that are on their way, within fixed room, and things that are tried again.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How much is held for either direction.
pub const ROOM: usize = 16 * 1024;
/// How long to wait before something is tried again, at first,
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// and at last.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Bytes that have been read and not been written.
pub struct Flow {
    /// Room.
    bytes: Vec<u8>,
    /// From here
    start: usize,
    /// to here.
    end: usize,
}

impl Flow {
    /// None.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; ROOM],
            start: 0,
            end: 0,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether no more fit.
    pub fn is_full(&self) -> bool {
        self.end == ROOM
    }

    /// Reads once; how many came.
    pub fn fill(&mut self, from: BorrowedFd<'_>) -> rustix::io::Result<usize> {
        let room = self.bytes.get_mut(self.end..).unwrap_or_default();
        let read = rustix::io::read(from, room)?;
        self.end += read;
        Ok(read)
    }

    /// Writes once, so many at most.
    pub fn drain(&mut self, to: BorrowedFd<'_>, most: usize) -> rustix::io::Result<()> {
        let end = self.end.min(self.start + most);
        let bytes = self.bytes.get(self.start..end).unwrap_or_default();
        self.start += rustix::io::write(to, bytes)?;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        Ok(())
    }

    /// One byte more.
    pub fn push(&mut self, byte: u8) {
        if let Some(room) = self.bytes.get_mut(self.end) {
            *room = byte;
            self.end += 1;
        }
    }
}

/// Something that is tried again and again, ever more seldom.
#[derive(Clone, Copy)]
pub struct Again {
    /// When.
    pub at: Instant,
    /// How long to wait after that.
    wait: Duration,
}

impl Again {
    /// Soon.
    pub fn soon() -> Self {
        Self {
            at: Instant::now() + FIRST_LOOK,
            wait: FIRST_LOOK,
        }
    }

    /// Later.
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
