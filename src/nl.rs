//! A netlink socket: requests, dumps and batches, with the kernel's own text for what it refuses. It belongs for good
//! to the network namespace that it was made in: work in another namespace takes another socket, and never means that
//! this process goes there and comes back.

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
    /// Asks for an answer on success, too.
    pub const ACK: u16 = 0x004;
    /// A dump that was not consistent.
    pub const DUMP_INTR: u16 = 0x010;
    /// Extended ack attributes follow.
    pub const ACK_TLVS: u16 = 0x200;
    /// The answer does not repeat the payload of the request.
    pub const CAPPED: u16 = 0x100;
    /// Asks for all objects.
    pub const DUMP: u16 = 0x300;
    /// Fails if the object exists.
    pub const EXCL: u16 = 0x200;
    /// Creates the object if it does not exist.
    pub const CREATE: u16 = 0x400;
    /// Adds the object at the end of the list.
    pub const APPEND: u16 = 0x800;
}

/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG`.
const ERROR_TEXT: Attr<str> = attr(1);

/// How many times a dump is attempted: the kernel's list may change during each.
const ATTEMPTS: usize = 16;

/// A netlink socket.
pub struct Socket {
    /// The descriptor.
    fd: OwnedFd,
    /// The last request's number.
    sequence: u32,
    /// What was received last. In a dump the kernel fills 32 KiB at most (`netlink_dump`), and a single answer is far
    /// smaller.
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
    /// A socket for links, addresses and routes.
    pub fn route() -> Result<Self, Errno> {
        Self::open(None)
    }

    /// A socket for nf_tables.
    pub fn netfilter() -> Result<Self, Errno> {
        Self::open(Some(NETFILTER))
    }

    /// A socket for links, addresses and routes of another network namespace. A child enters it, opens the socket and
    /// ends: the caller never leaves its own, so no error can strand it there.
    pub fn route_in(namespace: BorrowedFd<'_>) -> Result<Self, Errno> {
        sys::elsewhere(|| {
            rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
            Self::route()
        })
    }

    /// A socket of a protocol; none stands for `NETLINK_ROUTE`, which is 0.
    fn open(protocol: Option<Protocol>) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC;
        let fd =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        // Older kernels do not know all of these; without them answers only say less.
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

    /// A socket whose other end is not the kernel.
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
        if self.answers(self.sequence, &mut Vec::new())? {
            Ok(())
        } else {
            // The answer is lost, and with it whether it is done.
            Err(Errno::NOBUFS.into())
        }
    }

    /// Sends a request that is answered by one message, or refused by one.
    pub fn get(&mut self, mut message: Message) -> Result<Option<Row>, Why> {
        self.sequence += 1;
        self.send(message.seal(self.sequence, flags::REQUEST))?;
        loop {
            let length = self.receive(RecvFlags::empty())?.unwrap_or(0);
            let mut answers = Messages(self.buffer.get(..length).unwrap_or_default());
            let Some(answer) = answers.find(|answer| answer.sequence == self.sequence) else {
                // Left over from an earlier request.
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

    /// Asks for all objects of a kind. Starts again if the list changed meanwhile, so the rows are consistent.
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

    /// Sends several changes to nf_tables, which are made together or not at all.
    pub fn batch(&mut self, messages: Vec<Message>) -> Result<(), Why> {
        let first = self.sequence + 1;
        let mut bytes = nft::batch_begin().seal(first, flags::REQUEST).to_vec();
        self.sequence = first;
        let mut left = messages.len();
        for mut message in messages {
            self.sequence += 1;
            left -= 1;
            // A refusal is reported in any case; an answer for every rule might not fit into the socket's buffer.
            let ack = if left == 0 { flags::ACK } else { 0 };
            bytes.extend(message.seal(self.sequence, flags::REQUEST | ack));
        }
        self.sequence += 1;
        bytes.extend(nft::batch_end().seal(self.sequence, flags::REQUEST));
        self.send(&bytes)?;
        // The first refusal, or the last message's success. All answers are queued when send returns.
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

    /// Receives into the buffer; none if there is nothing and `flags` say not to wait.
    fn receive(&mut self, flags: RecvFlags) -> Result<Option<usize>, Errno> {
        loop {
            match rustix::net::recv(&self.fd, self.buffer.as_mut_slice(), flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                other => return other.map(|(length, _)| Some(length)),
            }
        }
    }

    /// Collects the answers to a request; returns whether they are complete and consistent.
    fn answers(&mut self, sequence: u32, rows: &mut Vec<Row>) -> Result<bool, Why> {
        let mut whole = true;
        loop {
            let length = match self.receive(RecvFlags::empty()) {
                // Not all answers fitted into the socket's buffer; some are lost.
                Err(Errno::NOBUFS) => return Ok(false),
                other => other?.unwrap_or(0),
            };
            for message in Messages(self.buffer.get(..length).unwrap_or_default()) {
                if message.sequence != sequence {
                    // Left over from an earlier request.
                    continue;
                }
                whole &= message.flags & flags::DUMP_INTR == 0;
                match message.kind {
                    ERROR => return verdict(message.body, message.flags).map(|()| whole),
                    // A dump's end has a number, too: the error that ended it, or none.
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

/// The error for a negative number, with its extended ack.
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
        // The smallest number has no positive counterpart.
        assert!(verdict(&i32::MIN.to_ne_bytes(), 0).is_err());
    }

    #[test]
    fn an_answer_that_is_lost_is_no_success() {
        // A link without index or name: refused, and changes nothing in any case.
        let refused = || Message::new(link::rtm::GETLINK, 0, &[0; 16]);
        let mut socket = Socket::route().unwrap();
        let sequence = socket.sequence;
        for _ in 0..4096 {
            let mut message = refused();
            let bytes = message.seal(sequence, flags::REQUEST | flags::ACK);
            socket.send(bytes).unwrap();
        }
        let why = socket.request(refused()).unwrap_err();
        assert!(matches!(why, Why::Os(Errno::NOBUFS)), "{why:?}");
    }

    proptest! {
        #[test]
        fn any_bytes(body: Vec<u8>, flags: u16) {
            verdict(&body, flags).ok();
            done(&body, flags).ok();
        }
    }
}
