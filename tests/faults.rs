//! Faults that persist or that concern other jails. For single faults at every call see `tests/faults`.

use crate::sandbox::*;

/// Waits until no process is left, of the jail or of the tracer.
fn settle(point: &str) {
    let start = std::time::Instant::now();
    loop {
        let left = processes();
        if left.is_empty() {
            return;
        }
        // Longer than the grace that a jail's processes have.
        let patience = std::time::Duration::from_secs(20);
        assert!(
            start.elapsed() < patience,
            "after a kill at {point} there still are {left:?}"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Runs a command with these strace injections. strace runs as a detached grandchild (-D) and has none of our pipes
/// open, as it lives as long as there is a process to trace.
fn injected(injections: &str, command: &str) -> Ended {
    let mut ended = run(&format!(
        "exec timeout 20 strace -D -f -qq -o /tmp/trace {injections} {command} >/dev/null 2>/tmp/said"
    ));
    ended.stderr = sh("cat /tmp/said");
    ended
}

sandboxed! {
    fn half_a_step_is_taken_back() {
        uplink::plug();
        let before = dump();
        // /run/netns takes three mounts; a step that fails at one must itself undo those before.
        for nth in 1..=3 {
            let ended = injected(&format!("-P /run/netns -e inject=mount:error=ENOMEM:when={nth}"), "kak setup");
            ended.code(1).says("/run/netns").says("allocate memory");
            settle("mount");
            assert_same(&format!("mount {nth} failed"), &before, &dump());
        }
    }

    fn what_the_kernel_did_and_did_not_tell_is_taken_back() {
        uplink::plug();
        let before = dump();
        let mut is_up = false;
        for nth in 12..120 {
            let ended = injected(&format!("-e inject=recvfrom:error=ENOMEM:when={nth}+"), "kak setup");
            if ended.status.success() {
                assert!(nth > 40, "{nth}: {ended}");
                is_up = true;
                break;
            }
            settle("recvfrom");
            // If it cannot even ask for the link's index, the link goes with its namespace, which the kernel destroys
            // later.
            until("the link is gone", || !sh("ip link").contains("kak-USER"));
            assert_same(&format!("deaf from {nth} on: {ended}"), &before, &dump());
        }
        assert!(is_up, "never set up");
    }

    fn a_jail_that_does_not_come_up_takes_nothing_from_another() {
        uplink::plug();
        sh("kak setup -n one");
        let before = dump();
        injected("-e inject=pivot_root:error=EIO", "kak setup -n two").code(1).says("pivot_root");
        assert_same("a second jail that failed", &before, &dump());
        assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward; grep -c nssh /etc/shells"), "1\n1");
    }

    fn what_cannot_be_looked_at_is_not_taken_away() {
        sh("mkdir /run/there");
        let before = dump();
        // Twice when the place of --root is checked, and once when the step looks for the directory.
        for (nth, what) in [(1, "--root /run/there/user"), (2, "--root /run/there/user"), (3, "mkdir -p -m 755 /run/there/user")] {
            injected(&format!("-P /run/there -e inject=fstat:error=ENOMEM:when={nth}"), "kak setup --root /run/there/user")
                .code(1)
                .says(&format!("{what}: cannot allocate memory"));
            sh("kak teardown");
            assert_same("a look that failed", &before, &dump());
        }
    }

    fn what_somebody_mounted_in_a_jails_directory_is_left() {
        sh("kak setup; mount -t tmpfs theirs /mnt/user/opt; kak teardown");
        assert_eq!(sh("findmnt -n -o SOURCE /mnt/user/opt; ls /mnt/user"), "theirs\nopt");
    }
}
