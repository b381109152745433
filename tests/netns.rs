//! `kak ip` beside the real `ip`: the same commands in the same state give the same output, errors and statuses. What
//! differs on purpose is in one table, [`rows::BETTER`], and has tests of its own below.

mod many;
mod rows;
mod uplinks;

use std::fmt::Write as _;

use crate::sandbox::*;
use rows::{BETTER, SAME};

/// Runs a script on a machine with an empty /run and /etc/netns and a new network; `$IP` in it is the program.
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

/// Bytes as text, each value as a different character.
fn each_byte(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// An outcome without the lines with cures, which only kak prints.
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
            // A row in which ip does the same by now belongs to SAME.
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
            // The nsid goes when the kernel has destroyed the namespace.
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
        // Outside nothing of it is seen.
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
            let (mut stdout, mut said) = (std::io::BufReader::new(inside.stdout.take().unwrap()), String::new());
            // It has looked before anything is replaced: in the moment of that it would see the machine's.
            std::io::BufRead::read_line(&mut stdout, &mut said).unwrap();
            for _ in 0..5 {
                sh(replace);
                until("it has it again", || see() == "ns");
            }
            assert_ne!(sh("cat /etc/resolv.conf"), "ns");
            drop(inside.stdin.take());
            until("it has looked again", || process_field(pid, "Name").is_some_and(|name| name == "sleep"));
            inside.kill().unwrap();
            std::io::Read::read_to_string(&mut stdout, &mut said).unwrap();
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
        // A dangling link is mounted over just as well.
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
        // If the file is a mount point, as in a container, it cannot be replaced, and needs no guard.
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
        // A run directory as older releases of ip make it, in the peer group of a shared /run, so that every name is
        // mounted twice; and a mount namespace that has both copies, and to which no unmount propagates.
        sh("mount -t tmpfs run /run; mount --make-shared /run; mkdir /run/netns; mount --bind /run/netns /run/netns
            : >/run/netns/a; unshare --net mount --bind /proc/self/ns/net /run/netns/a
            test $(grep -c ' /run/netns/a ' /proc/self/mountinfo) = 2");
        sh("unshare --mount --propagation slave kak netns delete a");
        assert_eq!(sh("ls /run/netns; grep -c nsfs /proc/self/mountinfo || :"), "0");
    }

    fn a_user_namespaces_root_has_what_it_may_have() {
        let inside = |script: &str| program(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]);
        // The network does not belong to the user namespace: ip cannot return to it, and kak does not need to.
        let ended = inside("mount -t tmpfs run /run; kak netns add a && kak netns exec a sh -c 'ls /sys/class/net' && kak netns && kak netns delete a && kak netns");
        assert_eq!(ended.code(0).text(), "lo\na\n");
        let ended = inside("mount -t tmpfs run /run; kak netns add a; kak ip netns set a 5; kak ip -n a netns set a 5; kak netns list; kak ip -n a netns");
        let text = ended.text();
        assert!(ended.stderr.contains("RTNETLINK answers: Operation not permitted") && ended.stderr.contains("CAP_NET_ADMIN"), "{ended}");
        assert_eq!(text, "a\na (id: 5)\n");
        // Namespaces that do not belong to the user namespace can only be listed.
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
        // A record which says that the name existed before.
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
        // The first is delayed before its unmount, and the second before its unlink: so the second unmounts, and the
        // first removes the file.
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
}
