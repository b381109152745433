//! The notation in which `nft --debug=netlink` shows the expressions of a rule.

use std::fmt;

use super::expr::{Base, Ct, Expr, Verdict, octets};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta(key) => write!(f, "[ meta load {} => reg 1 ]", key.word()),
            Self::Ct(Ct::State) => f.write_str("[ ct load state => reg 1 ]"),
            Self::Ct(Ct::Status) => f.write_str("[ ct load status => reg 1 ]"),
            Self::Payload {
                base,
                offset,
                length,
            } => {
                let base = if *base == Base::Network {
                    "network"
                } else {
                    "transport"
                };
                write!(
                    f,
                    "[ payload load {length}b @ {base} header + {offset} => reg 1 ]"
                )
            }
            Self::Mask(mask) => write!(
                f,
                "[ bitwise reg 1 = ( reg 1 & {}) ^ 0x00000000 ]",
                words(mask)
            ),
            Self::Equal(value) => write!(f, "[ cmp eq reg 1 {}]", words(value)),
            Self::NotEqual(value) => write!(f, "[ cmp neq reg 1 {}]", words(value)),
            Self::RouteMss => f.write_str("[ rt load tcpmss => reg 1 ]"),
            Self::Hton16 => f.write_str("[ byteorder reg 1 = hton(reg 1, 2, 2) ]"),
            Self::TcpOption { kind, offset } => {
                write!(f, "[ exthdr write tcpopt reg 1 => 2b @ {kind} + {offset} ]")
            }
            Self::DestinationType => f.write_str("[ fib daddr type => reg 1 ]"),
            Self::Address(address) => {
                write!(f, "[ immediate reg 1 {}]", words(&octets(*address)))
            }
            Self::Port(port) => write!(f, "[ immediate reg 2 {}]", words(&port.to_be_bytes())),
            Self::Dnat(family) => write!(
                f,
                "[ nat dnat {family} addr_min reg 1 proto_min reg 2 flags 0x2 ]"
            ),
            Self::Masquerade => f.write_str("[ masq ]"),
            Self::Verdict(Verdict::Drop) => f.write_str("[ immediate reg 0 drop ]"),
            Self::Verdict(Verdict::Accept) => f.write_str("[ immediate reg 0 accept ]"),
        }
    }
}

/// A register's bytes as nft shows them: words in the machine's byte order.
fn words(bytes: &[u8]) -> String {
    let word = |chunk: &[u8]| {
        let mut word = [0; 4];
        word.iter_mut()
            .zip(chunk)
            .for_each(|(to, from)| *to = *from);
        format!("0x{:08x} ", u32::from_ne_bytes(word))
    };
    bytes.chunks(4).map(word).collect()
}
