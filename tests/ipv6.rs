//! `--ipv6`: real packets pass, as with IPv4.
//!
//! ```text
//!   jail USER                     the machine of the test                       upstream                    far away
//!   +-----------------------+     +----------------------------------------+    +--------------------+      +--------+
//!   | default via fd..:1::1 |     |            lo ::1                      |    |                    |      | 2001:  |
//!   | eth0 fd..:1::2 -------|-----|-- kak-USER fd..:1::1                   |    | up0                | 1280 | db8:f::|
//!   +-----------------------+     |               '--- eth0 2001:db8::2 ---|----|-- 2001:db8::1/64 --|------| 2      |
//!   namespace blue                |               .--- (default route)     |1400|                    |      +--------+
//!   +-----------------------+     |               |                        |    | knows no fd00::/8  |
//!   | eth0 fd..:2::2 -------|-----|-- kak-blue fd..:2::1                   |    +--------------------+
//!   +-----------------------+     +----------------------------------------+
//! ```

/// Published ports.
mod ports;
/// Router advertisements and the kernel's settings.
mod routers;

use crate::sandbox::resolver::{Resolver, address6_of};
use crate::sandbox::traffic::*;
use crate::sandbox::*;

/// Another namespace, with an uplink.
const BLUE: &str = "/run/netns/blue";

/// The setting by which the machine forwards packets.
const FORWARDING: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// The machine's address on its end of a jail's veth pair.
fn gateway(jail: &str) -> String {
    let link = json(&format!("ip -j -6 addr show dev kak-{jail} scope global"));
    let address = &link[0]["addr_info"][0];
    assert_eq!(address["prefixlen"], 64, "{link}");
    address["local"].as_str().unwrap().to_owned()
}

/// The jail's own address.
fn inside(jail: &str) -> String {
    let gateway = gateway(jail);
    assert!(
        gateway.starts_with("fd") && gateway.ends_with("::1"),
        "{gateway}"
    );
    gateway.replace("::1", "::2")
}

/// An address and a port.
fn at(address: &str, port: u16) -> String {
    format!("[{address}]:{port}")
}

