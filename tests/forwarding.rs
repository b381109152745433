//! The last teardown restores forwarding for each link, as a write to ip_forward also sets every link's own switch.

use crate::sandbox::*;

/// A machine that forwards packets from some of its links, and ignores redirects.
fn machine() -> String {
    uplink::plug();
    sh("ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up");
    uplink::settle("v0");
    uplink::settle("v1");
    sh(
        "cd /proc/sys/net/ipv4/conf; echo 1 >v0/forwarding; echo 1 >default/forwarding
        echo 0 >all/accept_redirects; echo 0 >v1/accept_redirects",
    );
    dump()
}

sandboxed! {
    fn single_links_forward_again_when_the_jail_has_gone() {
        let before = machine();
        assert!(before.contains("conf/v0/forwarding=1") && before.contains("conf/eth0/forwarding=0"));
        sh("kak setup");
        assert!(dump().contains("conf/eth0/forwarding=1"));
        sh("kak teardown");
        assert_same("one life", &before, &dump());
        // After a crash, too, and with a plan that has changed.
        sh("kak setup; kill -KILL $(kak status --json | grep -o '\"init\":[0-9]*' | cut -d : -f 2)");
        until("the keeper has gone", || processes().is_empty());
        sh("mkdir /late; nssh -c 'ls -d /late'; kak status; kak teardown; rmdir /late");
        assert_same("two lives", &before, &dump());
        // A setup that fails restores it as well.
        program(&["strace", "-f", "-qq", "-o", "/tmp/trace", "-e", "inject=pivot_root:error=EIO", "kak", "setup"]).code(1).says("pivot_root");
        assert_same("a setup that failed", &before, &dump());
    }

    fn the_last_jail_puts_it_back_whichever_that_is() {
        let before = machine();
        for (first, last) in [("one", "two"), ("two", "one")] {
            sh(&format!("kak setup -n one; kak setup -n two; kak netns add bare --uplink; kak teardown -n {first}; kak netns delete bare"));
            assert!(dump().contains("conf/eth0/forwarding=1"));
            sh(&format!("kak teardown -n {last}"));
            assert_same(last, &before, &dump());
        }
    }

    fn a_link_that_has_gone_meanwhile_is_no_trouble() {
        machine();
        sh("kak setup; ip link del v0");
        program(&["kak", "teardown"]).code(0);
        let after = dump();
        assert!(after.contains("ipv4/ip_forward=0") && after.contains("conf/default/forwarding=1"));
    }

    fn a_machine_that_forwards_goes_on_with_it() {
        machine();
        sh("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/v0/forwarding");
        let before = dump();
        sh("kak setup; kak teardown");
        assert_same("a router", &before, &dump());
    }

    fn without_a_writable_proc_sys_only_what_was_turned_is_turned_back() {
        machine();
        sh("echo 1 >/proc/sys/net/ipv4/conf/eth0/forwarding; echo 0 >/proc/sys/net/ipv4/conf/default/forwarding
            mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
        let before = dump();
        sh("kak setup");
        assert_eq!(sh(&format!("nssh -c 'cat </dev/tcp/{}/{}'", uplink::THEIRS, uplink::PORT)), uplink::OURS);
        sh("kak status; kak teardown");
        assert_same("two links", &before, &dump());
    }
}
