//! A resolver's place in the jail: the sockets on its own address and port where questions come in, and the one that
//! tells the jail that no resolver answers.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Result;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use rustix::thread::LinkNameSpaceType;

use crate::sys;

/// The port of resolvers (RFC 1035, section 4.2).
pub const PORT: u16 = 53;

/// A resolver's place in the jail.
pub struct Door {
    /// The resolver's address, the same on both sides.
    pub resolver: SocketAddr,
    /// Where questions by UDP come.
    pub udp: OwnedFd,
    /// Where connections come.
    pub tcp: OwnedFd,
    /// Where refusals go from; none without CAP_NET_RAW.
    pub icmp: Option<OwnedFd>,
}

/// Opens doors in another network namespace, in a child that joins it and ends. Each resolver has a result of its own.
pub fn open(namespace: &OwnedFd, resolvers: &[IpAddr]) -> Result<Vec<Result<Door>>> {
    sys::elsewhere(|| {
        let network = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(namespace.as_fd(), network)?;
        Ok(resolvers
            .iter()
            .map(|address| Door::new(*address))
            .collect())
    })
}

/// A nonblocking socket.
pub fn socket(address: SocketAddr, kind: SocketType) -> Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, kind, flags, None)
}

impl Door {
    /// A resolver's door, in the network namespace that we are in.
    fn new(address: IpAddr) -> Result<Self> {
        let resolver = SocketAddr::new(address, PORT);
        let udp = socket(resolver, SocketType::DGRAM)?;
        let tcp = socket(resolver, SocketType::STREAM)?;
        sockopt::set_socket_reuseaddr(&tcp, true)?;
        rustix::net::bind(&udp, &resolver)?;
        rustix::net::bind(&tcp, &resolver)?;
        rustix::net::listen(&tcp, 64)?;
        let icmp = raw(address).ok();
        Ok(Self {
            resolver,
            udp,
            tcp,
            icmp,
        })
    }

    /// Its descriptors.
    pub fn fds(&self) -> impl Iterator<Item = &OwnedFd> {
        [&self.udp, &self.tcp].into_iter().chain(&self.icmp)
    }

    /// Tells an asker that there is no resolver, as the kernel does outside for a question that it cannot deliver: the
    /// asker's socket gets ECONNREFUSED, and the next resolver is asked at once instead of waiting for an answer.
    pub fn refuse(&self, asker: SocketAddr) {
        let Some(icmp) = &self.icmp else { return };
        let message = refusal(asker, self.resolver);
        // In IPv6 a port would be taken for a protocol (raw(7)).
        let to = SocketAddr::new(asker.ip(), 0);
        rustix::net::sendto(icmp, &message, SendFlags::NOSIGNAL, &to).ok();
    }
}

/// A socket that sends ICMP from an address.
fn raw(address: IpAddr) -> Result<OwnedFd> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let icmp = rustix::net::socket_with(family, SocketType::RAW, flags, Some(protocol))?;
    rustix::net::bind(&icmp, &SocketAddr::new(address, 0))?;
    Ok(icmp)
}

/// The message `port unreachable` (RFC 792, RFC 4443 section 3.1), about a question that would have got to `resolver`.
/// Both ends are of one family.
fn refusal(asker: SocketAddr, resolver: SocketAddr) -> Vec<u8> {
    /// UDP's number.
    const UDP: u8 = 17;
    /// The length of a UDP header.
    const HEADER: u8 = 8;
    let mut message = match (asker.ip(), resolver.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let head = [3, 3, 0, 0, 0, 0, 0, 0];
            let about = [0x45, 0, 0, 20 + HEADER, 0, 0, 0, 0, 64, UDP, 0, 0];
            [&head[..], &about, &from.octets(), &to.octets()].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let head = [1, 4, 0, 0, 0, 0, 0, 0];
            let about = [0x60, 0, 0, 0, 0, HEADER, UDP, 64];
            [&head[..], &about, &from.octets(), &to.octets()].concat()
        }
        _ => return Vec::new(),
    };
    message.extend(asker.port().to_be_bytes());
    message.extend(resolver.port().to_be_bytes());
    message.extend([0, HEADER, 0, 0]);
    if asker.is_ipv4() {
        // For ICMPv6 the kernel does it.
        let sum = checksum(&message).to_be_bytes();
        message.splice(2..4, sum);
    }
    message
}

/// The internet's checksum (RFC 1071).
fn checksum(message: &[u8]) -> u16 {
    let words = message
        .chunks_exact(2)
        .filter_map(|pair| pair.try_into().ok());
    let sum: u32 = words.map(|pair| u32::from(u16::from_be_bytes(pair))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or_default()
}
