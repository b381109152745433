//! Which networks do not reach each other. The tests check that no packet arrives, not only that there is no answer;
//! and that the same traffic does arrive where it may.
//!
//! ```text
//!   jail USER               the machine of the test                                  upstream
//!   +-----------------+     +--------------------------------------------------+     +---------------------+
//!   | eth0 10.0.0.2 --|-----|-- kak-USER 10.0.0.1                              |     | 203.0.113.1         |
//!   +-----------------+     |                                                  |     | knows the way to    |
//!   namespace blue          |          lo 127.0.0.1      eth0 203.0.113.2 -----|-----| 10.0.0.0/23, though |
//!   +-----------------+     |                                                  |     | nobody told it      |
//!   | eth0 10.0.1.2 --|-----|-- kak-blue 10.0.1.1                              |     +---------------------+
//!   +-----------------+     +--------------------------------------------------+
//! ```

use crate::sandbox::traffic::*;
use crate::sandbox::*;

/// Another namespace, with an uplink.
const BLUE: &str = "/run/netns/blue";

/// Makes the machine, the jail and the namespace, with a server in each and upstream.
fn neighbours(options: &str) {
    uplink::plug();
    sh(&format!(
        "kak setup {options}; kak netns add blue --uplink
        nsenter --net=/var/upstream ip route add 10.0.0.0/23 via {}",
        uplink::OURS
    ));
    for namespace in [HERE, JAIL, BLUE, UPSTREAM] {
        serve(namespace, "0.0.0.0:80");
    }
}

/// Asserts that nothing gets from one namespace to the other: no datagram, no connection, no ping.
#[track_caller]
fn apart(from: &str, to: &str, address: &str) {
    watch(to, "prerouting", "meta l4proto { icmp, tcp, udp }");
    for by in ALL {
        ask_in_vain(by, from, &format!("{address}:80"));
    }
    run(&format!("nsenter --net={from} ping -c 1 -w 1 {address}")).code(1);
    assert_eq!(seen(to), 0, "{from} to {address}");
    sh(&format!("nsenter --net={to} nft delete table ip watch"));
}

