//! A jail's network: real packets pass.
//!
//! ```text
//!   jail                     the machine of the test                       upstream
//!   +--------------------+   +-------------------------------------+   +-------------------+
//!   | default via        |   | 10.0.0.1/24                         |   |                   |
//!   |   10.0.0.1         |   | kak-USER        eth0 203.0.113.2/24 |   | up0               |
//!   | eth0 10.0.0.2/24 --|---|--'                 '----------------|---|-- 203.0.113.1/24  |
//!   |                    |   | forwards; masquerades 10.0.0.0/24   |   | knows no 10.0.0.0 |
//!   +--------------------+   +-------------------------------------+   +-------------------+
//! ```

use crate::sandbox::*;

/// The address that upstream sees the jail's connections by.
fn seen_as() -> String {
    sh(&format!(
        "nssh -c 'cat </dev/tcp/{}/{}'",
        uplink::THEIRS,
        uplink::PORT
    ))
}

sandboxed! {
    fn a_connection_crosses_nat() {
        uplink::plug();
        sh("kak setup");
        assert_eq!(seen_as(), uplink::OURS);
        sh(&format!("nssh -c 'ping -c 1 -w 5 {}'", uplink::THEIRS));
    }

    fn without_nat_no_answer_comes_back() {
        uplink::plug();
        sh("kak setup --no-nat");
        assert!(!sh("nft list ruleset").contains("masquerade"));
        run(&format!("nssh -c 'ping -c 1 -w 1 {}'", uplink::THEIRS)).code(1);
        // The veth pair itself works, as soon as upstream has a route and the machine forwards.
        sh(&format!("nsenter --net=/var/upstream ip route add 10.0.0.0/24 via {}", uplink::OURS));
        sh("echo 1 >/proc/sys/net/ipv4/ip_forward");
        sh(&format!("nssh -c 'ping -c 1 -w 5 {}'", uplink::THEIRS));
    }

    fn both_ends_have_the_uplinks_mtu() {
        uplink::plug();
        sh("kak setup");
        let mtu = uplink::MTU.to_string();
        assert_eq!(sh("nssh -c 'cat /sys/class/net/eth0/mtu'"), mtu);
        assert_eq!(sh("cat /sys/class/net/kak-USER/mtu"), mtu);
    }

    fn the_jail_side_is_whole() {
        uplink::plug();
        sh("kak setup");
        let eth0 = &json("ip -n USER -j addr show eth0")[0];
        assert_eq!(eth0["operstate"], "UP");
        let address = &eth0["addr_info"][0];
        assert_eq!((address["local"].as_str(), address["prefixlen"].as_u64()), (Some("10.0.0.2"), Some(24)));
        let flags = json("ip -n USER -j link show lo")[0]["flags"].to_string();
        assert!(flags.contains("\"UP\""), "{flags}");
        let route = &json("ip -n USER -j route show default")[0];
        assert_eq!((route["gateway"].as_str(), route["dev"].as_str()), (Some("10.0.0.1"), Some("eth0")));
        // The outer end's alias says whose it is.
        assert_eq!(json("ip -j link show kak-USER")[0]["ifalias"], "kak:USER");
    }

    fn a_subnet_that_is_in_use_is_passed_over() {
        uplink::plug();
        // One by an address, one by a route, one inside of a larger route.
        sh("ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up
            ip addr add 10.0.0.77/30 dev v0
            ip route add 10.0.1.0/25 dev v0
            ip route add 10.0.2.0/23 dev v0");
        sh("kak setup");
        assert_eq!(sh("nssh -c 'hostname -I'"), "10.0.4.2");
        assert_eq!(seen_as(), uplink::OURS);
    }

    fn where_a_whole_private_network_is_taken_there_are_others() {
        uplink::plug();
        // As with a company's network behind a VPN.
        sh("ip route add 10.0.0.0/8 via 203.0.113.1; ip route add 172.16.0.0/16 via 203.0.113.1");
        sh("kak setup");
        assert_eq!(sh("nssh -c 'hostname -I'"), "172.17.0.2");
        assert_eq!(seen_as(), uplink::OURS);
    }

    fn a_subnet_can_be_given() {
        uplink::plug();
        sh("kak setup --subnet 172.30.7.0/28");
        let address = json("ip -n USER -j -4 addr show eth0")[0]["addr_info"][0].clone();
        assert_eq!((address["local"].as_str(), address["prefixlen"].as_u64()), (Some("172.30.7.2"), Some(28)));
        assert_eq!(seen_as(), uplink::OURS);
    }

    fn a_long_jail_name_has_a_short_link() {
        uplink::plug();
        let name = "a-name-of-thirty-two-characters.";
        sh(&format!("kak setup -n {name}"));
        let links = json("ip -j link");
        let ours = links.as_array().unwrap().iter().find(|link| link["ifalias"] == format!("kak:{name}"));
        let ifname = ours.unwrap()["ifname"].as_str().unwrap();
        assert!(ifname.starts_with("kak-") && ifname.len() <= 15, "{ifname}");
        assert_eq!(sh(&format!("kak nssh -n {name} -- -c 'cat </dev/tcp/{}/{}'", uplink::THEIRS, uplink::PORT)), uplink::OURS);
        sh(&format!("kak teardown -n {name}"));
        assert!(!sh("ip link").contains("kak"));
    }

    fn forwarding_needs_no_writable_proc_sys() {
        uplink::plug();
        sh("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
        let before = dump();
        sh("kak setup");
        assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward"), "0", "the switch for all links");
        assert_eq!(seen_as(), uplink::OURS);
        assert_eq!(run("kak status").status.code(), Some(0));
        sh("kak teardown");
        assert_same("two links that pass packets on", &before, &dump());
    }

    fn several_default_routes_are_no_trouble() {
        uplink::plug();
        sh("ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up; ip addr add 192.0.2.2/24 dev v0
            ip route add default via 192.0.2.1 dev v0 metric 500");
        sh("kak setup");
        assert_eq!(seen_as(), uplink::OURS);
    }

    fn a_resolver_on_loopback_is_reached_from_the_jail() {
        use std::io::{Read as _, Write as _};
        uplink::plug();
        // The resolver answers with the question, and with the protocol that it came by.
        let udp = std::net::UdpSocket::bind("127.0.0.53:53").unwrap();
        std::thread::spawn(move || {
            let mut question = [0; 2048];
            while let Ok((length, asker)) = udp.recv_from(&mut question) {
                let answer = [b"udp ", &question[..length]].concat();
                udp.send_to(&answer, asker).unwrap();
            }
        });
        let tcp = std::net::TcpListener::bind("127.0.0.53:53").unwrap();
        std::thread::spawn(move || {
            for connection in tcp.incoming() {
                let mut connection = connection.unwrap();
                let mut question = Vec::new();
                let mut byte = [0];
                while connection.read(&mut byte).unwrap_or(0) == 1 && byte != *b"\n" {
                    question.push(byte[0]);
                }
                // About as long as an answer by TCP can be.
                let answer = [b"tcp ", &question[..], &vec![b'.'; 65_000], b"\n"].concat();
                connection.write_all(&answer).unwrap();
            }
        });
        sh("umount /etc/resolv.conf; echo nameserver 127.0.0.53 >/etc/resolv.conf");
        let before = dump();
        sh("kak setup");
        assert_eq!(sh("nssh -c 'cat /etc/resolv.conf'"), "nameserver 127.0.0.53");
        let ask = "ask() { exec 3<>/dev/udp/127.0.0.53/53; printf %s $1 >&3; answer=$(head -c $((4 + ${#1})) <&3); echo $answer; }";
        assert_eq!(sh(&format!("nssh -c '{ask}; ask one; ask two'")), "udp one\nudp two");
        // Many at once, and each gets its own answer.
        let many = format!("nssh -c '{ask}; for n in $(seq 100 160); do (ask question$n) & done; wait'");
        let answers = sh(&many);
        let mut answers: Vec<&str> = answers.lines().collect();
        answers.sort_unstable();
        let wanted: Vec<String> = (100..=160).map(|n| format!("udp question{n}")).collect();
        assert_eq!(answers, wanted);
        let long = sh("nssh -c 'exec 3<>/dev/tcp/127.0.0.53/53; echo three >&3; cat <&3'");
        assert!(long.starts_with("tcp three.") && long.len() == 9 + 65_000, "{} bytes", long.len());
        // The relay ends with the jail, and with its keeper.
        sh("kak teardown");
        assert_same("a relay", &before, &dump());
        until("nobody is left", || processes().is_empty());
        sh("kak setup");
        sh(&format!("kill -KILL {}", process_field(init("USER"), "PPid").unwrap()));
        until("nobody is left", || processes().is_empty());
    }

    fn the_jail_has_the_outer_resolvers() {
        uplink::plug();
        sh("kak setup");
        assert_eq!(sh("nssh -c 'cat /etc/resolv.conf'"), sh("cat /etc/resolv.conf"));
    }

    fn resolvers_can_be_given() {
        let outer = sh("cat /etc/resolv.conf");
        sh("kak setup --dns 192.0.2.53 --dns 192.0.2.54");
        let inner = sh("nssh -c 'grep ^nameserver /etc/resolv.conf'");
        assert_eq!(inner, "nameserver 192.0.2.53\nnameserver 192.0.2.54");
        assert_eq!(sh("cat /etc/resolv.conf"), outer);
    }

    fn resolvers_that_stand_in_etc_netns_are_used_as_they_are() {
        sh("mkdir -p /etc/netns/USER; echo nameserver 192.0.2.99 >/etc/netns/USER/resolv.conf");
        let before = dump();
        sh("kak setup");
        assert_eq!(sh("nssh -c 'cat /etc/resolv.conf'"), "nameserver 192.0.2.99");
        sh("kak teardown");
        assert_same("a resolv.conf of the user's own", &before, &dump());
    }

    fn the_namespace_is_one_that_ip_knows() {
        sh("kak setup");
        assert_eq!(sh("ip netns list | cut -d ' ' -f 1"), "USER");
        assert_eq!(sh("ip netns exec USER readlink /proc/self/ns/net"), sh("nssh -c 'readlink /proc/self/ns/net'"));
        assert_eq!(sh("ip netns pids USER | sort -n | head -n 1"), init("USER").to_string());
    }

    fn a_namespace_that_ip_made_is_used() {
        uplink::plug();
        sh("ip netns add USER");
        let before = dump();
        let there = sh("nsenter --net=/run/netns/USER readlink /proc/self/ns/net");
        sh("kak setup");
        assert_eq!(sh("nssh -c 'readlink /proc/self/ns/net'"), there);
        assert_eq!(seen_as(), uplink::OURS);
        sh("kak teardown");
        assert_same("a namespace that is not ours", &before, &dump());
    }

    fn who_may_ping_outside_may_ping_inside() {
        uplink::plug();
        // A copy of ping without file capabilities, run without any capability; the machine allows group 0.
        sh("cp $(command -v ping) /usr/bin/plain-ping");
        let ping = format!("setpriv --bounding-set -all --inh-caps -all plain-ping -c 1 -w 5 {}", uplink::THEIRS);
        let ways = [("nssh -c", "kak setup", "kak teardown"), ("kak netns exec USER sh -c", "kak netns add USER --uplink", "kak netns delete USER")];
        for (enter, make, unmake) in ways {
            sh(make);
            assert_eq!(sh(&format!("{enter} 'cat /proc/sys/net/ipv4/ping_group_range'")), "0\t0");
            sh(&format!("{enter} '{ping}'"));
            sh(unmake);
            // If nobody may outside, nobody may inside.
            if is_root() {
                sh(&format!("echo 1 0 >/proc/sys/net/ipv4/ping_group_range; {make}"));
                run(&format!("{enter} '{ping}'")).code(2);
                sh(unmake);
            }
            sh("echo 0 0 >/proc/sys/net/ipv4/ping_group_range");
        }
        // A namespace that exists already keeps its own setting.
        sh("ip netns add USER; ip netns exec USER sh -c 'echo 0 0 >/proc/sys/net/ipv4/ping_group_range'; kak setup; kak teardown; ip netns delete USER");
        sh("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
        for (enter, make, unmake) in ways {
            sh(make);
            sh(&format!("{enter} '{ping}'"));
            sh(unmake);
        }
    }
}
