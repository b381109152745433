//! The usual ways to start and to stop such a container. The engine reports status 143 for a container that ended in
//! time after SIGTERM, and 137 for one that it had to kill.

use crate::rig::*;

/// Options that start a container in the background.
const ALONE: [&[&str]; 4] = [&["-d"], &["-di"], &["-dt"], &["-dit"]];

/// Options that must make no difference.
const KINDS: [&[&str]; 2] = [&[], &["--init"]];

#[test]
fn it_stays_up_until_it_is_stopped() {
    for kind in KINDS {
        for alone in ALONE {
            let container =
                Container::run(&[alone, kind, &["--privileged"]].concat(), image(), &[]);
            container.wait_up();
            container.stays_up();
            assert_eq!(
                container.inside("readlink /proc/1/exe"),
                container.inside("readlink -f /bin/kak")
            );
            // There is a first session if it has a terminal, or a standard input that the engine holds open; else none.
            let sessions = container.outside("kak status --json | grep -o '\"pid\"' | wc -l");
            assert_eq!(
                sessions,
                if alone == ["-d"] { "0" } else { "1" },
                "{alone:?} {kind:?}"
            );
            container.stop();
            assert_eq!(container.wait(), "143", "{alone:?} {kind:?}");
        }
    }
}

#[test]
fn a_script_on_standard_input_is_read_to_its_end() {
    for kind in KINDS {
        let container = Container(unique("c"));
        let all = [
            &["run", "--name", &container.0, "-i", "--privileged"],
            kind,
            &[image()],
        ]
        .concat();
        let ended = docker_with(
            "readlink /proc/self/ns/pid\necho $0 >&2\nexit 6\necho no\n",
            &all,
        )
        .code(6);
        assert!(
            ended.stdout.starts_with("pid:[") && !ended.stdout.contains("no"),
            "{ended:?}"
        );
        assert_eq!(ended.stderr, "bash");
        // A script that ends without exit.
        let container = Container(unique("c"));
        let all = [
            &["run", "--name", &container.0, "-i", "--privileged"],
            kind,
            &[image()],
        ]
        .concat();
        assert_eq!(docker_with("echo last", &all).code(0).stdout, "last");
    }
}

#[test]
fn among_the_processes_of_another_container_it_is_the_same() {
    let other = Container::run(&["-d", "--entrypoint", "sleep"], image(), &["1000"]);
    let pid = format!("container:{}", other.0);
    let all = ["run", "--rm", "-i", "--privileged", "--pid", &pid, image()];
    let ended = docker_with("cat /proc/1/comm\nexit 4\n", &all).code(4);
    assert_eq!(ended.stdout, "kak-init", "{}", ended.stderr);
    let left = other.outside("cat /proc/[0-9]*/comm");
    assert!(!left.contains("kak"), "{left}");
}

#[test]
fn a_commands_status_is_the_containers() {
    for (command, code) in [
        ("exit 4", 4),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("exit 0", 0),
    ] {
        let container = Container(unique("c"));
        let run = [
            "run",
            "--name",
            &container.0,
            "--privileged",
            "--init",
            image(),
            "--",
            "bash",
            "-c",
            command,
        ];
        docker(&run).code(code);
    }
}

