//! A jail that comes up again on a machine that has changed meanwhile: it is made from what is there now.

use crate::sandbox::*;

/// Ends a jail as a crash does: by killing its keeper, so that links, rules, files and the record stay.
fn crash() {
    let init = init("USER");
    sh(&format!(
        "kill -KILL {}",
        process_field(init, "PPid").unwrap()
    ));
    until("the jail is down", || {
        run("kak status").status.code() == Some(3) && processes().is_empty()
    });
}

/// Asserts that a jail comes up again completely, that a script in it prints what is wanted, and that a teardown leaves
/// the machine as it was.
#[track_caller]
fn again(what: &str, machine: &str, script: &str, wanted: &str) {
    let ended = program(&["nssh", "-c", script]).code(0);
    assert_eq!(ended.text().trim(), wanted, "{what}");
    let status = run("kak status");
    assert_eq!(status.status.code(), Some(0), "{what}: {status}");
    crash();
    sh("kak setup; nssh -c true; kak status; kak teardown");
    assert_same(what, machine, &dump());
    until("nobody is left", || processes().is_empty());
}

sandboxed! {
    fn a_directory_that_is_gone_is_not_missed() {
        sh("mkdir /data1");
        let before = dump();
        sh("kak setup");
        crash();
        sh("rmdir /data1");
        again("without /data1", &before, "ls -d /data1 2>/dev/null || echo none", "none");
    }

    fn a_directory_that_is_new_is_there() {
        let before = dump();
        sh("kak setup; ip -n USER link add mine type veth peer name yours");
        crash();
        sh("mkdir /data3; echo three >/data3/file; ln -s data3/file /link; echo four >/plain");
        // A link that was added to the jail's network by hand is still in it.
        again("with /data3", &before, "cat /data3/file /link /plain; ls /sys/class/net", "three\nthree\nfour\neth0\nlo\nmine\nyours");
    }

    fn a_name_that_is_something_else_is_that() {
        sh("mkdir /a /b; ln -s a /c; echo d >/d");
        let before = dump();
        sh("kak setup");
        crash();
        sh("rmdir /a /b; rm /c /d; ln -s usr /a; echo b >/b; mkdir /c; ln -s b /d");
        again("other kinds", &before, "readlink /a; cat /b; test -d /c && ! test -L /c && readlink /d", "usr\nb\nb");
    }

    fn its_resolvers_are_those_of_now() {
        sh("umount /etc/resolv.conf; echo nameserver 192.0.2.1 >/etc/resolv.conf; kak setup");
        crash();
        sh("echo nameserver 192.0.2.2 >/etc/resolv.conf");
        let machine = sh("kak setup >/dev/null; kak teardown; cat /etc/resolv.conf; ls -A /etc/netns 2>/dev/null || true");
        assert_eq!(machine, "nameserver 192.0.2.2");
        let before = dump();
        sh("kak setup");
        crash();
        again("other resolvers", &before, "cat /etc/resolv.conf", "nameserver 192.0.2.2");
        // An empty one that kak made as a mount point does not count as the machine's resolv.conf.
        sh("rm /etc/resolv.conf");
        let before = dump();
        sh("kak setup --dns 192.0.2.53; test -f /etc/resolv.conf");
        crash();
        again("no resolvers", &before, "cat /etc/resolv.conf", "nameserver 192.0.2.53");
    }

    fn its_shell_is_one_that_is_there() {
        let before = dump();
        sh("kak setup; nssh -c 'test -n \"$BASH\"'");
        crash();
        sh("mount --bind /dev/null /usr/bin/bash");
        assert_eq!(sh("nssh -c 'echo $0 $SHELL'; kak status >/tmp/status; rm /tmp/status"), "sh /bin/sh");
        sh("umount /usr/bin/bash; kak teardown");
        assert_same("without bash", &before, &dump());
    }

    fn its_cable_carries_what_the_uplink_of_now_does() {
        uplink::plug();
        sh("kak setup; ip link set eth0 mtu 1300");
        crash();
        let inside = "cat /sys/class/net/eth0/mtu";
        assert_eq!(sh(&format!("nssh -c '{inside}'")), "1300");
        assert_eq!(sh("cat /sys/class/net/kak-USER/mtu"), "1300");
        assert_eq!(sh(&format!("nssh -c 'cat </dev/tcp/{}/{}'", uplink::THEIRS, uplink::PORT)), uplink::OURS);
        crash();
        sh(&format!("ip link set eth0 mtu {}", uplink::MTU));
        assert_eq!(sh(&format!("nssh -c '{inside}'")), uplink::MTU.to_string());
        sh("kak status; kak teardown");
    }

    fn an_uplink_that_came_later_is_used() {
        let ended = program(&["kak", "setup"]).code(0).says("no default route");
        assert!(ended.text().contains("mtu 1500"), "{ended}");
        crash();
        uplink::plug();
        assert_eq!(program(&["kak", "setup"]).code(0).stderr, "");
        assert_eq!(sh(&format!("nssh -c 'cat </dev/tcp/{}/{}; cat /sys/class/net/eth0/mtu'", uplink::THEIRS, uplink::PORT)), format!("{}\n{}", uplink::OURS, uplink::MTU));
        sh("kak status; kak teardown");
    }

    fn its_subnet_is_its_own_until_somebody_has_it() {
        uplink::plug();
        sh("ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up; ip addr add 10.0.0.77/24 dev v0");
        let before = dump();
        sh("kak setup");
        let address = "ip -4 -o addr show eth0 | tr -s ' ' | cut -d ' ' -f 4";
        assert_eq!(sh(&format!("nssh -c \"{address}\"")), "10.0.1.2/24");
        crash();
        // That an earlier subnet is free now is no reason to change.
        sh("ip addr del 10.0.0.77/24 dev v0");
        assert_eq!(sh(&format!("nssh -c \"{address}\"")), "10.0.1.2/24");
        crash();
        sh("ip addr add 10.0.0.77/24 dev v0; ip route add 10.0.1.128/25 dev v0; ip -n USER link add mine type veth peer name yours");
        assert_eq!(sh(&format!("nssh -c \"{address}; ls -d /sys/class/net/mine\"")), "10.0.2.2/24\n/sys/class/net/mine");
        assert_eq!(sh("ip -4 -o addr show kak-USER | tr -s ' ' | cut -d ' ' -f 4; ip -n USER route show default"), "10.0.2.1/24\ndefault via 10.0.2.1 dev eth0");
        assert_eq!(sh(&format!("nssh -c 'cat </dev/tcp/{}/{}'", uplink::THEIRS, uplink::PORT)), uplink::OURS);
        assert!(!sh("nft list ruleset").contains("10.0.1."));
        sh("kak status; kak teardown; ip route del 10.0.1.128/25 dev v0");
        assert_same("two subnets", &lasting(&before), &lasting(&dump()));
    }

    fn what_is_masked_now_is_masked_in_it() {
        let before = dump();
        sh("kak setup");
        crash();
        sh("mount -t tmpfs -o ro,size=4k masked /proc/irq");
        assert_eq!(sh("nssh -c 'ls -A /proc/irq; findmnt -n -o SOURCE /proc/irq'"), "masked");
        crash();
        sh("umount /proc/irq");
        again("a mask that is gone", &before, "findmnt -n -o SOURCE /proc/irq || echo none", "none");
    }

    fn what_it_was_asked_for_must_still_be_there() {
        sh("mkdir /srv /data; kak setup --hide srv --bind /data:/opt/data");
        crash();
        sh("rmdir /data");
        program(&["nssh", "-c", "true"]).code(125).says("--bind /data:/opt/data: there is no /data");
        sh("mkdir /data; rmdir /srv");
        program(&["nssh", "-c", "true"]).code(125).says("--hide /srv: there is no such directory");
        sh("mkdir /srv; nssh -c 'test -d /opt/data'; kak status; kak teardown");
    }

    fn what_it_made_itself_is_no_other_machine() {
        uplink::plug();
        sh("umount /etc/resolv.conf; rm /etc/resolv.conf; printf '/bin/sh' >/etc/shells");
        let before = dump();
        sh("kak setup --root /its/own/root --dns 192.0.2.53");
        let (record, up) = (sh("cat /run/kak/USER/record"), dump());
        crash();
        sh("kak setup --dry-run >/tmp/plan; ! grep '^+ [^mcwu]' /tmp/plan"); // Only what init does.
        sh("nssh -c true; kak status");
        assert_eq!(sh("cat /run/kak/USER/record"), record);
        assert_same("a life like the one before", &up, &dump());
        crash();
        sh("mkdir /new; nssh -c 'ls -d /new'; kak status; kak teardown; rmdir /new; test ! -e /its");
        assert_same("a root of its own", &before, &dump());
    }

    fn what_was_there_before_stays_whatever_becomes_of_the_machine() {
        uplink::plug();
        sh("echo 1 >/proc/sys/net/ipv4/ip_forward; mkdir -p /mnt/user/opt /mnt/user/late; ip netns add USER; echo /bin/nssh >>/etc/shells");
        let before = dump();
        sh("kak setup");
        crash();
        sh("mkdir /late /later; ip link set eth0 mtu 1300");
        sh("nssh -c 'ls -d /late /later'");
        crash();
        sh(&format!("rmdir /later; ip link set eth0 mtu {}", uplink::MTU));
        sh("nssh -c true; kak status; kak teardown");
        assert_same("four lives", &before, &dump());
    }
}
