//! A netlink socket: requests, dumps and batches, with the kernel's own words for what it refuses. It belongs to the
//! network namespace that it was made in, for good: to work in another namespace means to have another socket, never to
//! go there and come back.

pub mod conntrack;
#[cfg(test)]
pub mod golden;
pub mod link;
pub mod message;
pub mod nft;
pub mod nsid;
pub mod route;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::LinkNameSpaceType;

use crate::error::Why;
use crate::sys;
use message::{Attr, Attrs, Message, Messages, attr};

/// linux/netlink.h: `NLM_F_*`.
pub mod flags {
    /// Every request.
    pub const REQUEST: u16 = 0x001;
    /// Wants an answer even if all went well.
    pub const ACK: u16 = 0x004;
    /// A dump that was not consistent.
    pub const DUMP_INTR: u16 = 0x010;
    /// Extended ack attributes follow.
    pub const ACK_TLVS: u16 = 0x200;
    /// The payload of the request is not repeated.
    pub const CAPPED: u16 = 0x100;
    /// All of them.
    pub const DUMP: u16 = 0x300;
    /// An error if it is there.
    pub const EXCL: u16 = 0x200;
    /// Made if it is not.
    pub const CREATE: u16 = 0x400;
    /// At the end of the list.
    pub const APPEND: u16 = 0x800;
}

