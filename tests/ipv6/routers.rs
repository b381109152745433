//! Router advertisements that the machine accepts, and the settings `forwarding` and `accept_ra`.

use super::*;

/// Sends a router advertisement on a link, with this lifetime in seconds and a prefix for address autoconfiguration.
fn advertise(namespace: &str, link: &str, lifetime: u16, network: &str) {
    // It must come from a link-local address.
    until("the link has its address", || {
        let addresses = sh(&format!(
            "nsenter --net={namespace} ip -6 addr show dev {link} scope link"
        ));
        addresses.contains("fe80") && !addresses.contains("tentative")
    });
    sh(&format!(
        "nsenter --net={namespace} python3 -c '
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
s.setsockopt(41, socket.IPV6_MULTICAST_HOPS, 255)
s.setsockopt(41, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(\"{link}\"))
router = struct.pack(\"!BBHBBHII\", 134, 0, 0, 64, 0, {lifetime}, 0, 0)
prefix = struct.pack(\"!BBBBIII\", 3, 4, 64, 0xC0, 3600, 1800, 0) + socket.inet_pton(socket.AF_INET6, \"{network}\")
s.sendto(router + prefix, (\"ff02::1\", 0))
'"
    ));
}

/// Whether the machine has an address of a network and a default route, both from a router on a link.
fn has_heard(network: &str, link: &str) -> bool {
    sh(&format!("ip -6 addr show dev {link} scope global")).contains(network.trim_end_matches(':'))
        && sh(&format!("ip -6 route show default dev {link}")).contains("proto ra")
}

/// Connects the machine to a link with a router, and waits until its advertisement is accepted.
fn plug_by_router() {
    uplink::plug();
    sh("nsenter --net=/var/upstream ip addr add 2001:db8:0:1::1/64 dev up0 nodad");
    // Later advertisements have to be accepted as well.
    assert_eq!(sh("cat /proc/sys/net/ipv6/conf/eth0/accept_ra"), "1");
    advertise(UPSTREAM, "up0", 1800, "2001:db8:0:1::");
    until("the router is heard", || {
        has_heard("2001:db8:0:1::", "eth0")
    });
}

sandboxed! {
    fn a_jail_is_no_router_for_the_machine() {
        uplink::plug6();
        sh("kak setup --ipv6; echo 2 >/proc/sys/net/ipv6/conf/kak-USER/accept_ra");
        advertise(JAIL, "eth0", 1800, "2001:db8:0:bad::");
        advertise(JAIL, "eth0", 1800, "2001:db8:0:bad::");
        run("nssh -c 'ping -6 -c 1 -w 5 2001:db8::1'").code(0);
        assert!(!has_heard("2001:db8:0:bad::", "kak-USER"));
        // The counterpart: without the rule it is accepted.
        sh("nft flush chain ip6 kak-USER raw");
        advertise(JAIL, "eth0", 1800, "2001:db8:0:bad::");
        until("it is heard", || has_heard("2001:db8:0:bad::", "kak-USER"));
    }

    fn a_router_is_heard_all_the_time() {
        plug_by_router();
        let before = sh("cat /proc/sys/net/ipv6/conf/*/accept_ra /proc/sys/net/ipv6/conf/*/forwarding");
        sh("kak setup --ipv6; kak status");
        assert_eq!(sh(&format!("cat {FORWARDING} /proc/sys/net/ipv6/conf/eth0/accept_ra")), "1\n2");
        // The address and the route stay, and new advertisements are accepted.
        assert!(has_heard("2001:db8:0:1::", "eth0"));
        serve(UPSTREAM, "[2001:db8:0:1::1]:80");
        ask(By::Tcp, JAIL, "[2001:db8:0:1::1]:80");
        advertise(UPSTREAM, "up0", 1800, "2001:db8:0:2::");
        until("the router's news is heard", || has_heard("2001:db8:0:2::", "eth0"));
        sh("kak teardown");
        assert_eq!(sh("cat /proc/sys/net/ipv6/conf/*/accept_ra /proc/sys/net/ipv6/conf/*/forwarding"), before);
        advertise(UPSTREAM, "up0", 1800, "2001:db8:0:3::");
        until("as it was before", || has_heard("2001:db8:0:3::", "eth0"));
    }

    fn a_link_that_heard_no_router_hears_none() {
        plug_by_router();
        sh("echo 1 >/proc/sys/net/ipv6/conf/eth0/forwarding");
        let before = dump();
        sh("kak setup --ipv6");
        assert_eq!(sh("cat /proc/sys/net/ipv6/conf/eth0/accept_ra"), "1");
        sh("kak teardown");
        assert_same("a router's link", &before, &dump());
    }

    fn without_kak_forwarding_loses_the_router() {
        // The counterpart of the test `a_router_is_heard_all_the_time`.
        plug_by_router();
        sh(&format!("echo 1 >{FORWARDING}"));
        assert!(!has_heard("2001:db8:0:1::", "eth0"));
    }

    fn a_router_that_comes_later_is_heard() {
        uplink::plug();
        sh("kak setup --ipv6");
        advertise(UPSTREAM, "up0", 1800, "2001:db8:0:1::");
        until("the router is heard", || has_heard("2001:db8:0:1::", "eth0"));
        sh("nsenter --net=/var/upstream ip addr add 2001:db8:0:1::1/64 dev up0 nodad");
        sh("nssh -c 'ping -6 -c 1 -w 5 2001:db8:0:1::1'");
    }

    fn switches_are_left_as_they_were() {
        uplink::plug6();
        sh("ip link add v0 type veth peer name v1
            echo 1 >/proc/sys/net/ipv6/conf/v0/forwarding; echo 1 >/proc/sys/net/ipv6/conf/default/forwarding
            echo 0 >/proc/sys/net/ipv6/conf/v1/accept_ra");
        let before = dump();
        sh("kak setup --ipv6; kak teardown");
        assert_same("one jail", &before, &dump());
        // The last of several undoes what the first one did.
        sh("kak setup --ipv6; kak setup -n OTHER --ipv6; kak netns add blue --uplink --ipv6; kak teardown; kak netns delete blue");
        assert_eq!(sh(&format!("cat {FORWARDING} /proc/sys/net/ipv6/conf/eth0/accept_ra")), "1\n2");
        serve(UPSTREAM, "[2001:db8::1]:80");
        ask(By::Tcp, "/run/netns/OTHER", "[2001:db8::1]:80");
        sh("kak teardown -n OTHER");
        assert_same("three", &before, &dump());
        // So does a setup after a keeper was killed, even with other options.
        for again in ["kak setup", "kak setup --ipv6 --publish 80", "kak setup --hide srv"] {
            sh("mkdir -p /srv; kak setup --ipv6");
            sh(&format!("kill -KILL {}", process_field(init("USER"), "PPid").unwrap()));
            until("nobody is left", || processes().is_empty());
            sh(&format!("{again}; kak status; kak teardown; rmdir /srv"));
            assert_same(again, &before, &dump());
        }
        // A machine that forwards already goes on to.
        sh(&format!("echo 1 >{FORWARDING}"));
        let before = dump();
        sh("kak setup --ipv6; kak teardown");
        assert_same("a router", &before, &dump());
    }

    fn switches_need_no_writable_proc_sys() {
        uplink::plug6();
        sh("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
        let before = dump();
        sh("kak setup --ipv6; kak status");
        serve(UPSTREAM, "[2001:db8::1]:80");
        assert_eq!(ask(By::Tcp, JAIL, "[2001:db8::1]:80"), uplink::OURS6);
        sh("kak teardown");
        assert_same("/proc/sys read-only", &before, &dump());
    }
}
