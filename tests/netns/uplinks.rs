//! Namespaces with an uplink, which `ip netns` lacks: made, mended, reported and taken back as a jail's network is.

use crate::sandbox::*;

sandboxed! {
    fn an_uplink_that_is_not_whole_is_told_and_mended() {
        uplink::plug();
        let before = dump();
        sh("kak netns add blue --uplink --subnet 10.9.0.0/24; kak status -n blue");
        let (mut whole, record) = (dump(), sh("cat /run/kak/blue/record"));
        let ask = format!("kak netns exec blue perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(\"{}:{}\")->getline'", uplink::THEIRS, uplink::PORT);
        for behind in ["nft delete table ip kak-blue", "ip link delete kak-blue", "ip -n blue addr flush dev eth0", "rm /etc/netns/blue/resolv.conf", "ip -n blue link set lo down"] {
            sh(behind);
            let told = run("kak status --all").code(3).text();
            assert_eq!(told, "blue: a network without a jail, not complete\n", "{behind}");
            run("kak netns add blue --uplink --subnet 10.8.0.0/24").code(1).says("File exists, with other options: --subnet 10.8.0.0/24");
            run("kak netns add blue --uplink --ipv6").code(1).says("File exists, with other options");
            assert_eq!(run("kak status --all").code(3).text(), told, "{behind}");
            // With the options that it was made with, and without options.
            let again = if behind.starts_with("nft") { "kak netns add blue --uplink --subnet 10.9.0.0/24" } else { "kak netns add blue --uplink" };
            assert_eq!(sh(&format!("{again} 2>&1")), "", "{behind}");
            // A new link has another index and hardware address.
            if behind != "ip link delete kak-blue" {
                assert_same(behind, &whole, &dump());
            }
            assert_eq!(sh(&ask), uplink::OURS, "{behind}");
            whole = dump();
            assert!(sh("kak status -n blue").starts_with("blue: a network without a jail\n"), "{behind}");
            run(again).code(1).says("File exists");
            assert_eq!(sh("cat /run/kak/blue/record"), record, "{behind}");
        }
        // If something is in the way, the error names it, and what was mended before that is taken back.
        sh("nft delete table ip kak-blue; ip link delete kak-blue; ip link add kak-blue type veth peer name other");
        let there = dump();
        run("kak netns add blue --uplink").code(1).says("a link kak-blue that is not kak's");
        assert_same("in the way", &there, &dump());
        sh("ip link delete kak-blue; kak netns add blue --uplink; kak status -n blue; kak netns delete blue");
        assert_same("afterwards", &before, &dump());
        // A namespace that was made without an uplink does not get one.
        sh("kak netns add red");
        run("kak netns add red --uplink").code(1).says("File exists");
        assert_eq!(sh("ip -n red -o link | wc -l; ls /run/kak 2>/dev/null || :"), "1");
        sh("kak netns delete red");
    }

    fn a_relay_that_was_killed_is_told_and_started_again() {
        uplink::plug();
        sh("umount /etc/resolv.conf; echo nameserver 127.0.0.53 >/etc/resolv.conf; kak netns add blue --uplink");
        let relays = || processes().iter().filter(|(_, name)| *name == "kak-dns").map(|(pid, _)| *pid).collect::<Vec<_>>();
        for _ in 0..2 {
            sh(&format!("kill -KILL {}", relays()[0]));
            until("it is gone", || relays().is_empty());
            let told = run("kak status -n blue").code(3).text();
            let missing: Vec<&str> = told.lines().filter(|line| !line.starts_with("ok ")).collect();
            assert_eq!(missing, ["blue: a network without a jail, not complete", "--  kak netns add blue --uplink # kak-dns"]);
            sh("kak netns add blue --uplink");
            assert_eq!(relays().len(), 1);
            sh("kak status -n blue");
            run("kak netns add blue --uplink").code(1).says("File exists");
        }
        // A namespace of `--uplink` is no jail for nssh, which says so.
        run("kak nssh -n blue -c true").code(125).says("kak netns add --uplink");
        sh("kak netns delete blue; kak netns add red");
        assert_eq!(relays().len(), 0);
        sh("echo nameserver 192.0.2.1 >/etc/resolv.conf; kak netns add green --uplink --dns 192.0.2.7");
        assert!(!sh("kak status -n green").contains("kak-dns"));
    }

    fn a_namespace_with_an_uplink() {
        uplink::plug();
        let before = dump();
        sh("kak netns add blue --uplink");
        let state = sh("ip -n blue -o addr; ip -n blue route; cat /etc/netns/blue/resolv.conf; ip netns");
        for part in ["lo    inet 127.0.0.1/8", "eth0    inet 10.0.0.2/24", "default via 10.0.0.1 dev eth0", "nameserver 203.0.113.1", "blue (id: 1)"] {
            assert!(state.contains(part), "no {part} in {state}");
        }
        let ask = |name: &str| sh(&format!("kak netns exec {name} perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(\"{}:{}\")->getline'", uplink::THEIRS, uplink::PORT));
        assert_eq!(ask("blue"), uplink::OURS);
        assert!(sh("kak status -n blue").starts_with("blue: a network without a jail\nok  "));
        assert_eq!(sh("kak netns exec blue cat /etc/resolv.conf"), "nameserver 203.0.113.1\nsearch example");
        // Another beside it, with options; and a jail beside both.
        sh("kak netns add --uplink --subnet 10.9.0.0/30 --dns 192.0.2.7 --dns 192.0.2.8 red; kak setup");
        assert_eq!(sh("ip -n red -o -4 addr show eth0 | grep -o 10.9.0.2/30; kak netns exec red cat /etc/resolv.conf; ip -n USER -o -4 addr show eth0 | grep -o 10.0.1.2/24"),
            "10.9.0.2/30\nnameserver 192.0.2.7\nnameserver 192.0.2.8\n10.0.1.2/24");
        assert_eq!([ask("red"), ask("USER")], [uplink::OURS, uplink::OURS]);
        // A jail and a network cannot have the same name.
        run("kak netns add blue --uplink").code(1).says("File exists");
        run("kak netns add USER --uplink").code(1).says("there is a jail of this name");
        run("kak setup -n red").code(1).says("kak netns add --uplink");
        run("kak nssh -n red -c true").code(125).says("kak netns add --uplink");
        sh("kak teardown; kak netns delete blue");
        // Deleted at once: the next one can have the same addresses and link name.
        sh("kak netns add blue --uplink; ip -n blue -o -4 addr show eth0 | grep -q 10.0.0.2/24; ip netns delete red; kak netns delete red; kak ip netns delete blue");
        assert_same("after all of them", &before, &dump());
    }

    fn two_hundred_uplinks_leave_nothing() {
        uplink::plug();
        sh("kak netns add x; kak netns delete x");
        let before = dump();
        for _ in 0..200 {
            sh("kak netns add blue --uplink; kak netns delete blue");
        }
        assert_same("after 200 of them", &before, &dump());
    }

    fn an_uplink_that_cannot_be_leaves_nothing() {
        uplink::plug();
        sh("kak netns add x; kak netns delete x");
        let before = dump();
        for (words, code, said) in [
            ("--uplink --subnet 203.0.113.0/24 blue", 1, "is taken by"),
            ("--uplink --subnet 10.0.0.1/24 blue", 255, "give the network"),
            ("--uplink --dns nobody blue", 255, "must be an IP address"),
            ("--uplink --subnet 10.0.0.0/24 blue red", 255, "one namespace"),
            ("--uplink .hidden", 255, "jail name"),
            ("--subnet 10.0.0.0/24 blue", 255, "--uplink"),
            ("--uplink", 1, "No netns name specified"),
        ] {
            run(&format!("kak netns add {words}")).code(code).says(said);
        }
        sh("ip link add kak-blue type veth peer name other");
        run("kak netns add blue --uplink").code(1).says("a link kak-blue that is not kak's");
        sh("ip link delete kak-blue");
        assert_same("afterwards", &before, &dump());
    }

    fn a_relay_serves_a_namespace_too() {
        uplink::plug();
        sh("umount /etc/resolv.conf; echo nameserver 127.0.0.53 >/etc/resolv.conf; kak netns add blue --uplink");
        let relays = || processes().values().filter(|name| *name == "kak-dns").count();
        assert_eq!(relays(), 1);
        // A server outside, on that address.
        let answer = "perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalAddr => \"127.0.0.53:53\", Proto => \"udp\"); print STDERR \"ready\"; $s->recv(my $q, 512); $s->send(\"to $q\")'";
        let mut server = std::process::Command::new("sh").args(["-c", answer]).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 5];
        std::io::Read::read_exact(server.stderr.as_mut().unwrap(), &mut ready).unwrap();
        let ask = "perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(PeerAddr => \"127.0.0.53:53\", Proto => \"udp\"); $s->send(\"me\"); $s->recv(my $a, 512); print $a'";
        assert_eq!(sh(&format!("kak netns exec blue {ask}")), "to me");
        server.wait().unwrap();
        sh("kak netns delete blue");
        assert_eq!(relays(), 0);
    }

    fn published_ports_lead_in() {
        uplink::plug();
        let before = dump();
        sh("kak netns add blue --uplink --publish 8080:80 --publish 203.0.113.2:5353:53/udp");
        let serve = "perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 5, ReuseAddr => 1); print STDERR \"ready\"; while (my $c = $s->accept) { print $c $c->peerhost }'";
        let mut server = std::process::Command::new("sh").args(["-c", &format!("exec kak netns exec blue {serve}")])
            .stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 5];
        std::io::Read::read_exact(server.stderr.as_mut().unwrap(), &mut ready).unwrap();
        let ask = |from: &str, port: u16| sh(&format!("{from} perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(\"{}:{port}\")->getline'", uplink::OURS));
        // From another machine, which is seen by its own address; from this one; and from another namespace.
        assert_eq!(ask("nsenter --net=/var/upstream", 8080), uplink::THEIRS);
        assert_eq!(ask("", 8080), uplink::OURS);
        sh("kak netns add red --uplink");
        assert_eq!(ask("kak netns exec red", 8080), "10.0.0.1");
        // By UDP.
        let listen = "perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalPort => 53, Proto => \"udp\"); print STDERR \"ready\"; $s->recv(my $q, 9); $s->send(\"to $q\")'";
        let mut datagrams = std::process::Command::new("sh").args(["-c", &format!("exec kak netns exec blue {listen}")])
            .stderr(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(datagrams.stderr.as_mut().unwrap(), &mut ready).unwrap();
        assert_eq!(sh("nsenter --net=/var/upstream perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(PeerAddr => \"203.0.113.2:5353\", Proto => \"udp\"); $s->send(\"me\"); $s->recv(my $a, 9); print $a'"), "to me");
        datagrams.wait().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
        // A port leads to one namespace or jail only.
        run("kak netns add green --uplink --publish 203.0.113.2:8080:1").code(1).says("is already forwarded to blue");
        run("kak setup --publish 8080").code(1).says("is already forwarded to blue");
        run("perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 9000, Listen => 1); exec \"kak netns add green --uplink --publish 9000\" unless my $kak = fork; waitpid $kak, 0; exit $? >> 8'")
            .code(1).says("this port is in use already");
        run("kak netns add green --uplink --publish 192.0.2.99:1").code(1).says("no such address");
        run("kak netns add green --uplink --publish 99999").code(255).says("--publish 99999");
        sh("kak netns delete blue; kak netns delete red");
        // The jail's network has the same.
        sh("kak setup --publish 8080:80; kak setup --publish 8080:80; kak status; nft list table ip kak-USER | grep -q 'dport 8080 dnat to 10.0.0.2:80'; kak teardown");
        assert_same("afterwards", &before, &dump());
    }

    fn a_network_that_comes_again_has_its_options() {
        uplink::plug();
        sh("kak netns add red --uplink --subnet 10.9.0.0/24 --publish 8080:80; ip netns delete red");
        sh("kak netns add red --uplink; kak status -n red; nft list table ip kak-red | grep -q 8080; ip -n red -4 -o addr show eth0 | grep -q 10.9.0.2/24");
        // With other options, those hold.
        sh("ip netns delete red; kak netns add red --uplink --subnet 10.8.0.0/24; ip -n red -4 -o addr show eth0 | grep -q 10.8.0.2/24");
        run("nft list table ip kak-red | grep 8080").code(1);
        sh("kak netns delete red");
    }
}
