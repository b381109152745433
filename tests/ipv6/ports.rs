//! Published ports by IPv6.

use super::*;

sandboxed! {
    fn a_published_port_is_reached_from_everywhere() {
        publish("--publish 8080:80 --publish 8080:80/udp");
        let (gateway, other) = (gateway("USER"), gateway("blue"));
        for by in ALL {
            // Another machine is seen by its own address.
            assert_eq!(ask(by, UPSTREAM, &at(uplink::OURS6, 8080)), uplink::THEIRS6);
            // The machine itself, by each of its addresses.
            assert_eq!(ask(by, HERE, &at(uplink::OURS6, 8080)), uplink::OURS6);
            assert_eq!(ask(by, HERE, &at(&gateway, 8080)), gateway);
            assert_eq!(ask(by, HERE, &at(&other, 8080)), gateway);
            assert_eq!(ask(by, HERE, "[::1]:8080"), gateway);
            // Another jail, and the jail itself.
            assert_eq!(ask(by, BLUE, &at(uplink::OURS6, 8080)), gateway);
            assert_eq!(ask(by, BLUE, &at(&other, 8080)), gateway);
            assert_eq!(ask(by, JAIL, &at(uplink::OURS6, 8080)), gateway);
            assert_eq!(ask(by, JAIL, &at(&gateway, 8080)), gateway);
            // IPv4 works as ever.
            assert!(ask(by, UPSTREAM, "203.0.113.2:8080").ends_with(uplink::THEIRS));
            assert!(ask(by, HERE, "127.0.0.1:8080").ends_with("10.0.0.1"));
            // Only the machine reaches the jail's port itself.
            ask_in_vain(by, UPSTREAM, &at(uplink::OURS6, 80));
            ask_in_vain(by, BLUE, &at(&inside("USER"), 80));
        }
    }

    fn a_port_of_one_address_is_not_one_of_another() {
        uplink::plug6();
        sh("ip addr add 2001:db8::9/64 dev eth0 nodad
            kak setup --ipv6 --publish [2001:db8::9]:8080:80 --publish [2001:db8::9]:8080:80/udp --publish [::1]:8081:80 --publish [::1]:8081:80/udp");
        serve(JAIL, "[::]:80");
        // No setting of IPv4 is changed.
        assert_eq!(sh("cat /proc/sys/net/ipv4/conf/kak-USER/route_localnet"), "0");
        for by in ALL {
            assert_eq!(ask(by, UPSTREAM, "[2001:db8::9]:8080"), uplink::THEIRS6);
            ask(by, HERE, "[2001:db8::9]:8080");
            ask(by, JAIL, "[2001:db8::9]:8080");
            ask_in_vain(by, HERE, "[2001:db8::2]:8080");
            ask_in_vain(by, UPSTREAM, "[2001:db8::2]:8080");
            ask_in_vain(by, HERE, "[::1]:8080");
            ask_in_vain(by, HERE, "127.0.0.1:8080");
            // A port at the loopback address is reached by the machine only.
            assert_eq!(ask(by, HERE, "[::1]:8081"), gateway("USER"));
            ask_in_vain(by, UPSTREAM, "[2001:db8::9]:8081");
            ask_in_vain(by, JAIL, "[::1]:8081");
        }
    }

    fn a_port_of_one_family_is_not_one_of_the_other() {
        uplink::plug6();
        sh("kak setup --ipv6 --publish 0.0.0.0:8080:80 --publish [::]:8081:80; kak status");
        serve(JAIL, "[::]:80");
        for (family, other, addresses) in [(8080, 8081, ["203.0.113.2", "127.0.0.1"]), (8081, 8080, ["[2001:db8::2]", "[::1]"])] {
            ask(By::Tcp, UPSTREAM, &format!("{}:{family}", addresses[0]));
            ask_in_vain(By::Tcp, UPSTREAM, &format!("{}:{other}", addresses[0]));
            ask(By::Tcp, HERE, &format!("{}:{family}", addresses[1]));
            ask_in_vain(By::Tcp, HERE, &format!("{}:{other}", addresses[1]));
        }
        // By IPv6, the same port may lead to another namespace.
        sh("kak netns add blue --uplink --ipv6 --publish [::]:8080:80");
        serve(BLUE, "[::]:80");
        assert_eq!(ask(By::Tcp, UPSTREAM, "[2001:db8::2]:8080"), uplink::THEIRS6);
    }

    fn two_jails_are_published_at_loopback() {
        publish("--publish 8080:80");
        sh("kak setup -n OTHER --ipv6 --publish [::1]:8081:80; kak status -n OTHER; kak status");
        serve("/run/netns/OTHER", "[::]:80");
        let other = gateway("OTHER");
        assert_eq!(ask(By::Tcp, HERE, "[::1]:8080"), gateway("USER"));
        assert_eq!(ask(By::Tcp, HERE, "[::1]:8081"), other);
        sh("kak teardown");
        assert_eq!(ask(By::Tcp, HERE, "[::1]:8081"), other);
        assert_eq!(sh("ip -6 route show table local | grep -c '^local ::1 '"), "2");
        sh("kak teardown -n OTHER; kak netns delete blue");
        assert_eq!(sh("ip -6 route show table local | grep -c '^local ::1 '"), "1");
    }

    fn a_port_that_is_taken_is_an_error_before_anything_changes() {
        uplink::plug6();
        let taken = "this port is in use already";
        let _tcp: Vec<_> = ["[2001:db8::2]:1001", "[::1]:1002", "[::]:1003"]
            .map(|at| std::net::TcpListener::bind(at).unwrap()).into();
        let _udp = std::net::UdpSocket::bind("[::1]:1002").unwrap();
        for port in 1001..=1003 {
            refused(&format!("--ipv6 --publish {port}:80"), 1, taken);
        }
        for at in ["[::1]:1002:80", "[::1]:1002:80/udp", "[2001:db8::2]:1001", "[2001:db8::2]:1003"] {
            refused(&format!("--ipv6 --publish {at}"), 1, taken);
        }
        refused("--ipv6 --publish [2001:db8::99]:99", 1, "no such address");
        refused("--publish [::1]:99", 2, "needs --ipv6");
        for bad in ["[::1]:99 --publish 99:80", "[::1]", "[::1]:0", "::1:80:80", "[fe80::1%eth0]:80"] {
            refused(&format!("--ipv6 --publish {bad}"), 2, "--publish");
        }
        // With IPv4 only, no socket is in the way.
        sh("kak setup --publish 1002:80");
    }

    fn who_asked_before_is_answered_too() {
        uplink::plug6();
        sh("kak netns add blue --uplink --ipv6");
        let asker = within(UPSTREAM, || std::net::UdpSocket::bind("[2001:db8::1]:4000").unwrap());
        asker.connect("[2001:db8::2]:8080").unwrap();
        asker.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        let ask = || {
            asker.send(b"?").ok();
            asker.recv(&mut [0; 99]).is_ok()
        };
        assert!(!ask() && !ask() && !ask());
        sh("kak setup --ipv6 --publish 8080:80/udp");
        serve(JAIL, "[::]:80");
        until("it is answered", ask);
    }

    fn nobody_reaches_whom_he_may_not() {
        publish("--publish 8080:80");
        serve(BLUE, "[::]:80");
        let (user, blue) = (inside("USER"), inside("blue"));
        for jail in [&user, &blue] {
            let network = jail.replace("::2", "::/64");
            sh(&format!("nsenter --net={UPSTREAM} ip -6 route add {network} via {}", uplink::OURS6));
        }
        for (from, to, address) in [(JAIL, BLUE, &blue), (BLUE, JAIL, &user), (UPSTREAM, JAIL, &user), (UPSTREAM, BLUE, &blue)] {
            watch6(to, "prerouting", "meta l4proto { tcp, udp }");
            for by in ALL {
                ask_in_vain(by, from, &at(address, 80));
            }
            run(&format!("nsenter --net={from} ping -6 -c 1 -w 1 {address}")).code(1);
            assert_eq!(seen6(to), 0, "{from} to {address}");
        }
        // The machine itself does reach both.
        for by in ALL {
            assert_eq!(ask(by, HERE, &at(&user, 80)), gateway("USER"));
            assert_eq!(ask(by, HERE, &at(&blue, 80)), gateway("blue"));
        }
    }
}