#[test]
fn every_job_has_time_to_end_and_no_more() {
    for kind in KINDS {
        let container = Container(unique("c"));
        let mut session = rexpect::spawn(
            &format!(
                "docker run -it --privileged {} --name {} {}",
                kind.join(" "),
                container.0,
                image()
            ),
            Some(20_000),
        )
        .unwrap();
        session.exp_string("# ").unwrap();
        // A job in the background, a stopped one, one that handles SIGTERM and ends, and one that ignores it.
        session
            .send_line("sleep 1000 & cat; echo st''opped")
            .unwrap();
        container.wait_up();
        until("cat runs", 10, || {
            container
                .inside("cat /proc/[0-9]*/comm 2>/dev/null || true")
                .lines()
                .any(|name| name == "cat")
        });
        session.send_control('z').unwrap();
        session.exp_string("stopped").unwrap();
        session.send_line("(trap '' HUP; trap 'touch /opt/in-order; exit' TERM; touch /opt/a; while :; do sleep 0.1; done) & (trap '' TERM HUP; touch /opt/b; while :; do sleep 1000; done) &").unwrap();
        until("they run", 10, || container.inside("ls /opt") == "a\nb");
        container.stop();
        assert_eq!(container.wait(), "143", "{kind:?}");
        let there = docker(&[
            "cp",
            &format!("{}:/mnt/user/opt/in-order", container.0),
            "-",
        ]);
        there.code(0);
    }
}

#[test]
fn a_killed_jail_leaves_a_container_that_makes_another() {
    let container = Container::run(&["-d", "--privileged"], image(), &[]);
    container.wait_up();
    let init = "kak status --json | tr , '\\n' | sed -n 's/.*\"init\": *//p'";
    let first = container.outside(init);
    container.outside(&format!("kill -KILL {first}"));
    until("it is gone", 10, || {
        container.exec(&["/bin/kak", "status"]).status.code() == Some(3)
    });
    container.stays_up();
    assert_eq!(container.inside("echo again"), "again");
    assert_ne!(container.outside(init), first);
    container.stop();
    assert_eq!(container.wait(), "143");
}

#[test]
fn a_user_without_rights_is_told_what_he_lacks() {
    let container = Container(unique("c"));
    let ended = docker(&[
        "run",
        "--name",
        &container.0,
        "--privileged",
        "--user",
        "1000",
        image(),
    ])
    .code(1);
    assert!(
        ended.stderr.contains("CAP_SYS_ADMIN") && ended.stderr.contains("root"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.lines().count() <= 2, "{}", ended.stderr);
}

#[test]
fn sessions_whose_client_was_killed_are_listed_and_ended() {
    let container = Container::jail();
    let listed = || {
        let text = container.outside("kak status | grep ^session || true");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let before = listed();
    let client = || {
        let mut session = rexpect::spawn(
            &format!("docker exec -it {} /bin/nssh", container.0),
            Some(15_000),
        )
        .unwrap();
        session.exp_string("# ").unwrap();
        session.send_line("exec sleep 1000").unwrap();
        session
    };
    let mut clients: Vec<_> = (0..3).map(|_| client()).collect();
    until("they are listed", 10, || {
        listed()
            .iter()
            .filter(|line| line.ends_with(" s  sleep 1000"))
            .count()
            == 3
    });
    for client in &mut clients {
        client
            .process_mut()
            .kill(rexpect::process::Signal::SIGKILL)
            .unwrap();
    }
    // The engine does not end the sessions of a client that was killed.
    let left: Vec<_> = listed()
        .into_iter()
        .filter(|line| line.ends_with(" s  sleep 1000"))
        .collect();
    assert_eq!(left.len(), 3);
    let words: Vec<&str> = left[0].split_whitespace().collect();
    assert_eq!((words[0], words[2]), ("session", "root"), "{}", left[0]);
    assert!(
        words[3].starts_with("pts/") && words[4].parse::<u32>().is_ok(),
        "{}",
        left[0]
    );
    container.outside(&format!("kak kill {}", words[1]));
    assert!(
        !listed()
            .iter()
            .any(|line| line.starts_with(&format!("session {} ", words[1])))
    );
    let nssh = "cat /proc/[0-9]*/comm 2>/dev/null | grep -cx nssh || true";
    until("nssh is gone with it", 10, || {
        container.outside(nssh) == "2"
    });
    container.outside("kak kill --all");
    // This ends the container's first session, too, and with it the container.
    assert_eq!(container.wait(), "129");
    assert_eq!(before.len(), 1);
}
