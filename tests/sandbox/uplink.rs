//! The rest of the world, made of a second network namespace and a veth pair.
//!
//! ```text
//!   the machine of the test                      upstream (/var/upstream)
//!   +---------------------------+                +---------------------------+
//!   | default via 203.0.113.1   |   mtu 1400     |                           |
//!   | eth0 203.0.113.2/24 ------|----------------|------ up0 203.0.113.1/24  |
//!   |                           |                |   tcp 7000: who are you?  |
//!   +---------------------------+                +---------------------------+
//! ```
//!
//! Upstream has no route to any other network, so a sender that gets an answer uses the machine's address.

use std::io::Write as _;
use std::net::TcpListener;

use super::sh;

/// The machine's address.
pub const OURS: &str = "203.0.113.2";

/// Upstream's address.
pub const THEIRS: &str = "203.0.113.1";

/// The machine's IPv6 address, after [`plug6`].
pub const OURS6: &str = "2001:db8::2";

/// Upstream's.
pub const THEIRS6: &str = "2001:db8::1";

/// The port at which upstream tells each client the address that it came from.
pub const PORT: u16 = 7000;

/// The MTU of the cable, unlike any default.
pub const MTU: u16 = 1400;

/// Plugs the machine in: cable, address, default route, and the server upstream.
pub fn plug() {
    sh(&format!(
        ">/var/upstream
        unshare --net=/var/upstream true
        ip link add eth0 mtu {MTU} type veth peer name up0
        ip link set up0 netns /var/upstream
        nsenter --net=/var/upstream ip link set lo up
        nsenter --net=/var/upstream ip addr add {THEIRS}/24 dev up0
        nsenter --net=/var/upstream ip link set up0 mtu {MTU} up
        ip addr add {OURS}/24 dev eth0
        ip link set eth0 up
        ip route add default via {THEIRS}"
    ));
    let (ready, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        let upstream = std::fs::File::open("/var/upstream").unwrap();
        move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&upstream),
            Some(LinkNameSpaceType::Network),
        )
        .unwrap();
        let listener = TcpListener::bind((THEIRS, PORT)).unwrap();
        ready.send(()).unwrap();
        while let Ok((mut stream, peer)) = listener.accept() {
            writeln!(stream, "{}", peer.ip()).ok();
        }
    });
    wait.recv().unwrap();
    settle("eth0");
}

/// Waits until a link has its carrier and, where it has IPv6, its address: a test compares two looks at the machine.
pub fn settle(link: &str) {
    let ipv6 = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"))
        .is_ok_and(|disabled| disabled == "0\n");
    super::until(&format!("{link} is settled"), || {
        let addresses = sh(&format!("ip -o -6 addr show dev {link}"));
        let has = addresses.contains("fe80") && !addresses.contains("tentative");
        has == ipv6 && sh(&format!("ip -o link show dev {link}")).contains("state UP")
    });
}

/// The same with IPv6: on the cable there are 2001:db8::1/64 and 2001:db8::2/64 too, and the default route.
pub fn plug6() {
    plug();
    sh(&format!(
        "nsenter --net=/var/upstream ip addr add {THEIRS6}/64 dev up0 nodad
        ip addr add {OURS6}/64 dev eth0 nodad
        ip route add default via {THEIRS6}"
    ));
}
