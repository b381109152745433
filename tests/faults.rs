//! Setup and teardown that are killed half-way, or to whom the kernel says no: nothing is left, or one further run brings
//! the machine where a clean one would have.

use std::collections::BTreeMap;

use crate::sandbox::*;

/// A jail's whole life: keeper, init and a session, to the end.
const LIFE: &str = "kak setup --ipv6 --publish 8080:80 -- /bin/true";

/// Its beginning.
const SETUP: &str = "kak setup --ipv6 --publish 8080:80";

/// The points at which something can go wrong with a command: each system call's name, and which of the calls of that
/// name by the same process it is, which is how strace counts.
fn points(command: &str) -> Vec<(String, usize)> {
    sh("mkdir /tmp/calls");
    // The tracer stands aside, and stays as long as there is somebody to trace.
    sh(&format!(
        "strace -D -ff -qq -e signal=none -o /tmp/calls/of {command} >/dev/null; kak teardown"
    ));
    settle("nothing");
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for file in std::fs::read_dir("/tmp/calls").unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        // The kernel begins a write to ip_forward anew until nobody else holds the network's lock.
        for name in text
            .lines()
            .filter(|line| !line.contains(" = ? ERESTART"))
            // What is younger than strace has no name there, and nothing can be done to it.
            .filter(|line| !line.starts_with("syscall_"))
            .filter_map(|line| Some(line.split_once('(')?.0))
        {
            *counts.entry(name).or_default() += 1;
        }
        for (name, count) in counts {
            let most = most.entry(name.to_owned()).or_default();
            *most = count.max(*most);
        }
    }
    sh("rm -r /tmp/calls");
    most.into_iter()
        .flat_map(|(name, most)| (1..=most).map(move |nth| (name.clone(), nth)))
        .collect()
}

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

/// Plugs the machine in, and gives it a firewall, so that there are steps of every kind.
fn plug() {
    uplink::plug6();
    sh(
        "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'",
    );
}

/// Kills a life at every `stride`th point from `first` on, and looks what one further setup, or a teardown alone, makes
/// of it.
fn survive(first: usize, stride: usize) {
    plug();
    let before = dump();
    let all = points(LIFE);
    assert_same("a life without a fault", &before, &dump());
    let mut killed = 0;
    let mine: Vec<_> = all.iter().skip(first).step_by(stride).collect();
    for (n, (name, nth)) in mine.iter().enumerate() {
        // The tracer stands aside, so that the life's own parent sees its end.
        run(&format!(
            "exec strace -D -I2 -f -o /tmp/trace -e trace={name} -e inject={name}:signal=SIGKILL:when={nth} \
             {LIFE} >/dev/null 2>&1"
        ));
        settle(&format!("{name} {nth}"));
        let traced = std::fs::read_to_string("/tmp/trace").unwrap();
        killed += usize::from(traced.contains("+++ killed by SIGKILL +++"));
        if n % 2 == 0 {
            let again = run("kak setup");
            assert_eq!(
                again.status.code(),
                Some(0),
                "setup after a kill at {name} {nth}: {again}"
            );
            let status = run("kak status");
            assert_eq!(
                status.status.code(),
                Some(0),
                "after a kill at {name} {nth}: {status}"
            );
        }
        let teardown = run("kak teardown");
        assert_eq!(
            teardown.status.code(),
            Some(0),
            "teardown after a kill at {name} {nth}: {teardown}"
        );
        assert_same(&format!("killed at {name} {nth}"), &before, &dump());
    }
    // How often a process polls or looks again is a matter of timing, so a few of the calls of the clean run may not
    // come; a life without an injection kills nobody.
    assert!(
        killed * 10 >= mine.len() * 9,
        "killed only at {killed} of {} points; of each call there were {:?}",
        mine.len(),
        all.iter().fold(BTreeMap::new(), |mut most, (name, nth)| {
            most.insert(name, nth);
            most
        })
    );
}

/// What a program does that cannot fail, or that its C library does for it.
const SAFE: [&str; 24] = [
    "arch_prctl",
    "brk",
    "close",
    "execve",
    "exit",
    "exit_group",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getppid",
    "gettid",
    "getuid",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "prlimit64",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "set_tid_address",
    "umask",
    "uname",
];

/// Fails setup at every `stride`th point from `first` on: either the jail comes up all the same, wholly, or nothing of it
/// is left.
fn endure(first: usize, stride: usize) {
    plug();
    let before = dump();
    let mut all = points(SETUP);
    all.retain(|(name, _)| !SAFE.contains(&name.as_str()));
    assert_same("a setup without a fault", &before, &dump());
    let (mut failed, mut refused) = (0, 0);
    let mine: Vec<_> = all.iter().skip(first).step_by(stride).collect();
    for (name, nth) in &mine {
        let setup = injected(
            &format!("-e trace={name} -e inject={name}:error=ENOMEM:when={nth}"),
            SETUP,
        );
        let said = &setup.stderr;
        let point = format!("{name} {nth}");
        if setup.status.success() {
            let status = run("kak status");
            assert_eq!(
                status.status.code(),
                Some(0),
                "after a failed {point}: {status}"
            );
            assert_eq!(run("kak teardown").code(0).stderr, "", "{point}");
            settle(&point);
        } else {
            assert_eq!(setup.status.code(), Some(1), "{point}: {said}");
            assert!(said.starts_with("kak: setup: "), "{point}: {said}");
            settle(&point);
            // Where all jails have their state goes with the lock on it; who could not take that leaves it.
            run("rmdir /run/kak");
            refused += 1;
        }
        assert_same(&format!("a failed {point}: {said}"), &before, &dump());
        failed += usize::from(sh("cat /tmp/trace").contains("(INJECTED)"));
    }
    assert!(
        failed * 10 >= mine.len() * 9 && refused > 0,
        "failed only at {failed} of {} points, and {refused} of those setups",
        mine.len()
    );
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
        injected("-P /run/there -e inject=newfstatat:error=ENOMEM:when=1", "kak setup --root /run/there/user")
            .code(1)
            .says("stat /run/there: cannot allocate memory");
        sh("kak teardown");
        assert_same("a look that failed", &before, &dump());
    }

    fn what_somebody_mounted_in_a_jails_directory_is_left() {
        sh("kak setup; mount -t tmpfs theirs /mnt/user/opt; kak teardown");
        assert_eq!(sh("findmnt -n -o SOURCE /mnt/user/opt; ls /mnt/user"), "theirs\nopt");
    }

    fn failed_at_any_call_0() {
        endure(0, 8);
    }

    fn failed_at_any_call_1() {
        endure(1, 8);
    }

    fn failed_at_any_call_2() {
        endure(2, 8);
    }

    fn failed_at_any_call_3() {
        endure(3, 8);
    }

    fn failed_at_any_call_4() {
        endure(4, 8);
    }

    fn failed_at_any_call_5() {
        endure(5, 8);
    }

    fn failed_at_any_call_6() {
        endure(6, 8);
    }

    fn failed_at_any_call_7() {
        endure(7, 8);
    }

    fn killed_at_any_call_0() {
        survive(0, 8);
    }

    fn killed_at_any_call_1() {
        survive(1, 8);
    }

    fn killed_at_any_call_2() {
        survive(2, 8);
    }

    fn killed_at_any_call_3() {
        survive(3, 8);
    }

    fn killed_at_any_call_4() {
        survive(4, 8);
    }

    fn killed_at_any_call_5() {
        survive(5, 8);
    }

    fn killed_at_any_call_6() {
        survive(6, 8);
    }

    fn killed_at_any_call_7() {
        survive(7, 8);
    }
}
