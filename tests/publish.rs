//! Published ports: ports of the machine that lead into a jail, from everywhere.
//!
//! ```text
//!   jail USER                      the machine of the test                          upstream
//!   +------------------------+     +------------------------------------------+     +-----------------+
//!   | eth0 10.0.0.2          |     |  lo   127.0.0.1:8080 --.                 |     |                 |
//!   | somebody listens at 80 |<----|-- kak-USER 10.0.0.1 <--+--- :8080 eth0 --|-----|-- 203.0.113.1   |
//!   +------------------------+     |              ^         '--- 203.0.113.2  |     +-----------------+
//!   namespace blue                 |              |                           |
//!   +------------------------+     |              |                           |
//!   | eth0 10.0.1.2 ---------|-----|-- kak-blue 10.0.1.1                      |
//!   +------------------------+     +------------------------------------------+
//! ```

use crate::sandbox::traffic::*;
use crate::sandbox::*;

/// Another namespace, with an uplink.
const BLUE: &str = "/run/netns/blue";

/// Makes the machine, the jail with these options and a server at port 80 in it, and the namespace.
fn publish(options: &str) {
    uplink::plug();
    // With strict reverse path filtering.
    sh(&format!(
        "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter; kak setup {options}; kak netns add blue --uplink"
    ));
    serve(JAIL, "0.0.0.0:80");
}

/// Runs a setup with these options, which must fail with this status and these words, and change nothing.
#[track_caller]
fn refused(options: &str, code: i32, words: &str) {
    let before = dump();
    run(&format!("kak setup {options}")).code(code).says(words);
    let names = run(&format!("kak netns add green --uplink {options}"));
    names.code(if code == 2 { 255 } else { code }).says(words);
    assert_same(options, &before, &dump());
}

