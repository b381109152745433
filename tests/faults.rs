//! Faults that last, and what others have to do with them: what a single fault does at any call is `tests/faults`.

use crate::sandbox::*;

/// Waits until a life is over, killed or not: nobody is left of it, the tracer neither.
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

/// Runs a command to whose system calls strace does something; what it said. strace stands aside, and holds none of our
/// pipes: it stays as long as there is somebody to trace.
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
        // The run directory takes three mounts, and what was made of it is the failing step's own.
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
        for nth in 12..120 {
            let ended = injected(&format!("-e inject=recvfrom:error=ENOMEM:when={nth}+"), "kak setup");
            if ended.status.success() {
                assert!(nth > 40, "{nth}: {ended}");
                break;
            }
            settle("recvfrom");
            // Who cannot ask which link it is leaves it to the end of its namespace, which takes its time.
            until("the link is gone", || !sh("ip link").contains("kak-USER"));
            assert_same(&format!("deaf from {nth} on: {ended}"), &before, &dump());
        }
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
        // When it is looked for as the jail's root's place, and when it is looked for as the step's.
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
