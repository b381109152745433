//! `kak ip` beside the real `ip`: the same commands in the same state give the same output, errors and statuses. What
//! differs on purpose is in one table, [`rows::BETTER`], and has tests of its own below.

mod many;
mod rows;

use std::fmt::Write as _;

use crate::sandbox::*;
use rows::{BETTER, SAME};

/// What a script does on a machine whose /run and /etc/netns are empty and whose network is new. `$IP` is the program.
fn outcome(ip: &str, script: &str) -> (Option<i32>, String, String) {
    let script = format!(
        "mount -t tmpfs run /run; mkdir -p /etc/netns; mount -t tmpfs conf /etc/netns; cd /tmp; IP='{ip}'\n{script}"
    );
    let ended = program(&["unshare", "--net", "--mount", "sh", "-c", &script]);
    (
        ended.status.code(),
        each_byte(&ended.stdout),
        each_byte(&ended.stderr_bytes),
    )
}

/// Bytes as text in which no two of them look the same.
fn each_byte(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The same without the cures, which are kak's own lines.
fn told(outcome: (Option<i32>, String, String)) -> (Option<i32>, String, String) {
    let (code, stdout, stderr) = outcome;
    let ours = |line: &&str| !line.starts_with("kak: netns: ");
    let stderr = stderr.split_inclusive('\n').filter(ours).collect();
    (code, stdout, stderr)
}

sandboxed! {
    fn the_same_as_ip() {
        let mut differ = String::new();
        for script in SAME {
            let (theirs, ours) = (outcome("ip", script), told(outcome("kak ip", script)));
            if theirs != ours {
                writeln!(differ, "--- {script}\nip:  {theirs:?}\nkak: {ours:?}").unwrap();
            }
        }
        assert!(differ.is_empty(), "{differ}");
    }

    fn better_than_ip() {
        for (why, script, code, stdout, stderr) in BETTER {
            let wanted = (Some(*code), (*stdout).to_owned(), (*stderr).to_owned());
            assert_eq!(outcome("kak ip", script), wanted, "{why}: {script}");
            // What ip has learnt meanwhile belongs above.
            let script = script.replace("mkfifo", "timeout 5 mkfifo");
            assert_ne!(outcome("timeout 2 ip", &script), wanted, "{why}: ip does too");
        }
    }

    fn what_one_makes_the_other_has() {
        for (one, other) in [("ip", "kak ip"), ("kak ip", "ip"), ("kak ip", "kak")] {
            sh(&format!("{one} netns add a; {one} netns set a 12; {one} netns attach b $$"));
            assert_eq!(sh(&format!("{other} netns | sort")), "a (id: 12)\nb");
            assert_eq!(sh(&format!("{other} netns list-id")), "nsid 12 (iproute2 netns name: a)");
            assert_eq!(sh(&format!("{one} netns exec a {other} netns identify")), "a");
            assert_eq!(sh(&format!("{other} netns exec a {one} netns identify")), "a");
            assert_eq!(sh(&format!("{one} netns exec a sleep 5 & sleep .2; {other} netns pids a | grep -x $!; kill $!")).lines().count(), 1);
            sh(&format!("{other} netns delete a; {other} netns delete b; test -z \"$({one} netns)\""));
            // The number goes when the kernel has taken the namespace apart.
            until("nobody has a number", || sh("ip netns list-id").is_empty());
        }
    }

    fn pyroute2_has_it_too() {
        sh("kak netns add a b; kak netns set a 5");
        let script = "
from pyroute2 import netns, NetNS, IPRoute
assert sorted(netns.listnetns()) == ['a', 'b'], netns.listnetns()
netns.create('c')
with NetNS('a') as a: assert [l.get_attr('IFLA_IFNAME') for l in a.get_links()] == ['lo']
with IPRoute() as ip, open('/run/netns/a') as a: assert ip.get_netnsid(fd=a.fileno())['nsid'] == 5
netns.remove('b')
import os
netns.attach('mine', os.getpid())
assert netns.ns_pids().get('mine'), netns.ns_pids()
from pyroute2.netlink.rtnl import RTM_NEWNSID
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg
with IPRoute() as ip, open('/run/netns/c') as c:
    message = nsidmsg()
    message['attrs'] = [('NETNSA_FD', c.fileno()), ('NETNSA_NSID', 9)]
    ip.nlm_request(message, RTM_NEWNSID, 1 | 4)
netns.setns('c')
";
        std::fs::write("/tmp/script.py", script).unwrap();
        let ended = program(&["/usr/bin/python3", "/tmp/script.py"]);
        assert!(ended.status.success(), "{ended} (Debian has it as python3-pyroute2)");
        assert_eq!(sh("kak netns | sort"), "a (id: 5)\nc (id: 9)\nmine");
        assert_eq!(sh("kak netns exec c kak netns identify; kak netns identify; kak netns delete a c mine; kak netns"), "c\nmine");
    }

    fn iproute2s_own_tests_pass() {
        let suite = std::path::Path::new("/var/data/iproute2/testsuite");
        assert!(suite.is_dir(), "iproute2's sources are not there; scripts/test gets them");
        sh("mkdir /tmp/front; ln -s /bin/kak /tmp/front/ip");
        for test in ["set_nsid", "set_nsid_batch"] {
            until("nobody has a number", || sh("ip netns list-id").is_empty());
            let said = sh(&format!(
                "cd {}; export IP=/tmp/front/ip STD_ERR=/tmp/err STD_OUT=/tmp/out ERRF=/tmp/failed TMPDIR=/tmp
                : >/tmp/failed; sh tests/ip/netns/{test}.t; cat /tmp/failed",
                suite.display()
            ));
            assert!(said.contains("[SUCCESS]") && !said.to_lowercase().contains("fail"), "{said}");
        }
    }

    fn several_names_in_one_call() {
        assert_eq!(sh("kak netns add a b c; netns-add d 2>/dev/null || kak netns-add d; kak netns | sort"), "a\nb\nc\nd");
        run("kak netns add e a f").code(1).says("\"/run/netns/a\": File exists");
        run("kak netns add g ../h").code(255).says("Invalid netns name");
        assert_eq!(sh("kak netns list | sort"), "a\nb\nc\nd\ne\nf");
        run("kak netns delete a nope b").code(1).says("nope");
        assert_eq!(sh("kak netns -j list | tr , '\\n' | wc -l; kak netns list -j -p | grep -c name; kak netns-list -j | wc -l"), "4\n4\n1");
        assert_eq!(sh("kak netns exec -all true | grep -c netns:; kak netns-delete -all; kak netns"), "4");
        sh("kak netns add -- -x; test $(kak netns) = -x; kak netns exec -- -x true; kak netns delete -- -x");
        run("kak netns add -x").code(255).says("-x");
        run("kak netns -h").code(0);
        run("kak netns help").code(0);
        run("ln -s /bin/kak /tmp/ipnetns; /tmp/ipnetns add y && /tmp/ipnetns").code(0);
    }

    fn everything_under_sys_is_still_there() {
        sh("mkdir -p /tmp/mark; mount -t tmpfs mark /sys/kernel/debug 2>/dev/null || mount -t tmpfs mark /sys/fs/bpf
            mount -t tmpfs below /sys/fs/cgroup; mkdir /sys/fs/cgroup/deeper; mount -t tmpfs deeper /sys/fs/cgroup/deeper
            mount -o remount,bind,nosuid,nodev,noexec /sys; kak netns add a");
        let below = |script: &str| sh(&format!("{script} grep -E ' /sys/' /proc/self/mountinfo | cut -d ' ' -f 5- | sed 's/ master:[0-9]*//' | sort"));
        assert_eq!(below("kak netns exec a"), below(""));
        let sys = sh("kak netns exec a sh -c \"findmnt -n -o SOURCE,OPTIONS /sys | tail -n 1; ls /sys/class/net\"");
        let flags = sys.lines().next().unwrap();
        assert!(flags.starts_with('a') && ["nosuid", "nodev", "noexec"].iter().all(|flag| flags.contains(flag)), "{sys}");
        assert_eq!(sys.lines().last(), Some("lo"));
        sh("mount -o remount,bind,ro /sys");
        sh("kak netns exec a findmnt -n -o OPTIONS /sys | tail -n 1 | grep -w ro");
        // And nothing of it is seen outside.
        assert_eq!(sh("findmnt -n /sys | wc -l"), "1");
    }

    fn where_there_can_be_no_sysfs_the_old_one_stays() {
        sh("kak netns add a; mount -t tmpfs plain /var; umount -l /sys");
        let ended = run("rmdir /sys; kak netns exec a true").code(0);
        assert_eq!(ended.stderr.matches("mount of /sys failed").count(), 1, "{ended}");
    }

    fn a_command_gets_what_it_would_have_had() {
        sh("kak netns add a");
        assert_eq!(sh("env -i A=1 B /bin/kak netns exec a env 2>/dev/null || env -i A=1 /bin/kak netns exec a /usr/bin/env"), "A=1\nKAK_NETNS=a");
        assert_eq!(sh("kak netns add b; kak netns exec a kak netns exec b sh -c 'echo $KAK_NETNS; env | grep -c KAK_NETNS'"), "b\n1");
        let facts = "'grep -E \"^(Sig[PBIC]|Shd|Cap|Uid|Gid|Groups|NoNew|Seccomp)\" /proc/self/status; cat /proc/self/limits; ls /proc/self/fd; ps -o pid,ppid,pgid,sid -p $$ | wc -l; cat /proc/self/cgroup; nice'";
        for caller in ["", "trap '' PIPE USR1;", "exec 5</dev/null 9>/dev/null;", "ulimit -n 77;", "umask 077;"] {
            let (with, without) = (sh(&format!("{caller} kak netns exec a sh -c {facts}")), sh(&format!("{caller} sh -c {facts}")));
            assert_eq!(with, without, "{caller}");
        }
        assert_eq!(sh("sh -c 'echo $$; exec kak netns exec a sh -c \"echo \\$\\$\"' | uniq | wc -l"), "1");
    }

    fn a_resolver_that_is_replaced_does_not_become_the_hosts() {
        sh("mkdir -p /etc/netns/a /run/resolve; umount /etc/resolv.conf; echo ns >/etc/netns/a/resolv.conf; kak netns add a");
        let spy = |host: &str, replace: &str| {
            sh(host);
            let mut inside = std::process::Command::new("kak").args(["netns", "exec", "a", "sh", "-c"])
                .arg("cat /etc/resolv.conf; read line; cat /etc/resolv.conf; exec sleep 1000")
                .stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
            let pid = i64::from(inside.id());
            let see = || sh(&format!("nsenter -t {pid} -m cat /etc/resolv.conf"));
            until("the command has its resolver", || see() == "ns");
            for _ in 0..5 {
                sh(replace);
                until("it has it again", || see() == "ns");
            }
            assert_ne!(sh("cat /etc/resolv.conf"), "ns");
            drop(inside.stdin.take());
            until("it has looked again", || process_field(pid, "Name").is_some_and(|name| name == "sleep"));
            inside.kill().unwrap();
            let said = std::io::read_to_string(inside.stdout.take().unwrap()).unwrap();
            inside.wait().unwrap();
            assert_eq!(said, "ns\nns\n");
            until("nobody is left", || processes().is_empty());
        };
        spy("echo host >/etc/resolv.conf", "echo other >/etc/new; mv /etc/new /etc/resolv.conf");
        spy(
            "echo host >/run/resolve/stub; rm /etc/resolv.conf; ln -s ../run/resolve/stub /etc/resolv.conf",
            "echo other >/run/resolve/new; mv /run/resolve/new /run/resolve/stub",
        );
        spy(
            "rm /etc/resolv.conf; ln -s ../run/resolve/stub /etc/resolv.conf",
            "ln -s ../run/resolve/stub /etc/new; mv -T /etc/new /etc/resolv.conf",
        );
        // A link that leads nowhere is as good a place.
        sh("rm /etc/resolv.conf; ln -s /nowhere/stub /etc/resolv.conf");
        assert_eq!(sh("kak netns exec a cat /etc/resolv.conf"), "ns");
        until("nobody is left", || processes().is_empty());
    }

    fn the_guard_stays_as_long_as_anybody() {
        sh("mkdir -p /etc/netns/a; umount /etc/resolv.conf; echo ns >/etc/netns/a/resolv.conf; kak netns add a");
        sh("kak netns exec a sh -c 'setsid sleep 1000 >/dev/null 2>&1 & echo $! >/tmp/pid'");
        let pid: i64 = sh("cat /tmp/pid").parse().unwrap();
        assert!(processes().values().any(|name| name == "kak-netns"));
        sh("echo other >/etc/new; mv /etc/new /etc/resolv.conf");
        until("who is left has it too", || sh(&format!("nsenter -t {pid} -m cat /etc/resolv.conf")) == "ns");
        sh(&format!("kill {pid}"));
        until("nobody is left", || processes().is_empty());
        // In a container, where the file is a mount point, nothing can take its place, and nobody needs to guard it.
        sh("mount --bind /etc/hosts /etc/resolv.conf");
        assert_eq!(sh("kak netns exec a sh -c 'cat /etc/resolv.conf; cat /proc/[0-9]*/comm | grep -c kak-netns || :'"), "ns\n0");
    }

    fn monitor_tells_at_once() {
        use std::io::BufRead as _;
        let mut monitor = std::process::Command::new("kak").args(["ip", "netns", "monitor"])
            .stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufReader::new(monitor.stdout.take().unwrap()).lines();
        until("it watches", || sh(&format!("grep -c '^inotify' /proc/{}/fdinfo/* | grep -c ':1$' || :", monitor.id())) == "1");
        sh("kak netns add a; ip netns add b; kak netns delete a; mkfifo /run/netns/c");
        for wanted in ["add a", "add b", "delete a", "add c"] {
            assert_eq!(lines.next().unwrap().unwrap(), wanted);
        }
        monitor.kill().unwrap();
        monitor.wait().unwrap();
    }

    fn a_hidden_copy_does_not_keep_a_name() {
        // A run directory as older releases of ip make it: in the peer group of a shared /run, so every name is mounted
        // twice; and a mount namespace that has both copies, but gets no news of either.
        sh("mount -t tmpfs run /run; mount --make-shared /run; mkdir /run/netns; mount --bind /run/netns /run/netns
            : >/run/netns/a; unshare --net mount --bind /proc/self/ns/net /run/netns/a
            test $(grep -c ' /run/netns/a ' /proc/self/mountinfo) = 2");
        sh("unshare --mount --propagation slave kak netns delete a");
        assert_eq!(sh("ls /run/netns; grep -c nsfs /proc/self/mountinfo || :"), "0");
    }

    fn a_user_namespaces_root_has_what_it_may_have() {
        let inside = |script: &str| program(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]);
        // The network is not the user namespace's: ip cannot go back to it, kak need not.
        let ended = inside("mount -t tmpfs run /run; kak netns add a && kak netns exec a sh -c 'ls /sys/class/net' && kak netns && kak netns delete a && kak netns");
        assert_eq!(ended.code(0).text(), "lo\na\n");
        let ended = inside("mount -t tmpfs run /run; kak netns add a; kak ip netns set a 5; kak ip -n a netns set a 5; kak netns list; kak ip -n a netns");
        let text = ended.text();
        assert!(ended.stderr.contains("RTNETLINK answers: Operation not permitted") && ended.stderr.contains("CAP_NET_ADMIN"), "{ended}");
        assert_eq!(text, "a\na (id: 5)\n");
        // What belongs to somebody else it may look at, and no more.
        sh("kak netns add theirs");
        let ended = inside("kak netns; kak netns exec theirs true; echo $?; kak netns delete theirs; echo $?");
        assert_eq!(ended.text(), "theirs\n255\n1\n");
        assert!(ended.stderr.contains("setting the network namespace \"theirs\" failed: Operation not permitted") && ended.stderr.contains("CAP_SYS_ADMIN"), "{ended}");
        sh("kak netns exec theirs true");
    }

    fn the_missing_capability_is_named() {
        sh("kak netns add a");
        let with = |capabilities: &str, command: &str| {
            run(&format!("setpriv --bounding-set -all,{capabilities} --inh-caps -all,{capabilities} -- kak ip {command}"))
        };
        for command in ["netns add b", "netns attach b $$", "netns exec a true", "-n a netns", "netns delete a"] {
            let ended = with("+net_admin", command).says("Operation not permitted").says("CAP_SYS_ADMIN");
            assert_eq!(ended.stderr.lines().count(), 2, "{ended}");
        }
        assert_eq!(sh("kak netns; kak netns exec a true && ls /run/netns"), "a\na");
        with("+sys_admin", "netns set a 5").code(2).says("RTNETLINK answers: Operation not permitted").says("CAP_NET_ADMIN");
        with("+sys_admin", "netns exec a true").code(0);
        with("+sys_admin", "netns add b").code(0);
        with("+sys_admin", "netns delete b").code(0);
        assert_eq!(with("+net_admin", "netns").code(0).text(), "a\n");
    }

    fn a_deleted_name_is_gone_whoever_made_its_namespace() {
        uplink::plug();
        sh("kak netns add first; kak netns delete first");
        let before = dump();
        // As if somebody had given the name just before.
        sh(r"kak netns add blue --uplink; printf '%s\n' 'found ip\040netns\040add\040blue' >>/run/kak/blue/record");
        assert_eq!(sh("kak netns delete blue; kak netns list"), "");
        assert_same("added and deleted", &before, &dump());
        sh("kak netns add blue --uplink; kak netns delete blue");
        assert_same("once more", &before, &dump());
    }

    fn who_deletes_what_somebody_else_deletes_is_told_that_it_is_gone() {
        sh("kak netns add x; kak netns delete x");
        let before = dump();
        sh("kak netns add blue");
        // The second unmounts what the first is about to unmount, and the first removes what the second is about to.
        let slow = |name: &str, calls: &str, time: u32| {
            let script = format!("strace -f -qq -o /tmp/{name} -e trace={calls} -e inject={calls}:delay_enter={time} kak netns delete blue");
            let ends = std::thread::spawn(move || run(&script));
            until(name, || std::fs::read_to_string(format!("/tmp/{name}")).is_ok_and(|trace| !trace.is_empty()));
            ends
        };
        let (first, second) = (slow("first", "umount2", 500_000), slow("second", "unlink,unlinkat", 1_000_000));
        first.join().unwrap().code(0);
        let said = second.join().unwrap().code(1).stderr;
        assert_eq!(said, "Cannot remove namespace file \"/run/netns/blue\": No such file or directory\n");
        sh("rm /tmp/first /tmp/second");
        assert_same("deleted", &before, &dump());
    }

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
            // With its options and without.
            let again = if behind.starts_with("nft") { "kak netns add blue --uplink --subnet 10.9.0.0/24" } else { "kak netns add blue --uplink" };
            assert_eq!(sh(&format!("{again} 2>&1")), "", "{behind}");
            // A link that is another has another number and address.
            if behind != "ip link delete kak-blue" {
                assert_same(behind, &whole, &dump());
            }
            assert_eq!(sh(&ask), uplink::OURS, "{behind}");
            whole = dump();
            assert!(sh("kak status -n blue").starts_with("blue: a network without a jail\n"), "{behind}");
            run(again).code(1).says("File exists");
            assert_eq!(sh("cat /run/kak/blue/record"), record, "{behind}");
        }
        // What stands in the way is told, and what was made before that is taken back.
        sh("nft delete table ip kak-blue; ip link delete kak-blue; ip link add kak-blue type veth peer name other");
        let there = dump();
        run("kak netns add blue --uplink").code(1).says("a link kak-blue that is not kak's");
        assert_same("in the way", &there, &dump());
        sh("ip link delete kak-blue; kak netns add blue --uplink; kak status -n blue; kak netns delete blue");
        assert_same("afterwards", &before, &dump());
        // One that somebody else has made is none of ours.
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
        // To whom it looks as if a jail were about to end.
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
        // Another beside it, as it was wanted; and a jail beside both.
        sh("kak netns add --uplink --subnet 10.9.0.0/30 --dns 192.0.2.7 --dns 192.0.2.8 red; kak setup");
        assert_eq!(sh("ip -n red -o -4 addr show eth0 | grep -o 10.9.0.2/30; kak netns exec red cat /etc/resolv.conf; ip -n USER -o -4 addr show eth0 | grep -o 10.0.1.2/24"),
            "10.9.0.2/30\nnameserver 192.0.2.7\nnameserver 192.0.2.8\n10.0.1.2/24");
        assert_eq!([ask("red"), ask("USER")], [uplink::OURS, uplink::OURS]);
        // Nobody takes one for the other.
        run("kak netns add blue --uplink").code(1).says("File exists");
        run("kak netns add USER --uplink").code(1).says("there is a jail of this name");
        run("kak setup -n red").code(1).says("kak netns add --uplink");
        run("kak nssh -n red -c true").code(125).says("kak netns add --uplink");
        sh("kak teardown; kak netns delete blue");
        // At once: the next one has the first one's addresses and link.
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
        // Whoever answers outside, on that address.
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
        // From another machine, which is seen as it is; from this one; and from another namespace.
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
        // One port leads to one place.
        run("kak netns add green --uplink --publish 203.0.113.2:8080:1").code(1).says("leads to blue already");
        run("kak setup --publish 8080").code(1).says("leads to blue already");
        run("perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 9000, Listen => 1); exec \"kak netns add green --uplink --publish 9000\" if fork; sleep 1'")
            .code(1).says("somebody else serves this port");
        run("kak netns add green --uplink --publish 192.0.2.99:1").code(1).says("no such address");
        run("kak netns add green --uplink --publish 99999").code(255).says("--publish 99999");
        sh("kak netns delete blue; kak netns delete red");
        // The jail's network has the same.
        sh("kak setup --publish 8080:80; kak setup --publish 8080:80; kak status; nft list table ip kak-USER | grep -q 'dport 8080 dnat to 10.0.0.2:80'; kak teardown");
        assert_same("afterwards", &before, &dump());
    }
}