/// Makes 127.0.0.0/8 lead out of the jail by its link, to the machine, not to its own loopback.
fn reach_for_loopback() {
    sh("ip -n USER addr del 127.0.0.1/8 dev lo
        nsenter --net=/run/netns/USER sh -c 'echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet'
        ip -n USER route add 127.0.0.0/8 via 10.0.0.1 src 10.0.0.2");
}

sandboxed! {
    fn two_jails_do_not_reach_each_other() {
        neighbours("");
        apart(JAIL, BLUE, "10.0.1.2");
        apart(BLUE, JAIL, "10.0.0.2");
    }

    fn a_neighbour_who_knows_the_way_does_not_get_in() {
        neighbours("");
        apart(UPSTREAM, JAIL, "10.0.0.2");
        apart(UPSTREAM, BLUE, "10.0.1.2");
    }

    fn a_published_port_opens_no_other_way() {
        neighbours("--publish 8080:80");
        apart(UPSTREAM, JAIL, "10.0.0.2");
        apart(BLUE, JAIL, "10.0.0.2");
    }

    fn who_is_asked_answers() {
        neighbours("");
        for by in ALL {
            // The machine itself does reach both.
            assert_eq!(ask(by, HERE, "10.0.0.2:80"), "10.0.0.1");
            assert_eq!(ask(by, HERE, "10.0.1.2:80"), "10.0.1.1");
            for (jail, gateway) in [(JAIL, "10.0.0.1:80"), (BLUE, "10.0.1.1:80")] {
                assert_eq!(ask(by, jail, "203.0.113.1:80"), uplink::OURS);
                ask(by, jail, gateway);
            }
        }
        sh("ping -c 1 -w 5 10.0.0.2; nssh -c 'ping -c 1 -w 5 203.0.113.1'");
    }

    fn a_false_source_gets_nowhere() {
        neighbours("");
        // Addresses of upstream, of the other jail, of no host, and of loopback.
        for source in ["203.0.113.1", "10.0.1.2", "198.51.100.7", "127.0.0.7"] {
            sh(&format!("ip -n USER addr add {source}/32 dev eth0"));
            let spoofed = format!("ip saddr {source} iifname != lo");
            for namespace in [HERE, BLUE, UPSTREAM] {
                watch(namespace, "forward", &spoofed);
                sh(&format!("nsenter --net={namespace} nft -f - <<'NFT'
                    table ip watch {{ chain input {{ type filter hook input priority -500; {spoofed} counter; }}; }}
NFT"));
            }
            for to in ["10.0.0.1:80", "203.0.113.2:80", "203.0.113.1:80", "10.0.1.2:80"] {
                for by in ALL {
                    if !to.starts_with(source) {
                        ask_in_vain_from(by, JAIL, source, to);
                    }
                }
            }
            run(&format!("nsenter --net={JAIL} ping -c 1 -w 1 -I {source} 10.0.0.1")).code(1);
            for namespace in [HERE, BLUE, UPSTREAM] {
                assert_eq!(seen(namespace), 0, "{source} came to {namespace}");
                sh(&format!("nsenter --net={namespace} nft delete table ip watch"));
            }
            sh(&format!("ip -n USER addr del {source}/32 dev eth0"));
        }
        // Another address of the jail's subnet is not a false one.
        sh("ip -n USER addr add 10.0.0.77/24 dev eth0");
        watch(HERE, "input", "ip saddr 10.0.0.77");
        ask_from_own("10.0.0.77");
        assert!(seen(HERE) > 0);
    }

    fn without_the_table_a_false_source_would_get_out() {
        // The counterpart of the test above.
        neighbours("");
        sh("nft delete chain ip kak-USER raw; ip -n USER addr add 198.51.100.7/32 dev eth0");
        watch(UPSTREAM, "input", "ip saddr 198.51.100.7");
        ask_in_vain_from(By::Udp, JAIL, "198.51.100.7", "203.0.113.1:80");
        until("it is there", || seen(UPSTREAM) > 0);
    }

    fn the_outer_loopback_is_out_of_reach() {
        for options in ["", "--publish 8080:80 --publish 127.0.0.1:8081:80/udp"] {
            if options.is_empty() {
                uplink::plug();
                serve(HERE, "127.0.0.1:7");
                serve(HERE, "127.0.0.2:8081");
            }
            sh(&format!("kak setup {options}"));
            reach_for_loopback();
            watch(HERE, "input", "iifname kak-USER ip daddr 127.0.0.0/8");
            for to in ["127.0.0.1:7", "127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.2:8081"] {
                for by in ALL { ask_in_vain(by, JAIL, to); }
            }
            run("nsenter --net=/run/netns/USER ping -c 1 -w 1 127.0.0.1").code(1);
            assert_eq!(seen(HERE), 0, "{options}");
            if !options.is_empty() {
                // The counterpart: with published ports, this rule is all that stops it.
                sh("nft flush chain ip kak-USER raw");
                assert_eq!(ask(By::Tcp, JAIL, "127.0.0.1:7"), "10.0.0.2");
                assert!(seen(HERE) > 0);
            }
            sh("nft delete table ip watch; kak teardown");
        }
    }

    fn rules_that_somebody_took_away_are_named_and_mended() {
        uplink::plug();
        let before = dump();
        sh("kak setup");
        let whole = dump();
        for damage in [
            "nft flush chain ip kak-USER raw",
            "nft delete chain ip kak-USER raw",
            "nft flush table ip kak-USER",
            "nft flush ruleset",
            "nft insert rule ip kak-USER forward accept",
        ] {
            sh(damage);
            let status = run("kak status").code(3).text();
            assert!(status.contains("--  nft -f - <<'KAK' # ip kak-USER"), "{damage}: {status}");
            sh("kak setup; kak status");
            assert_same(damage, &whole, &dump());
        }
        sh("nft flush table ip kak-USER; kak teardown");
        assert_same("a table that was changed", &before, &dump());
        // A table of that name without kak's comment is not kak's.
        sh("nft add table ip kak-USER");
        let before = dump();
        run("kak setup").code(1).says("there is a table of this name");
        assert_same("somebody's table", &before, &dump());
    }
}

/// Asks the machine from another address of the jail's subnet.
fn ask_from_own(source: &str) {
    sh(&format!(
        "nsenter --net={JAIL} ping -c 1 -w 5 -I {source} 10.0.0.1"
    ));
}