/// Makes the machine, the jail with these options and a server at port 80 in it, and the namespace.
fn publish(options: &str) {
    uplink::plug6();
    sh(&format!(
        "kak setup --ipv6 {options}; kak netns add blue --uplink --ipv6"
    ));
    serve(JAIL, "[::]:80");
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
    fn traffic_crosses_nat() {
        uplink::plug6();
        let before = dump();
        sh("kak setup --ipv6; kak status");
        serve(UPSTREAM, "[2001:db8::1]:80");
        for by in ALL {
            assert_eq!(ask(by, JAIL, "[2001:db8::1]:80"), uplink::OURS6);
        }
        sh("nssh -c 'ping -6 -c 1 -w 5 2001:db8::1'");
        // IPv4 works as ever.
        sh(&format!("nssh -c 'ping -4 -c 1 -w 5 {}'", uplink::THEIRS));
        sh("kak teardown");
        assert_same("a jail with IPv6", &before, &dump());
    }

    fn the_jail_side_is_whole() {
        uplink::plug6();
        sh("kak setup --ipv6");
        let inside = inside("USER");
        assert_eq!(sh("ip -n USER -6 -o addr show dev eth0 scope global | tr -s ' ' | cut -d ' ' -f 4"), format!("{inside}/64"));
        // No address is tentative: nothing has to wait for duplicate address detection.
        assert!(!sh("ip -6 addr show dev kak-USER; ip -n USER -6 addr").contains("scope global tentative"));
        let route = &json("ip -n USER -6 -j route show default")[0];
        assert_eq!((route["gateway"].as_str(), route["dev"].as_str()), (Some(gateway("USER").as_str()), Some("eth0")));
        // The same name on the same machine has the same addresses, and another has others.
        sh("kak setup -n OTHER --ipv6; kak teardown; kak setup --ipv6");
        assert_eq!(self::inside("USER"), inside);
        assert_ne!(self::inside("OTHER"), inside);
    }

    fn without_the_option_there_is_none() {
        uplink::plug6();
        sh("kak setup");
        assert_eq!(sh("ip -n USER -6 -o addr show scope global"), "");
        assert_eq!(sh("ip -n USER -6 route show default"), "");
        assert!(!sh("nft list ruleset").contains("ip6"));
        assert_eq!(sh(&format!("cat {FORWARDING} /proc/sys/net/ipv6/conf/eth0/accept_ra")), "0\n1");
        run("nssh -c 'ping -6 -c 1 -w 1 2001:db8::1'").code(2);
    }

    fn without_nat_no_answer_comes_back() {
        uplink::plug6();
        sh("kak setup --ipv6 --no-nat");
        assert!(!sh("nft list ruleset").contains("masquerade"));
        assert_eq!(sh(&format!("cat {FORWARDING}")), "0");
        run("nssh -c 'ping -6 -c 1 -w 1 2001:db8::1'").code(1);
        // The veth pair itself works, as soon as upstream has a route and the machine forwards.
        let network = inside("USER").replace("::2", "::/64");
        sh(&format!("nsenter --net={UPSTREAM} ip -6 route add {network} via {}; echo 1 >{FORWARDING}", uplink::OURS6));
        sh("nssh -c 'ping -6 -c 1 -w 5 2001:db8::1'");
    }

    fn names_of_ipv6_are_looked_up_by_ipv6() {
        uplink::plug6();
        let _resolver = Resolver::start_in(UPSTREAM, "[2001:db8::1]:53");
        sh("umount /etc/resolv.conf; echo nameserver 2001:db8::1 >/etc/resolv.conf; kak setup --ipv6");
        let address = address6_of("six.test");
        assert_eq!(sh("nssh -c 'getent ahostsv6 six.test' | cut -d ' ' -f 1 | sort -u"), address.to_string());
        // And the address is reached.
        sh(&format!("nsenter --net={UPSTREAM} ip addr add {address}/128 dev lo nodad; ip -6 route add {address} via 2001:db8::1"));
        serve(UPSTREAM, &at(&address.to_string(), 80));
        assert_eq!(sh("nssh -c 'cat </dev/tcp/six.test/80'"), uplink::OURS6);
    }

    fn bulk_gets_through_a_narrow_place() {
        publish("--publish 8080:80");
        sh("kak netns delete blue
            >/var/far; unshare --net=/var/far true
            nsenter --net=/var/upstream sh -ec 'ip link add far0 mtu 1280 type veth peer name far1 mtu 1280
                ip link set far1 netns /var/far; ip addr add 2001:db8:f::1/64 dev far0 nodad; ip link set far0 up
                echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
            nsenter --net=/var/far sh -ec 'ip link set lo up; ip addr add 2001:db8:f::2/64 dev far1 nodad; ip link set far1 up
                ip -6 route add default via 2001:db8:f::1'");
        let (far, bulk) = ("/var/far", 1 << 20);
        give_back(JAIL, "[::]:81");
        give_back(UPSTREAM, "[2001:db8::1]:80");
        give_back(far, "[::]:80");
        sh("kak teardown; kak setup --ipv6 --publish 8080:81");
        give_back(JAIL, "[::]:81");
        for (from, to) in [
            (JAIL, "[2001:db8::1]:80"),
            (UPSTREAM, "[2001:db8::2]:8080"),
            (JAIL, "[2001:db8:f::2]:80"),
            (far, "[2001:db8::2]:8080"),
        ] {
            assert_eq!(send(from, to, bulk), bulk, "from {from} to {to}");
        }
        // Far away advertises a larger MSS than its link carries, so the narrow link's packet-too-big must reach the
        // jail.
        sh("nsenter --net=/var/far ip -6 route replace default via 2001:db8:f::1 advmss 1340");
        watch6(JAIL, "prerouting", "icmpv6 type packet-too-big");
        sh("ip -n USER -6 route flush cache");
        assert_eq!(send(JAIL, "[2001:db8:f::2]:80", bulk), bulk);
        assert!(seen6(JAIL) > 0);
    }

    fn segments_are_clamped_both_ways() {
        uplink::plug6();
        sh("kak setup --ipv6 --publish 8080:80");
        // Both ends have an MTU far above the uplink's.
        sh("ip link set kak-USER mtu 9000; ip -n USER link set eth0 mtu 9000; nsenter --net=/var/upstream ip link set up0 mtu 9000");
        for end in [JAIL, UPSTREAM] { give_back(end, "[::]:80"); }
        for (from, to, at) in [(JAIL, UPSTREAM, "[2001:db8::1]:80"), (UPSTREAM, JAIL, "[2001:db8::2]:8080")] {
            for end in [from, to] {
                watch6(end, "input", "tcp flags & syn == syn tcp option maxseg size 1340");
            }
            assert_eq!(send(from, at, 9000), 9000, "from {from} to {at}");
            for end in [from, to] {
                assert_eq!(seen6(end), 1, "{end}: from {from} to {at}");
            }
        }
    }

    fn a_false_source_gets_nowhere() {
        publish("");
        serve(HERE, "[::]:80");
        serve(UPSTREAM, "[2001:db8::1]:80");
        let gateway = gateway("USER");
        for source in [uplink::THEIRS6.to_owned(), inside("blue"), "2001:db8:bad::7".into()] {
            sh(&format!("ip -n USER addr add {source}/128 dev eth0 nodad"));
            for namespace in [HERE, UPSTREAM] {
                // Packets arrive at kak-USER, but must not get to a socket or further.
                watch6(namespace, "input", &format!("ip6 saddr {source} iifname != lo meta l4proto {{ tcp, udp }}"));
            }
            for to in [at(&gateway, 80), at(uplink::OURS6, 80), at(uplink::THEIRS6, 80)] {
                for by in ALL {
                    if !to.contains(&format!("[{source}]")) {
                        ask_in_vain_from(by, JAIL, &source, &to);
                    }
                }
            }
            for namespace in [HERE, UPSTREAM] {
                assert_eq!(seen6(namespace), 0, "{source} came to {namespace}");
            }
            sh(&format!("ip -n USER addr del {source}/128 dev eth0"));
        }
        // The counterpart: without the rules in `raw` such packets do arrive.
        sh("ip -n USER addr add 2001:db8:bad::7/128 dev eth0 nodad; nft delete chain ip6 kak-USER raw");
        watch6(HERE, "input", "ip6 saddr 2001:db8:bad::7");
        ask_in_vain_from(By::Udp, JAIL, "2001:db8:bad::7", &at(&gateway, 80));
        until("it is there", || {
            let there = seen6(HERE) > 0;
            watch6(HERE, "input", "ip6 saddr 2001:db8:bad::7");
            ask_in_vain_from(By::Udp, JAIL, "2001:db8:bad::7", &at(&gateway, 80));
            there
        });
    }

    fn the_outer_loopback_is_out_of_reach() {
        publish("--publish 8080:80");
        serve(HERE, "[::1]:7");
        // ::1 leads out of the jail by its link, not to its own loopback.
        sh(&format!("ip -n USER addr del ::1/128 dev lo; ip -n USER -6 route add ::1/128 via {} dev eth0", gateway("USER")));
        watch6(HERE, "input", "iifname kak-USER ip6 daddr ::1");
        for by in ALL {
            ask_in_vain(by, JAIL, "[::1]:7");
            ask_in_vain(by, JAIL, "[::1]:8080");
        }
        assert_eq!(seen6(HERE), 0);
    }

    fn no_ipv6_is_an_error_before_anything_changes() {
        uplink::plug();
        sh("ip link set eth0 mtu 1200");
        refused("--ipv6", 1, "IPv6 needs 1280");
        sh("ip link set eth0 mtu 1400; mount -t tmpfs none /proc/sys/net/ipv6");
        refused("--ipv6", 1, "this machine's kernel has no IPv6");
        sh("umount /proc/sys/net/ipv6; echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
        refused("--ipv6", 1, "IPv6 is switched off on this machine");
        sh("kak setup; kak teardown");
    }

    fn a_machine_without_a_way_out_is_told() {
        uplink::plug();
        let note = "no IPv6 default route";
        run("kak setup --ipv6").code(0).says(note);
        sh("kak status; kak teardown; ip route del default");
        let ended = run("kak setup --ipv6").code(0).says("no default route");
        assert_eq!(ended.stderr.matches("default route").count(), 1, "{ended}");
        sh("kak teardown; ip addr add 2001:db8::2/64 dev eth0 nodad; ip -6 route add default via 2001:db8::1");
        run("kak setup --ipv6").code(0).says("no IPv4 default route");
        // The MTU of the veth pair follows the only way out, that of IPv6.
        assert_eq!(sh("cat /sys/class/net/kak-USER/mtu"), uplink::MTU.to_string());
    }

    fn a_machine_whose_new_links_have_none_is_no_trouble() {
        uplink::plug6();
        sh("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
        let before = dump();
        sh("kak setup --ipv6; kak status");
        serve(UPSTREAM, "[2001:db8::1]:80");
        assert_eq!(ask(By::Tcp, JAIL, "[2001:db8::1]:80"), uplink::OURS6);
        sh("kak teardown");
        assert_same("links without IPv6", &before, &dump());
    }

    fn a_network_that_is_in_use_is_passed_over() {
        uplink::plug6();
        serve(UPSTREAM, &at(uplink::THEIRS6, 80));
        let first = sh("kak setup --ipv6 --dry-run | sed -n 's/.*ip -6 addr add \\([^ ]*\\) dev kak-USER.*/\\1/p'");
        let network = first.replace("::1/64", "::");
        for taken in [format!("addr add {network}7/64 dev eth0 nodad"), format!("-6 route add {network}/48 via 2001:db8::1")] {
            sh(&format!("ip {taken}; kak setup --ipv6"));
            assert!(!inside("USER").starts_with(&network), "{taken}");
            assert_eq!(ask(By::Tcp, JAIL, "[2001:db8::1]:80"), uplink::OURS6);
            sh(&format!("kak teardown; ip {}", taken.replace(" add ", " del ").replace(" nodad", "")));
        }
        // A route to a large network does not count.
        sh("ip -6 route add fd00::/8 via 2001:db8::1; kak setup --ipv6");
        assert_eq!(format!("{}/64", gateway("USER")), first);
    }

    fn a_namespace_has_it_too_and_leaves_nothing() {
        uplink::plug6();
        serve(UPSTREAM, "[2001:db8::1]:80");
        let before = dump();
        sh("kak netns add blue red --uplink --ipv6; kak status -n blue");
        for namespace in [BLUE, "/run/netns/red"] {
            assert_eq!(ask(By::Tcp, namespace, "[2001:db8::1]:80"), uplink::OURS6);
        }
        assert_ne!(inside("blue"), inside("red"));
        sh("kak netns delete blue red");
        assert_same("two namespaces", &before, &dump());
        run("kak netns add blue --ipv6").code(255).says("need --uplink");
        assert_same("no namespace", &before, &dump());
    }

    fn firewalls_let_it_pass() {
        uplink::plug6();
        serve(UPSTREAM, "[2001:db8::1]:80");
        for (firewall, chain) in [
            ("nft 'table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'", "ip6 filter FORWARD"),
            ("nft 'table inet firewalld { chain transit { type filter hook forward priority 10; reject; }; }'", "inet firewalld transit"),
            (
                "ip6tables-nft -N DOCKER-USER; ip6tables-nft -P FORWARD DROP; ip6tables-nft -A FORWARD -j DOCKER-USER",
                "ip6 filter DOCKER-USER",
            ),
        ] {
            sh(firewall);
            let rules = sh("nft -j list ruleset");
            sh("kak setup --ipv6 --publish 8080:80; kak status");
            sh(&format!("nft list chain {chain} | grep 'iifname \"kak-USER\" accept comment \"kak:USER\"'"));
            sh("kak teardown");
            assert_eq!(sh("nft -j list ruleset"), rules, "{firewall}");
            sh("kak setup --ipv6 --publish 8080:80");
            serve(JAIL, "[::]:80");
            assert_eq!(ask(By::Tcp, JAIL, "[2001:db8::1]:80"), uplink::OURS6);
            assert_eq!(ask(By::Tcp, UPSTREAM, "[2001:db8::2]:8080"), uplink::THEIRS6);
            for handle in sh(&format!("nft -a list chain {chain} | sed -n 's/.*kak:USER.* handle //p'")).lines() {
                sh(&format!("nft delete rule {chain} handle {handle}"));
            }
            ask_in_vain(By::Tcp, JAIL, "[2001:db8::1]:80");
            sh("kak teardown; nft flush ruleset");
        }
    }

    fn rules_that_somebody_took_away_are_named_and_mended() {
        uplink::plug6();
        let before = dump();
        sh("kak setup --ipv6 --publish 8080:80");
        let whole = dump();
        for (damage, step) in [
            ("nft flush chain ip6 kak-USER raw", "nft -f - <<'KAK' # ip6 kak-USER"),
            ("nft delete table ip6 kak-USER", "nft -f - <<'KAK' # ip6 kak-USER"),
            ("echo 0 >/proc/sys/net/ipv6/conf/all/forwarding", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"),
            ("ip -6 route del local ::1 dev kak-USER table local", "ip -6 route append local ::1 dev kak-USER table local"),
        ] {
            sh(damage);
            let status = run("kak status").code(3).text();
            assert!(status.contains(&format!("--  {step}")), "{damage}: {status}");
            sh("kak setup --ipv6 --publish 8080:80; kak status");
            assert_same(damage, &whole, &dump());
        }
        sh("nft flush table ip6 kak-USER; kak teardown");
        assert_same("a table that was changed", &before, &dump());
    }
}
