//! The entrypoint under docker run, stop, start and commit.

use std::time::Duration;

use crate::rig::*;

/// A script that prints all of a container that a setup could change, with the tools of a slim image.
const DUMP: &str = "
    sed -E 's/^[0-9]+ [0-9]+ [0-9:]+ //; s/net:\\[[0-9]+/net:[/' /proc/self/mountinfo
    cat /proc/net/route /proc/net/fib_trie; ls /sys/class/net; cat /proc/sys/net/ipv4/ip_forward
    cd /; find etc run mnt opt root tmp var -xdev -printf '%p %m %u %g %l\\n' | sort
    find etc run mnt opt root -xdev -type f -exec md5sum {} + | sort";

/// Asserts that two dumps are equal, and shows only the lines that are not.
#[track_caller]
fn assert_same(now: &str, before: &str) {
    let only = |some: &str, other: &str| -> Vec<String> {
        let others: Vec<&str> = other.lines().collect();
        some.lines()
            .filter(|line| !others.contains(line))
            .map(str::to_owned)
            .collect()
    };
    assert!(
        now == before,
        "gone: {:#?}\nnew: {:#?}",
        only(before, now),
        only(now, before)
    );
}

#[test]
fn an_idle_container_stops_at_once() {
    let container = Container::jail();
    let took = container.stop();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(container.wait(), "143");
}

#[test]
fn a_stubborn_job_does_not_hold_up_the_stop() {
    let container = Container::jail();
    docker(&[
        "exec",
        "-d",
        &container.0,
        "/bin/nssh",
        "-c",
        "trap '' TERM HUP INT; touch /tmp/stubborn; while :; do sleep 1000; done",
    ])
    .code(0);
    until("the job runs", 10, || {
        container
            .exec(&["/bin/nssh", "-c", "test -e /tmp/stubborn"])
            .status
            .success()
    });
    let took = container.stop();
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert_eq!(container.wait(), "143");
}

#[test]
fn other_signals_that_end_are_like_term() {
    for (signal, code) in [
        ("INT", ["130", "143"]),
        ("QUIT", ["131", "143"]),
        ("HUP", ["129", "143"]),
    ] {
        let container = Container::jail();
        docker(&["kill", "-s", signal, &container.0]).code(0);
        let ended = container.wait();
        assert!(code.contains(&ended.as_str()), "{signal}: {ended}");
    }
    let container = Container::jail();
    for signal in ["USR1", "USR2", "WINCH", "TSTP", "TTIN", "TTOU"] {
        docker(&["kill", "-s", signal, &container.0]).code(0);
    }
    container.stays_up();
    container.inside("true");
}

#[test]
fn nobody_there_is_no_reason_to_end() {
    for args in [&["-d"][..], &["-di"], &["-dt"], &["-dit"]] {
        let container = Container::run(&[args, &["--privileged"]].concat(), image(), &[]);
        container.wait_up();
        container.stays_up();
        container.inside("true");
        // The first process does not spin.
        let ticks = container.outside("cut -d ' ' -f 14,15 /proc/1/stat | tr ' ' +");
        let ticks: u64 = ticks.split('+').map(|n| n.parse::<u64>().unwrap()).sum();
        assert!(
            ticks < 50,
            "{args:?}: {ticks} ticks of a second's hundredth"
        );
        let took = container.stop();
        assert!(took < Duration::from_secs(7), "{args:?}: {took:?}");
        assert_eq!(container.wait(), "143", "{args:?}");
    }
}

#[test]
fn the_first_sessions_status_is_the_containers() {
    let container = Container(unique("c"));
    let all = ["run", "--name", &container.0, "-i", "--privileged", image()];
    let ended = docker_with("readlink /proc/self/ns/pid; echo err >&2; exit 9\n", &all).code(9);
    assert!(ended.stdout.starts_with("pid:["), "{ended:?}");
    assert_eq!(ended.stderr, "err");
}

#[test]
fn a_command_can_be_given() {
    for (command, code) in [
        (&["--", "sh", "-c", "exit 4"][..], 4),
        (&["--", "/no/such"], 127),
        (&["--", "/etc/passwd"], 126),
        (&["--", "sh", "-c", "kill -TERM $$"], 143),
        (&["--nonsense"], 2),
    ] {
        let container = Container(unique("c"));
        docker(
            &[
                &["run", "--name", &container.0, "--privileged", image()][..],
                command,
            ]
            .concat(),
        )
        .code(code);
    }
}

