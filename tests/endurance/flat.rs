//! Endurance: after thousands of calls the machine holds what it held after the first ones. What is compared, and how
//! closely, is in [`crate::figures`].

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::figures::*;
use crate::sandbox::resolver::*;
use crate::sandbox::*;

/// Gives the machine a network, and a resolver on a loopback address, so that a jail has a relay.
fn plug() {
    uplink::plug();
    std::fs::write("/etc/resolv.conf", "nameserver 127.0.0.53\n").unwrap();
}

/// Runs a program this many times, two at once, and asserts that it succeeds each time.
fn call(argv: &[&str], times: usize) {
    let begun = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while begun.fetch_add(1, Ordering::Relaxed) < times {
                    let mut command = Command::new(argv[0]);
                    command.args(&argv[1..]).stdin(Stdio::null());
                    // Its output is not read, as that takes the least time.
                    let status = command.stdout(Stdio::null()).status().unwrap();
                    assert!(status.success(), "{argv:?}: {status}");
                }
            });
        }
    });
}

/// Does something and prints how long it took.
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    // The test harness has not ended its line yet.
    println!("\n{what}: {:.1} s", start.elapsed().as_secs_f64());
    result
}

/// How many sessions `kak status` lists.
fn listed() -> usize {
    let status = json("kak status --json || test $? = 3");
    status["sessions"].as_array().unwrap().len()
}

sandboxed! {
    fn a_thousand_jails_leave_nothing() {
        plug();
        sh("kak netns add first; kak netns delete first");
        let cycle = |times: u32| for _ in 0..times {
            for verb in ["setup", "teardown"] {
                let status = Command::new("kak").arg(verb).stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
                assert!(status.success(), "{verb}: {status}");
            }
        };
        cycle(20);
        until("the last keeper is gone", || processes().is_empty());
        let (dumped, before) = (dump(), Before::now());
        timed("1000 jails", || cycle(1000));
        until("the last keeper is gone", || processes().is_empty());
        before.assert_flat(1000);
        assert_same("1000 jails", &dumped, &dump());
    }

    fn ten_thousand_joins_leave_nothing() {
        plug();
        // A small shell, as its own start is not what is tested.
        sh("kak setup --shell /bin/sh");
        let join = ["nssh", "-c", "true"];
        call(&join, 500);
        let (before, standing) = (Before::now(), Standing::now());
        timed("10000 joins", || call(&join, 10_000));
        standing.assert_flat(10_000);
        before.assert_flat(10_000);
        assert_eq!(listed(), 0);
    }

    fn a_hundred_thousand_lookups_leave_nothing() {
        plug();
        let _resolver = Resolver::start("127.0.0.53:53");
        sh("kak setup");
        let network = "/run/netns/USER";
        let rest = Figures::descriptors(one("kak-dns"));
        // The relay closes its descriptors one by one, so this waits for exactly the number at rest.
        let let_go = || until("all is let go of", || Figures::descriptors(one("kak-dns")) == rest);
        let ask = |count| assert_eq!(ask_many(network, "127.0.0.53:53", count, 64), 0, "lost");
        ask(5000);
        let_go();
        let (before, standing) = (Before::now(), Standing::now());
        timed("100000 lookups", || ask(100_000));
        let_go();
        standing.assert_flat(100_000);
        before.assert_flat(100_000);
    }

    fn two_hundred_sessions_at_once_leave_nothing() {
        plug();
        sh("kak setup; mkfifo /mnt/user/tmp/go");
        together();
        let (before, standing) = (Before::now(), Standing::now());
        timed("200 sessions", together);
        standing.assert_flat(200);
        before.assert_same();
        assert_eq!(sh("nssh -c 'echo on'"), "on");
    }
}

/// Runs 200 sessions at once. Half of them end by themselves, the others are ended by `kak kill`.
fn together() {
    let before = processes();
    let session = |n: usize| {
        let script = if n < 100 {
            "echo ready; read line </tmp/go; exit $0"
        } else {
            "exec sleep 1000"
        };
        let mut nssh = Command::new("nssh");
        nssh.args(["-c", script, &n.to_string()]);
        nssh.stdout(Stdio::piped()).spawn().unwrap()
    };
    let all: Vec<Child> = (0..200).map(session).collect();
    until("all are listed", || {
        listed() == 200 && named("bash").len() == 100 && named("sleep").len() == 100
    });
    let monitors = named("kak-session");
    assert_eq!(monitors.len(), 200);
    // No session's monitor holds more descriptors than another's.
    let held: Vec<_> = monitors
        .iter()
        .map(|pid| (Figures::descriptors(*pid), Figures::memory(*pid)))
        .collect();
    let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
    println!(
        "monitors: descriptors {} to {}, private memory {} kB to {} kB",
        least.0,
        most.0,
        held.iter().map(|held| held.1).min().unwrap(),
        held.iter().map(|held| held.1).max().unwrap()
    );
    assert_eq!(least.0, most.0);
    // An empty line for each of the hundred readers.
    let mut go = std::fs::OpenOptions::new()
        .write(true)
        .open("/mnt/user/tmp/go")
        .unwrap();
    go.write_all(&[b'\n'; 100]).unwrap();
    let mut all = all.into_iter().enumerate();
    for (n, child) in all.by_ref().take(100) {
        let ended = child.wait_with_output().unwrap();
        assert_eq!(
            (ended.status.code(), ended.stdout.as_slice()),
            (i32::try_from(n).ok(), &b"ready\n"[..])
        );
    }
    assert_eq!(listed(), 100);
    sh("kak kill --all");
    for (_, mut child) in all {
        assert!(!child.wait().unwrap().success());
    }
    until("nothing is left", || processes() == before);
    assert_eq!(listed(), 0);
}
