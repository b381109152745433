//! Whoever has resolvers of his own keeps them, whatever becomes of the machine's.

use crate::sandbox::*;

/// The namespace `a` with a resolv.conf of its own that says `ns`, on a machine whose own says `host` and is no mount.
fn namespace() {
    sh(
        "mkdir -p /etc/netns/a; umount /etc/resolv.conf; echo host >/etc/resolv.conf
        echo ns >/etc/netns/a/resolv.conf; kak netns add a",
    );
}

/// Somebody who lives in a namespace by `kak netns exec`; what is between the words before `exec` and him is `how`.
fn inhabitant(how: &str) -> i64 {
    sh("rm -f /tmp/pid");
    sh(&format!(
        "{how} sh -c 'echo $$ >/tmp/new; mv /tmp/new /tmp/pid; exec sleep 1000' >/dev/null 2>&1 &"
    ));
    until("he is in", || std::path::Path::new("/tmp/pid").exists());
    let pid = sh("cat /tmp/pid").parse().unwrap();
    until("he stays", || {
        process_field(pid, "Name").is_some_and(|name| name == "sleep")
    });
    pid
}

/// What /etc/resolv.conf is to a process.
fn seen_by(pid: i64) -> String {
    run(&format!("nsenter -t {pid} -m cat /etc/resolv.conf")).text()
}

/// Ends a process, and waits until nobody else of kak is left.
fn end(pid: i64) {
    sh(&format!("kill -KILL {pid}"));
    until("nobody is left", || processes().is_empty());
}

/// All ways in which a machine's resolv.conf becomes another.
const CHANGES: &[&str] = &[
    "echo host >/etc/new; mv /etc/new /etc/resolv.conf",
    "rm /etc/resolv.conf; echo host >/etc/resolv.conf",
    "echo other >/etc/resolv.conf",
    "mkdir -p /run/one /run/two; echo host >/run/one/conf; echo host >/run/two/conf; ln -sf /run/one/conf /etc/resolv.conf",
    "ln -s ../run/two/conf /etc/new; mv -T /etc/new /etc/resolv.conf",
    "echo other >/run/two/new; mv /run/two/new /run/two/conf",
    "mv /run/two /run/three; mkdir /run/two; echo host >/run/two/conf",
    "ln -sfn /run/three /run/way; ln -sf way/conf /run/chain; ln -sf /run/chain /etc/resolv.conf",
    "ln -sfn /run/one /run/way2; mv -T /run/way2 /run/way",
    "ln -sf /nowhere/conf /etc/resolv.conf",
    "rm /etc/resolv.conf; echo host >/etc/resolv.conf",
];

sandboxed! {
    fn a_command_keeps_its_resolvers_whatever_the_machine_does() {
        namespace();
        let pid = inhabitant("kak netns exec a");
        for change in CHANGES {
            sh(change);
            until(change, || seen_by(pid) == "ns\n");
        }
        assert_eq!(sh("cat /etc/netns/a/resolv.conf"), "ns");
        end(pid);
    }

    fn a_jail_keeps_its_resolvers_whatever_the_machine_does() {
        sh("umount /etc/resolv.conf; echo host >/etc/resolv.conf; kak setup --dns 192.0.2.53");
        let ours = "nameserver 192.0.2.53\n";
        let pid = init("USER");
        for change in CHANGES {
            sh(change);
            until(change, || seen_by(pid) == ours);
            assert_ne!(run("cat /etc/resolv.conf").text(), ours, "{change}");
        }
        sh("kak status; kak teardown");
        until("nobody is left", || processes().is_empty());
        // It may begin with any of them, and what a link leads to may be replaced without anybody seeing it inside.
        sh("ln -sf /run/one/conf /etc/resolv.conf; kak setup --dns 192.0.2.53");
        let pid = init("USER");
        for n in 0..50 {
            sh(&format!("echo host{n} >/run/one/new; mv /run/one/new /run/one/conf"));
            assert_eq!(seen_by(pid), ours);
        }
        sh("kak teardown");
    }

    fn the_guard_is_there_although_the_caller_had_no_standard_descriptors() {
        namespace();
        for closed in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"] {
            sh(&format!("rm -f /tmp/pid; sh -c 'exec kak netns exec a sh -c \"echo \\$\\$ >/tmp/pid; exec sleep 1000\" {closed}' >/dev/null 2>&1 &"));
            until("he is in", || !run("cat /tmp/pid").text().is_empty());
            let pid = sh("cat /tmp/pid").parse().unwrap();
            until("he stays", || process_field(pid, "Name").is_some_and(|name| name == "sleep"));
            sh("echo host >/etc/new; mv /etc/new /etc/resolv.conf");
            until(closed, || seen_by(pid) == "ns\n");
            end(pid);
        }
    }

    fn the_guard_is_there_for_an_exec_within_another() {
        namespace();
        sh("mkdir /etc/netns/b; echo outer >/etc/netns/b/resolv.conf; kak netns add b");
        let pid = inhabitant("kak netns exec b kak netns exec a");
        for change in &CHANGES[..2] {
            sh(change);
            until(change, || seen_by(pid) == "ns\n");
        }
        end(pid);
    }

    fn the_guard_is_not_in_the_namespace() {
        namespace();
        let pid = inhabitant("kak netns exec a");
        assert!(processes().values().any(|name| name == "kak-netns"));
        for ip in ["kak netns", "ip netns"] {
            assert_eq!(sh(&format!("{ip} pids a")), pid.to_string());
        }
        // It would keep the network from going, too.
        sh("kak netns delete a");
        end(pid);
    }
}
