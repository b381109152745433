//! Name resolution: what the machine's resolv.conf can be, which resolvers a resolv.conf names, and the directories of
//! local services that would answer instead of them.

use std::net::IpAddr;

/// The machine's resolv.conf.
pub const OUTER: &str = "/etc/resolv.conf";

/// What the machine's resolv.conf is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResolvConf {
    /// There is none.
    Absent,
    /// A file, or a link that leads to one, or nowhere.
    File,
    /// A directory: no file can be mounted on it.
    Directory,
}

impl ResolvConf {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Absent, Self::File, Self::Directory];

    /// A word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::File => "file",
            Self::Directory => "directory",
        }
    }
}

/// The directories whose sockets answer for the machine's network: nscd's, by either of its names, and that of
/// systemd-resolved.
pub const SOCKETS: [&str; 4] = [
    "/run/nscd",
    "/var/run/nscd",
    "/run/systemd/resolve",
    "/var/run/systemd/resolve",
];

/// The resolvers of a resolv.conf (resolv.conf(5)) at loopback addresses: no other network namespace reaches them.
pub fn loopbacks(text: &[u8]) -> Vec<IpAddr> {
    let mut all = nameservers(text);
    all.retain(IpAddr::is_loopback);
    all
}

/// All of them, each once.
pub fn nameservers(text: &[u8]) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Some(rest) = line.strip_prefix(b"nameserver") else {
            continue;
        };
        let Some(address) = address(rest) else {
            continue;
        };
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// The address after a keyword: it follows a blank, and anything may follow it.
fn address(rest: &[u8]) -> Option<IpAddr> {
    if !rest.first()?.is_ascii_whitespace() {
        return None;
    }
    let text = std::str::from_utf8(rest).ok()?;
    let word = text.split_ascii_whitespace().next()?;
    // A scope names a link, and there is only one loopback link.
    let word = word.split('%').next()?;
    let address = word.parse::<IpAddr>().ok()?.to_canonical();
    Some(match address {
        // To connect to the unspecified address is to connect to oneself (ip(7)).
        IpAddr::V4(any) if any.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        address => address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whom_a_jail_cannot_ask() {
        let found = |text: &[u8]| {
            loopbacks(text)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            found(b"# Docker\nnameserver 127.0.0.11\noptions ndots:0\n"),
            ["127.0.0.11"]
        );
        let text = b"nameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.53\nnameserver\t127.0.0.53\n";
        assert_eq!(found(text), ["127.0.0.53", "::1"]);
        assert_eq!(found(b"search 127.0.0.1\nnameserver x\n"), [""; 0]);
        // As people write it.
        for (line, address) in [
            (&b"nameserver \t 127.1.2.3"[..], "127.1.2.3"),
            (b"nameserver 127.0.0.1 \t", "127.0.0.1"),
            (b"nameserver 127.0.0.1 # local", "127.0.0.1"),
            (b"nameserver 127.0.0.1\r", "127.0.0.1"),
            (b"nameserver ::1%lo", "::1"),
            (b"nameserver 0:0::0:1", "::1"),
            (b"nameserver ::ffff:127.0.0.53", "127.0.0.53"),
            (b"nameserver 0.0.0.0", "127.0.0.1"),
            (b"nameserver ::", "::1"),
        ] {
            assert_eq!(found(line), [address], "{}", line.escape_ascii());
        }
        // As no C library reads it.
        for line in [
            &b" nameserver 127.0.0.1"[..],
            b"nameserver127.0.0.1",
            b"nameservers 127.0.0.1",
            b"#nameserver 127.0.0.1",
            b"; nameserver 127.0.0.1",
            b"nameserver",
            b"nameserver ",
            b"nameserver 127.0.0.1.1",
            b"nameserver fe80::1%eth0",
            b"nameserver \xff 127.0.0.1",
        ] {
            assert_eq!(found(line), [""; 0], "{}", line.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            loopbacks(&text);
            address(&text);
        }
    }
}
