//! Connection tracking (linux/netfilter/nfnetlink_conntrack.h): only how the entries of UDP flows are deleted, which is
//! all that is done with it here. All numbers but the filter's flags are in network byte order.

use std::net::IpAddr;

use super::Socket;
use super::message::{Attr, Attrs, Message, Nest, attr};
use super::nft::Family;
use crate::error::Why;

/// `NFNL_SUBSYS_CTNETLINK`, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 1 << 8;
/// `IPCTNL_MSG_CT_GET`.
const GET: u16 = SUBSYSTEM | 1;
/// `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = SUBSYSTEM | 2;
/// The size of `struct nfgenmsg`: family, version, resource.
const HEAD: usize = 4;
/// UDP's number (RFC 768).
const UDP: u8 = 17;

/// `CTA_TUPLE_ORIG`: addresses and ports of the first packet.
const FIRST: Attr<Nest> = attr(1);
/// `CTA_ID`.
const ID: Attr<[u8]> = attr(12);
/// `CTA_FILTER`, since Linux 5.8.
const FILTER: Attr<Nest> = attr(25);
/// `CTA_FILTER_ORIG_FLAGS`: which parts of [`FIRST`] are compared.
const FILTER_FIRST: Attr<u32> = attr(1);
/// `CTA_FILTER_FLAG(CTA_PROTO_NUM)` and `CTA_FILTER_FLAG(CTA_PROTO_DST_PORT)`, net/netfilter/nf_internals.h.
const PROTOCOL_AND_PORT: u32 = 1 << 3 | 1 << 5;
/// `CTA_TUPLE_IP`.
const ADDRESSES: Attr<Nest> = attr(1);
/// `CTA_IP_V4_DST`.
const DESTINATION: Attr<IpAddr> = attr(2);
/// `CTA_IP_V6_DST`.
const DESTINATION_IPV6: Attr<IpAddr> = attr(4);
/// `CTA_TUPLE_PROTO`.
const PROTOCOL: Attr<Nest> = attr(2);
/// `CTA_PROTO_NUM`.
const NUMBER: Attr<u8> = attr(1);
/// `CTA_PROTO_DST_PORT`.
const PORT: Attr<[u8]> = attr(3);

/// Deletes the entries of UDP flows to a port at those addresses of a family that `forget` selects. The next datagram
/// then counts as the first of its flow, and goes where that would go.
pub fn forget_datagrams(
    socket: &mut Socket,
    family: Family,
    port: u16,
    forget: impl Fn(IpAddr) -> bool,
) -> Result<(), Why> {
    let number = port.to_be_bytes();
    let ask = Message::new(GET, 0, &family.head())
        .nest(FIRST, |m| {
            m.nest(PROTOCOL, |m| m.put(NUMBER, &UDP).put(PORT, &number[..]))
        })
        .nest(FILTER, |m| m.put(FILTER_FIRST, &PROTOCOL_AND_PORT));
    for row in socket.dump(ask)? {
        let attrs = Attrs(row.body.get(HEAD..).unwrap_or_default());
        let Some((_, first)) = datagram(attrs, number).filter(|(to, _)| forget(*to)) else {
            continue;
        };
        let mut delete = Message::new(DELETE, 0, &family.head()).nest(FIRST, |m| m.raw(first));
        if let Some(id) = attrs.get(ID) {
            // So that no entry is deleted that has replaced it meanwhile.
            delete = delete.put(ID, id);
        }
        // It may have expired meanwhile.
        match socket.request(delete) {
            Err(Why::Kernel(rustix::io::Errno::NOENT, _)) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The first packet's destination, and its whole tuple, if it was a datagram to this port.
fn datagram(attrs: Attrs<'_>, port: [u8; 2]) -> Option<(IpAddr, &[u8])> {
    let first = attrs.get(FIRST)?;
    let protocol = first.get(PROTOCOL)?;
    let same = protocol.get(NUMBER)? == UDP && protocol.get(PORT)?.starts_with(&port);
    let addresses = first.get(ADDRESSES)?;
    let to = addresses
        .get(DESTINATION)
        .or_else(|| addresses.get(DESTINATION_IPV6))?;
    same.then_some((to, first.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn datagrams_to_a_port() {
        let to = IpAddr::from([203, 0, 113, 2]);
        let to6: IpAddr = "2001:db8::2".parse().unwrap();
        let of = |attr, to: IpAddr, number: u8, port: u16| {
            Message::new(GET, 0, &Family::of(to).head()).nest(FIRST, |m| {
                m.nest(ADDRESSES, |m| m.put(attr, &to)).nest(PROTOCOL, |m| {
                    m.put(NUMBER, &number).put(PORT, &port.to_be_bytes()[..])
                })
            })
        };
        let seen = |message: &Message| {
            datagram(message.after(HEAD), 53_u16.to_be_bytes()).map(|(to, _)| to)
        };
        let first = |number, port| of(DESTINATION, to, number, port);
        assert_eq!(seen(&first(UDP, 53)), Some(to));
        assert_eq!(seen(&of(DESTINATION_IPV6, to6, UDP, 53)), Some(to6));
        assert_eq!(seen(&first(6, 53)), None);
        assert_eq!(seen(&first(UDP, 54)), None);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>, port: [u8; 2]) {
            datagram(Attrs(&bytes), port);
        }
    }
}