/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG`.
const ERROR_TEXT: Attr<str> = attr(1);

/// How often a dump is begun anew because the kernel's list changed under it.
const ATTEMPTS: usize = 16;

/// A netlink socket.
pub struct Socket {
    /// The descriptor.
    fd: OwnedFd,
    /// The last request's number.
    sequence: u32,
    /// What was received last. 32 KiB are what the kernel fills at most in a dump (`netlink_dump`), and a single answer
    /// is far smaller.
    buffer: Vec<u8>,
}

/// One message of a dump.
pub struct Row {
    /// Its type.
    pub kind: u16,
    /// What comes after the header.
    pub body: Vec<u8>,
}

impl Socket {
    /// For links, addresses and routes.
    pub fn route() -> Result<Self, Errno> {
        Self::open(None)
    }

    /// For nf_tables.
    pub fn netfilter() -> Result<Self, Errno> {
        Self::open(Some(NETFILTER))
    }

    /// For links, addresses and routes of another network namespace. A child goes there, opens the socket and ends:
    /// the caller never leaves, so nothing can strand it.
    pub fn route_in(namespace: BorrowedFd<'_>) -> Result<Self, Errno> {
        sys::elsewhere(|| {
            rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
            Self::route()
        })
    }

    /// A socket of a protocol; `NETLINK_ROUTE` is 0, which here is none.
    fn open(protocol: Option<Protocol>) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC;
        let fd =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        // Older kernels know less; what they do not know only makes answers poorer.
        for option in [
            libc::NETLINK_EXT_ACK,
            libc::NETLINK_CAP_ACK,
            libc::NETLINK_GET_STRICT_CHK,
        ] {
            sys::netlink_option(fd.as_fd(), option).ok();
        }
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// One with somebody else at the other end than the kernel.
    #[cfg(fuzzing)]
    pub fn over(fd: OwnedFd) -> Self {
        let (sequence, buffer) = (0, vec![0; 64 * 1024]);
        Self {
            fd,
            sequence,
            buffer,
        }
    }

    /// Sends a request and waits until the kernel says that it is done.
    pub fn request(&mut self, mut message: Message) -> Result<(), Why> {
        self.sequence += 1;
        self.send(message.seal(self.sequence, flags::REQUEST | flags::ACK))?;
        self.answers(self.sequence, &mut Vec::new()).map(drop)
    }

    /// Sends a request that is answered by one message, or refused by one.
    pub fn get(&mut self, mut message: Message) -> Result<Option<Row>, Why> {
        self.sequence += 1;
        self.send(message.seal(self.sequence, flags::REQUEST))?;
        loop {
            let length = self.receive(RecvFlags::empty())?.unwrap_or(0);
            let mut answers = Messages(self.buffer.get(..length).unwrap_or_default());
            let Some(answer) = answers.find(|answer| answer.sequence == self.sequence) else {
                // The rest of an answer that nobody waited for.
                continue;
            };
            if answer.kind == ERROR {
                return verdict(answer.body, answer.flags).map(|()| None);
            }
            return Ok(Some(Row {
                kind: answer.kind,
                body: answer.body.to_vec(),
            }));
        }
    }

    /// Asks for all there is of a kind. Begun anew if the list changed meanwhile, so the rows belong together.
    pub fn dump(&mut self, mut message: Message) -> Result<Vec<Row>, Why> {
        for _ in 0..ATTEMPTS {
            self.sequence += 1;
            self.send(message.seal(self.sequence, flags::REQUEST | flags::DUMP))?;
            let mut rows = Vec::new();
            if self.answers(self.sequence, &mut rows)? {
                return Ok(rows);
            }
        }
        Err(Why::Text(
            "the kernel's list changes faster than it can be read".into(),
        ))
    }

    /// Sends several changes of nf_tables that are made together or not at all.
    pub fn batch(&mut self, messages: Vec<Message>) -> Result<(), Why> {
        let first = self.sequence + 1;
        let mut bytes = nft::batch_begin().seal(first, flags::REQUEST).to_vec();
        self.sequence = first;
        let mut left = messages.len();
        for mut message in messages {
            self.sequence += 1;
            left -= 1;
            // What is refused is told in any case; as many answers as there can be rules, the socket would not hold.
            let ack = if left == 0 { flags::ACK } else { 0 };
            bytes.extend(message.seal(self.sequence, flags::REQUEST | ack));
        }
        self.sequence += 1;
        bytes.extend(nft::batch_end().seal(self.sequence, flags::REQUEST));
        self.send(&bytes)?;
        // Whatever was refused, and that or the last one's success. All answers are there when send returns.
        let mut result = Ok(());
        while let Some(length) = self.receive(RecvFlags::DONTWAIT)? {
            for message in Messages(self.buffer.get(..length).unwrap_or_default()) {
                if message.kind == ERROR && message.sequence >= first && result.is_ok() {
                    result = verdict(message.body, message.flags);
                }
            }
        }
        result
    }

    /// Sends bytes to the kernel.
    fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        loop {
            match rustix::net::send(&self.fd, bytes, SendFlags::empty()) {
                Err(Errno::INTR) => {}
                other => return other.map(drop),
            }
        }
    }

    /// Receives into the buffer; none if there is nothing and we do not wait.
    fn receive(&mut self, flags: RecvFlags) -> Result<Option<usize>, Errno> {
        loop {
            match rustix::net::recv(&self.fd, self.buffer.as_mut_slice(), flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                other => return other.map(|(length, _)| Some(length)),
            }
        }
    }

    /// Collects the answers to a request; whether they belong together.
    fn answers(&mut self, sequence: u32, rows: &mut Vec<Row>) -> Result<bool, Why> {
        let mut whole = true;
        loop {
            let length = match self.receive(RecvFlags::empty()) {
                // The kernel had more to say than the socket holds; what it said is not all.
                Err(Errno::NOBUFS) => return Ok(false),
                other => other?.unwrap_or(0),
            };
            for message in Messages(self.buffer.get(..length).unwrap_or_default()) {
                if message.sequence != sequence {
                    // The rest of an answer that nobody waited for.
                    continue;
                }
                whole &= message.flags & flags::DUMP_INTR == 0;
                match message.kind {
                    ERROR => return verdict(message.body, message.flags).map(|()| whole),
                    // A dump's end is a number too: of the error that ended it.
                    DONE => return done(message.body, message.flags).map(|()| whole),
                    kind => rows.push(Row {
                        kind,
                        body: message.body.to_vec(),
                    }),
                }
            }
        }
    }
}

/// What an `NLMSG_ERROR` says: `struct nlmsgerr`, then the request or its header, then attributes.
fn verdict(body: &[u8], flags: u16) -> Result<(), Why> {
    let number = body
        .get(..4)
        .and_then(|raw| raw.try_into().ok())
        .map_or(0, i32::from_ne_bytes);
    let request = if flags & flags::CAPPED != 0 {
        message::HEADER
    } else {
        let length = body
            .get(4..8)
            .and_then(|raw| raw.try_into().ok())
            .map_or(0, u32::from_ne_bytes);
        usize::try_from(length)
            .unwrap_or(usize::MAX)
            .max(message::HEADER)
    };
    let attributes = body.get(4_usize.saturating_add(request)..);
    refused(number, attributes.filter(|_| flags & flags::ACK_TLVS != 0))
}

/// What an `NLMSG_DONE` says: an errno, then attributes.
fn done(body: &[u8], flags: u16) -> Result<(), Why> {
    let number = body
        .get(..4)
        .and_then(|raw| raw.try_into().ok())
        .map_or(0, i32::from_ne_bytes);
    refused(
        number,
        body.get(4..).filter(|_| flags & flags::ACK_TLVS != 0),
    )
}

/// An error of a negative number and its extended ack.
fn refused(number: i32, attributes: Option<&[u8]>) -> Result<(), Why> {
    if number >= 0 {
        return Ok(());
    }
    // MAX_ERRNO, linux/err.h: what is beyond is no errno.
    let errno = number
        .checked_neg()
        .filter(|errno| *errno < 4096)
        .map_or(Errno::IO, Errno::from_raw_os_error);
    let text = attributes
        .and_then(|bytes| Attrs(bytes).get(ERROR_TEXT))
        .unwrap_or_default();
    Err(Why::Kernel(errno, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_own_words() {
        let mut body = (-17_i32).to_ne_bytes().to_vec();
        body.extend([0; message::HEADER]);
        body.extend([9, 0, 1, 0]);
        body.extend(b"oops\0\0\0\0");
        let why = verdict(&body, flags::CAPPED | flags::ACK_TLVS).unwrap_err();
        assert!(matches!(why, Why::Kernel(Errno::EXIST, text) if text == "oops"));
        assert!(verdict(&[0; 20], flags::CAPPED).is_ok());
        // The smallest number has no opposite.
        assert!(verdict(&i32::MIN.to_ne_bytes(), 0).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes(body: Vec<u8>, flags: u16) {
            verdict(&body, flags).ok();
            done(&body, flags).ok();
        }
    }
}
