//! Packets are as large as the narrowest link on their way can carry, and no larger.
//!
//! ```text
//!   jail                  the machine of the test            upstream                         far away
//!   +----------------+    +---------------------------+     +-----------------------------+    +--------------+
//!   | eth0 10.0.0.2 -|----|- kak-USER    203.0.113.2 -|-----|- 203.0.113.1  198.51.100.1 -|----| 198.51.100.2 |
//!   +----------------+    +---------------------------+ 1400+-----------------------------+1280+--------------+
//! ```

use crate::sandbox::traffic::*;
use crate::sandbox::*;

/// The network beyond upstream.
const FAR: &str = "/var/far";

/// Bytes to send: enough for many TCP windows.
const BULK: usize = 3 << 20;

/// Makes all that is in the drawing; the jail publishes port 8080.
fn plug() {
    uplink::plug();
    sh("kak setup --publish 8080:80
        >/var/far; unshare --net=/var/far true
        nsenter --net=/var/upstream ip link add far0 mtu 1280 type veth peer name far1 mtu 1280
        nsenter --net=/var/upstream ip link set far1 netns /var/far
        nsenter --net=/var/upstream sh -c 'ip addr add 198.51.100.1/24 dev far0; ip link set far0 up; echo 1 >/proc/sys/net/ipv4/ip_forward'
        nsenter --net=/var/far sh -c 'ip link set lo up; ip addr add 198.51.100.2/24 dev far1; ip link set far1 up; ip route add default via 198.51.100.1'");
}

sandboxed! {
    fn bulk_gets_through_a_narrow_place() {
        plug();
        for end in [JAIL, UPSTREAM, FAR] { give_back(end, "0.0.0.0:80"); }
        for (from, to) in [(JAIL, "203.0.113.1:80"), (UPSTREAM, "203.0.113.2:8080"), (JAIL, "198.51.100.2:80"), (FAR, "203.0.113.2:8080")] {
            assert_eq!(send(from, to, BULK), BULK, "from {from} to {to}");
        }
    }

    fn what_the_narrow_place_says_is_heard() {
        plug();
        give_back(FAR, "0.0.0.0:80");
        // Far away advertises a larger MSS than its link carries.
        sh("nsenter --net=/var/far ip route replace default via 198.51.100.1 advmss 1360");
        watch(JAIL, "prerouting", "icmp type destination-unreachable icmp code frag-needed");
        assert_eq!(send(JAIL, "198.51.100.2:80", BULK), BULK);
        assert!(seen(JAIL) > 0);
        assert!(sh("ip -n USER route get 198.51.100.2").contains("mtu 1280"));
    }

    fn segments_are_clamped_both_ways() {
        plug();
        // Both ends have an MTU far above the uplink's, and get no ICMP error that says otherwise.
        sh("ip link set kak-USER mtu 9000; ip -n USER link set eth0 mtu 9000
            nsenter --net=/var/upstream ip link set up0 mtu 9000
            nft add table ip mute; nft 'add chain ip mute out { type filter hook output priority 0; }'
            nft add rule ip mute out icmp type destination-unreachable drop");
        for end in [JAIL, UPSTREAM] { give_back(end, "0.0.0.0:80"); }
        for (from, to, at) in [(JAIL, UPSTREAM, "203.0.113.1:80"), (UPSTREAM, JAIL, "203.0.113.2:8080")] {
            for end in [from, to] {
                watch(end, "input", "tcp flags & syn == syn tcp option maxseg size 1360");
            }
            assert_eq!(send(from, at, BULK), BULK, "from {from} to {at}");
            for end in [from, to] {
                assert_eq!(seen(end), 1, "{end}: from {from} to {at}");
                sh(&format!("nsenter --net={end} nft delete table ip watch"));
            }
        }
    }
}