sandboxed! {
    fn a_published_port_is_reached_from_everywhere() {
        publish("--publish 8080:80 --publish 8080:80/udp");
        let at = |address: &str| format!("{address}:8080");
        for by in ALL {
            // Another machine is seen by its own address.
            assert_eq!(ask(by, UPSTREAM, &at(uplink::OURS)), uplink::THEIRS);
            // The machine itself, by each of its addresses.
            assert_eq!(ask(by, HERE, &at(uplink::OURS)), uplink::OURS);
            assert_eq!(ask(by, HERE, &at("10.0.0.1")), "10.0.0.1");
            assert_eq!(ask(by, HERE, &at("10.0.1.1")), "10.0.0.1");
            assert_eq!(ask(by, HERE, &at("127.0.0.1")), "10.0.0.1");
            assert_eq!(ask(by, HERE, &at("127.1.2.3")), "10.0.0.1");
            // Another jail, and the jail itself.
            assert_eq!(ask(by, BLUE, &at(uplink::OURS)), "10.0.0.1");
            assert_eq!(ask(by, BLUE, &at("10.0.1.1")), "10.0.0.1");
            assert_eq!(ask(by, JAIL, &at(uplink::OURS)), "10.0.0.1");
            assert_eq!(ask(by, JAIL, &at("10.0.0.1")), "10.0.0.1");
            // Only the machine reaches the jail's port itself.
            ask_in_vain(by, UPSTREAM, "203.0.113.2:80");
            ask_in_vain(by, BLUE, "10.0.0.2:80");
        }
    }

    fn a_port_of_one_protocol_is_not_one_of_the_other() {
        publish("--publish 8080:80/udp --publish 8081:80");
        ask(By::Udp, UPSTREAM, "203.0.113.2:8080");
        ask_in_vain(By::Tcp, UPSTREAM, "203.0.113.2:8080");
        ask(By::Tcp, UPSTREAM, "203.0.113.2:8081");
        ask_in_vain(By::Udp, UPSTREAM, "203.0.113.2:8081");
    }

    fn a_port_of_one_address_is_not_one_of_another() {
        uplink::plug();
        sh("ip addr add 203.0.113.9/24 dev eth0
            kak setup --publish 203.0.113.9:8080:80 --publish 203.0.113.9:8080:80/udp");
        serve(JAIL, "0.0.0.0:80");
        for by in ALL {
            assert_eq!(ask(by, UPSTREAM, "203.0.113.9:8080"), uplink::THEIRS);
            ask(by, HERE, "203.0.113.9:8080");
            ask(by, JAIL, "203.0.113.9:8080");
            for elsewhere in ["203.0.113.2:8080", "127.0.0.1:8080", "10.0.0.1:8080"] {
                ask_in_vain(by, HERE, elsewhere);
            }
        }
        // No port is published at a loopback address, so none is routed over the link.
        assert_eq!(sh("cat /proc/sys/net/ipv4/conf/kak-USER/route_localnet"), "0");
    }

    fn a_port_of_the_loopback_address_is_the_machines_alone() {
        publish("--publish 127.0.0.1:8080:80 --publish 127.0.0.1:8080:80/udp");
        // A neighbour on the link can send to any destination address.
        sh("nsenter --net=/var/upstream sh -c '
            ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via 203.0.113.2 src 203.0.113.1
            echo 1 >/proc/sys/net/ipv4/conf/up0/route_localnet'");
        watch(HERE, "prerouting", "iifname eth0 ip daddr 127.0.0.1");
        watch(JAIL, "prerouting", "ip saddr 203.0.113.1");
        for by in ALL {
            assert_eq!(ask(by, HERE, "127.0.0.1:8080"), "10.0.0.1");
            ask_in_vain(by, UPSTREAM, "127.0.0.1:8080");
            ask_in_vain(by, UPSTREAM, "203.0.113.2:8080");
            ask_in_vain(by, HERE, "203.0.113.2:8080");
        }
        assert!(seen(HERE) > 1, "the packets did arrive");
        assert_eq!(seen(JAIL), 0);
    }

    fn only_the_jails_own_link_carries_loopback() {
        uplink::plug();
        // As in Docker without --privileged.
        sh("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
        let before = dump();
        sh("kak setup --publish 8080:80");
        let conf = "/proc/sys/net/ipv4/conf";
        assert_eq!(sh(&format!("grep -l 1 {conf}/*/route_localnet")), format!("{conf}/kak-USER/route_localnet"));
        serve(JAIL, "0.0.0.0:80");
        assert_eq!(ask(By::Tcp, HERE, "127.0.0.1:8080"), "10.0.0.1");
        sh("kak teardown");
        assert_same("a published port", &before, &dump());
        // The setting is switched off.
        sh("umount /proc/sys; kak setup --publish 8080:80; echo 0 >/proc/sys/net/ipv4/conf/kak-USER/route_localnet");
        assert!(run("kak status").code(3).text().contains("--  echo 1 >/proc/sys/net/ipv4/conf/kak-USER/route_localnet"));
        sh("kak setup --publish 8080:80; kak status");
    }

    fn two_jails_reach_each_others_ports() {
        uplink::plug();
        sh("kak setup --publish 8080:80; kak netns add blue --uplink --publish 8081:80 --publish 8081:80/udp");
        serve(JAIL, "0.0.0.0:80");
        serve(BLUE, "0.0.0.0:80");
        assert_eq!(ask(By::Tcp, BLUE, "203.0.113.2:8080"), "10.0.0.1");
        for by in ALL {
            assert_eq!(ask(by, JAIL, "203.0.113.2:8081"), "10.0.1.1");
            assert_eq!(ask(by, HERE, "127.0.0.1:8081"), "10.0.1.1");
            assert_eq!(ask(by, UPSTREAM, "203.0.113.2:8081"), uplink::THEIRS);
            ask_in_vain(by, JAIL, "10.0.1.2:80");
        }
    }

    fn a_port_that_is_taken_is_an_error_before_anything_changes() {
        use std::net::{TcpListener, UdpSocket};
        uplink::plug();
        let taken = "this port is in use already";
        let _tcp: Vec<_> = ["0.0.0.0:1000", "203.0.113.2:1001", "127.0.0.1:1002", "[::]:1003", "127.0.0.53:1004"]
            .map(|at| TcpListener::bind(at).unwrap()).into();
        let _udp: Vec<_> = ["0.0.0.0:1000", "203.0.113.2:1001", "127.0.0.1:1002", "[::]:1003", "127.0.0.53:1004"]
            .map(|at| UdpSocket::bind(at).unwrap()).into();
        for port in 1000..=1004 {
            refused(&format!("--publish {port}:80"), 1, taken);
            refused(&format!("--publish {port}:80/udp"), 1, taken);
        }
        for at in ["127.0.0.1:1000", "203.0.113.2:1000", "203.0.113.2:1001", "127.0.0.1:1002", "127.0.0.1:1003", "203.0.113.2:1003", "127.0.0.53:1004"] {
            refused(&format!("--publish {at}:80"), 1, taken);
            refused(&format!("--publish {at}:80/udp"), 1, taken);
        }
        refused("--publish 99:80 --publish 1000:80", 1, taken);
        refused("--publish 192.0.2.99:99", 1, "no such address");
        // A port that is served at another address, or by the other protocol, is free.
        let _tcp = TcpListener::bind("0.0.0.0:1005").unwrap();
        sh("kak setup --publish 127.0.0.1:1001:80 --publish 203.0.113.2:1002:80/udp --publish 1005:80/udp");
        // A port that another jail or namespace publishes.
        let before = dump();
        run("kak setup -n OTHER --publish 203.0.113.2:1005/udp").code(1).says("is already forwarded to USER");
        run("kak netns add blue --uplink --publish 1005/udp").code(1).says("is already forwarded to USER");
        assert_same("taken by the jail", &before, &dump());
        sh("kak teardown; kak netns add blue --uplink --publish 1005:80/udp");
        refused("--publish 127.0.0.1:1005:81/udp", 1, "is already forwarded to blue");
        sh("kak netns delete blue");
    }

    fn a_port_that_is_none_is_wrong_usage() {
        for port in ["", "x", "0", "65536", "-1", "+80", "80:0", "80:65536", "80/sctp", "80:", ":80", "80/", "1.2.3:80", "1.2.3.256:80", "1.2.3.4:80:80:80", "99999999999999999999"] {
            refused(&format!("--publish '{port}'"), 2, "--publish");
        }
        for twice in ["80 --publish 80", "80:1 --publish 80:2", "127.0.0.1:80 --publish 80", "53/udp --publish 53:54/udp"] {
            refused(&format!("--publish {twice}"), 2, "the same port");
        }
        run("kak setup --publish 80 --no-nat").code(2).says("exclude");
    }

    fn who_asked_before_is_answered_too() {
        use std::net::UdpSocket;
        uplink::plug();
        // So that the kernel tracks connections already.
        sh("kak netns add blue --uplink");
        let asker = within(UPSTREAM, || UdpSocket::bind("203.0.113.1:4000").unwrap());
        asker.connect("203.0.113.2:8080").unwrap();
        asker.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        // There is no server yet, and the asker keeps sending.
        let ask = || {
            asker.send(b"?").ok();
            asker.recv(&mut [0; 99]).is_ok()
        };
        for options in ["8080:80/udp", "203.0.113.2:8080:81/udp"] {
            assert!(!ask() && !ask() && !ask());
            sh(&format!("kak setup --publish {options}"));
            serve(JAIL, "0.0.0.0:80");
            serve(JAIL, "0.0.0.0:81");
            until("it is answered", ask);
            // After teardown, the tracked connection must not lead on to where the jail was.
            sh("kak teardown");
        }
        let server = UdpSocket::bind("0.0.0.0:8080").unwrap();
        server.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        assert!(!ask() && server.recv(&mut [0; 9]).is_ok());
    }

    fn many_ports_can_be_published() {
        publish(&(1..=150).fold(String::new(), |all, port| format!("{all} --publish {}:80", 2000 + port)));
        for port in [2001, 2075, 2150] {
            assert_eq!(ask(By::Tcp, UPSTREAM, &format!("203.0.113.2:{port}")), uplink::THEIRS);
        }
        sh("kak status; kak teardown");
        assert!(!sh("nft list ruleset").contains("2075"));
    }
}