#[test]
fn a_container_whose_jail_was_killed_ends_with_its_first_session() {
    let killed = |container: &Container| {
        let init = container.outside("kak status | sed -n 's/.*init is //p'");
        container.outside(&format!("kill -KILL {init}"));
        init
    };
    let container = Container::jail();
    killed(&container);
    assert_eq!(container.wait(), "137");
    // Without a first session the container stays, and the next session brings the jail up again.
    let container = Container::run(&["-d", "--privileged"], image(), &[]);
    container.wait_up();
    let first = killed(&container);
    until("the jail is down", 10, || {
        container.exec(&["/bin/kak", "status"]).status.code() == Some(3)
    });
    container.stays_up();
    assert_eq!(container.inside("echo back"), "back");
    let second = container.outside("kak status | sed -n 's/.*init is //p'");
    assert_ne!(first, second);
    container.outside("kak status");
    container.stop();
    assert_eq!(container.wait(), "143");
}

#[test]
fn both_first_processes_reap() {
    let container = Container::jail();
    container.inside("(sleep 0.05 &); (true &)");
    container.outside("(sleep 0.05 &); (true &)");
    until("no zombie", 5, || {
        container.outside("grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l") == "0"
    });
}

#[test]
fn a_stopped_container_starts_again() {
    let neighbour = neighbour();
    let container = Container::jail();
    for stop in ["stop", "kill"] {
        docker(&[stop, &container.0]).code(0);
        container.wait();
        let since = container.inspect(".State.FinishedAt");
        docker(&["start", &container.0]).code(0);
        container.wait_up();
        assert_eq!(container.inside(&ask(&neighbour)), container.address());
        assert_eq!(
            container.inside("cat /etc/resolv.conf"),
            container.outside("cat /etc/resolv.conf")
        );
        let logs = docker(&["logs", "--since", &since, &container.0]).code(0);
        let said = format!("{}{}", logs.stdout, logs.stderr);
        assert!(!said.contains("kak:"), "after {stop}: {said}");
    }
    assert_eq!(container.outside("grep -c nssh /etc/shells"), "1");
}

#[test]
fn a_committed_container_runs() {
    let neighbour = neighbour();
    let first = Container::jail();
    first.inside("true");
    // The jail is up meanwhile, as it often is in practice.
    let image = Image(unique("image"));
    docker(&["commit", &first.0, &image.0]).code(0);
    let second = Container::jail_of(&image.0);
    assert_eq!(second.inside(&ask(&neighbour)), second.address());
    assert_eq!(second.outside("grep -c nssh /etc/shells"), "1");
    let logs = docker(&["logs", &second.0]);
    let said = format!("{}{}", logs.stdout, logs.stderr);
    assert!(!said.contains("kak:"), "{said}");
    assert_eq!(
        first.inside(&ask(&neighbour)),
        first.address(),
        "the first one goes on"
    );
}

#[test]
fn setup_and_teardown_leave_the_container_as_it_was() {
    let container = Container::bare();
    let before = container.outside(DUMP);
    container.outside("kak setup");
    let up = container.outside(DUMP);
    assert_ne!(up, before);
    container.outside("kak setup");
    assert_same(&container.outside(DUMP), &up);
    container.inside("touch /tmp/x; rm /tmp/x");
    container.outside("kak teardown");
    assert_same(&container.outside(DUMP), &before);
    container.outside("kak teardown");
    assert_same(&container.outside(DUMP), &before);
}

#[test]
fn a_read_only_container_is_told_what_it_lacks() {
    let container = Container(unique("c"));
    let ended = docker(&[
        "run",
        "--name",
        &container.0,
        "--privileged",
        "--read-only",
        image(),
    ])
    .code(1);
    assert!(
        ended.stderr.to_lowercase().contains("read-only"),
        "{}",
        ended.stderr
    );
}

#[test]
fn without_a_network_the_rest_comes_up() {
    let container = Container::run(&["-dit", "--privileged", "--network", "none"], image(), &[]);
    container.wait_up();
    assert_eq!(container.inside("ls /sys/class/net"), "eth0\nlo");
    let logs = docker(&["logs", &container.0]);
    let said = format!("{}{}", logs.stdout, logs.stderr);
    assert!(said.contains("no default route"), "{said}");
}

#[test]
fn a_command_ends_as_it_wants_to() {
    let container = Container(unique("c"));
    // And so does a child of it, which has its own trap.
    let command = "sh -c \"trap 'sleep 0.3; echo inner; exit' TERM; while :; do sleep 0.1; done\" & trap 'echo hup' HUP; trap 'echo term; sleep 0.6; echo done; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let all = ["run", "-d", "--name", &container.0, "--privileged", image()];
    docker(&[&all[..], &["--", "sh", "-c", command]].concat()).code(0);
    let said = || docker(&["logs", &container.0]).stdout;
    until("it is ready", 20, || said() == "ready");
    assert!(container.stop() < Duration::from_secs(7));
    assert_eq!(said(), "ready\nterm\ninner\ndone");
    assert_eq!(container.wait(), "143");
}
