//! The numbers by which a network namespace knows others (linux/net_namespace.h). A number belongs to a pair: what one
//! namespace calls 7, another calls something else or nothing. The kernel knows no names.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;

use super::message::{Attrs, Message};
use super::{Row, Socket};
use crate::error::Why;

/// `RTM_*`, linux/rtnetlink.h.
mod rtm {
    /// `RTM_NEWNSID`.
    pub(super) const NEWNSID: u16 = 88;
    /// `RTM_GETNSID`.
    pub(super) const GETNSID: u16 = 90;
}

/// `NETNSA_*`.
mod netnsa {
    use crate::nl::message::{Attr, attr};
    /// `NETNSA_NSID`.
    pub(super) const NSID: Attr<i32> = attr(1);
    /// `NETNSA_FD`.
    pub(super) const FD: Attr<u32> = attr(3);
    /// `NETNSA_TARGET_NSID`.
    pub(super) const TARGET_NSID: Attr<i32> = attr(4);
    /// `NETNSA_CURRENT_NSID`.
    pub(super) const CURRENT_NSID: Attr<i32> = attr(5);
}

/// `struct rtgenmsg`: the family, which is `AF_UNSPEC`.
const ANY: [u8; 1] = [0];

/// The numbers of a namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Numbers {
    /// In the namespace that was asked about, if it has one there.
    pub target: Option<i32>,
    /// In the socket's namespace; only sent if another one was asked about.
    pub current: Option<i32>,
}

impl Numbers {
    /// Reads an `RTM_NEWNSID`.
    fn read(row: &Row) -> Option<Self> {
        let attrs = Attrs(row.body.get(4..)?);
        // NETNSA_NSID_NOT_ASSIGNED is -1.
        let number = |attr| attrs.get(attr).filter(|number| *number >= 0);
        (row.kind == rtm::NEWNSID).then(|| Self {
            target: number(netnsa::NSID),
            current: number(netnsa::CURRENT_NSID),
        })
    }
}

/// The request that gives a namespace a number; -1 leaves the choice to the kernel.
fn new_number(namespace: u32, number: i32) -> Message {
    Message::new(rtm::NEWNSID, 0, &ANY)
        .put(netnsa::FD, &namespace)
        .put(netnsa::NSID, &number)
}

/// The request for a namespace's number.
fn get_number(namespace: u32) -> Message {
    Message::new(rtm::GETNSID, 0, &ANY).put(netnsa::FD, &namespace)
}

/// `ip netns set NAME NUMBER`, by the namespace's descriptor.
pub fn set(socket: &mut Socket, namespace: BorrowedFd<'_>, number: i32) -> Result<(), Why> {
    socket.request(new_number(descriptor(namespace)?, number))
}

/// A namespace's number. Asking does not give it one.
pub fn of(socket: &mut Socket, namespace: BorrowedFd<'_>) -> Result<Option<i32>, Why> {
    let row = socket.get(get_number(descriptor(namespace)?))?;
    Ok(row
        .as_ref()
        .and_then(Numbers::read)
        .and_then(|numbers| numbers.target))
}

/// Looks up a number of the namespace with the number `target`, or of the socket's.
pub fn find(socket: &mut Socket, number: i32, target: Option<i32>) -> Result<Numbers, Why> {
    let mut message = Message::new(rtm::GETNSID, 0, &ANY).put(netnsa::NSID, &number);
    if let Some(target) = target {
        message = message.put(netnsa::TARGET_NSID, &target);
    }
    let row = socket.get(message)?;
    row.as_ref()
        .and_then(Numbers::read)
        .ok_or_else(|| Errno::PROTO.into())
}

/// All numbers of the namespace with the number `target`, or of the socket's, in ascending order.
pub fn all(socket: &mut Socket, target: Option<i32>) -> Result<Vec<Numbers>, Why> {
    let mut message = Message::new(rtm::GETNSID, 0, &ANY);
    if let Some(target) = target {
        message = message.put(netnsa::TARGET_NSID, &target);
    }
    Ok(socket
        .dump(message)?
        .iter()
        .filter_map(Numbers::read)
        .collect())
}

/// A descriptor as an attribute has it.
fn descriptor(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nl::flags;
    use crate::nl::golden::{recorded, tree};
    use proptest::prelude::*;

    /// The descriptor that ip had.
    const FD: u32 = 6;

    #[test]
    fn what_ip_sends() {
        for (text, mut message, more) in [
            (
                include_str!("../../tests/golden/nsid-set.nl"),
                new_number(FD, 12),
                flags::REQUEST | flags::ACK,
            ),
            (
                include_str!("../../tests/golden/nsid-get.nl"),
                get_number(FD),
                flags::REQUEST,
            ),
        ] {
            let bytes = recorded(text);
            assert_eq!(tree(message.seal(0, more), 4), tree(&bytes, 4), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(kind: u16, body: Vec<u8>) {
            Numbers::read(&Row { kind, body });
        }
    }
}
