//! Setup and teardown that are killed half-way: one further run brings the machine where a clean run would have.

use std::collections::BTreeMap;

use crate::sandbox::*;

/// A jail's whole life: keeper, init and a session, to the end.
const LIFE: [&str; 6] = ["kak", "setup", "--publish", "8080:80", "--", "/bin/true"];

/// The points at which a life can be killed: each system call's name, and which of the calls of that name by the same
/// process it is, which is how strace counts.
fn points() -> Vec<(String, usize)> {
    sh("mkdir /tmp/calls");
    program(
        &[
            &[
                "strace",
                "-ff",
                "-qq",
                "-e",
                "signal=none",
                "-o",
                "/tmp/calls/of",
            ],
            &LIFE[..],
        ]
        .concat(),
    )
    .code(0);
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for file in std::fs::read_dir("/tmp/calls").unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        // The kernel begins a write to ip_forward anew until nobody else holds the network's lock.
        for name in text
            .lines()
            .filter(|line| !line.contains(" = ? ERESTART"))
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

/// Kills a life at every `stride`th point from `first` on, and looks what one further setup, or a teardown alone, makes
/// of it.
fn survive(first: usize, stride: usize) {
    uplink::plug();
    // A firewall, so that there are steps of every kind.
    sh(
        "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'",
    );
    let before = dump();
    let all = points();
    assert_same("a life without a fault", &before, &dump());
    let mut killed = 0;
    let mine: Vec<_> = all.iter().skip(first).step_by(stride).collect();
    for (n, (name, nth)) in mine.iter().enumerate() {
        // The tracer stands aside, so that the life's own parent sees its end.
        run(&format!(
            "exec strace -D -I2 -f -o /tmp/trace -e trace={name} -e inject={name}:signal=SIGKILL:when={nth} \
             {} >/dev/null 2>&1",
            LIFE.join(" ")
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

sandboxed! {
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
