//! Keepers: a command that waits for one says so, a keeper ends no jail but its own, and it leaves no children behind.

use std::process::{Command, Stdio};

use crate::sandbox::*;

/// The contents of a file so far.
fn said(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The names of the zombies.
fn zombies() -> Vec<String> {
    let names =
        sh("grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | xargs -r sed -n 's/^Name:.//p'");
    names.lines().map(str::to_owned).collect()
}

/// A process that holds the lock on /run/kak, without which no kak changes anything, until it is killed.
fn holder() -> std::process::Child {
    sh("mkdir -p -m 700 /run/kak");
    let holder = Command::new("flock")
        .args(["/run/kak", "-c", "touch /tmp/held; exec sleep 1000"])
        .spawn()
        .unwrap();
    until("the lock is held", || {
        std::path::Path::new("/tmp/held").exists()
    });
    holder
}

/// Ends such a process.
fn release(holder: &mut std::process::Child) {
    // Its child has inherited the lock.
    let sleep = sh(&format!("cat /proc/{0}/task/{0}/children", holder.id()));
    sh(&format!("kill {} {sleep}; rm /tmp/held", holder.id()));
    holder.wait().unwrap();
}

sandboxed! {
    fn who_waits_for_another_kak_is_told_so() {
        uplink::plug();
        sh("kak setup -n up");
        let mut holder = holder();
        for (command, what) in [("nssh -c 'echo in'", "in\n"), ("kak setup", "+ "), ("kak teardown -v", "- ")] {
            let mut waiting = Command::new("sh")
                .args(["-c", &format!("{command} >/tmp/out 2>/tmp/err")])
                .spawn()
                .unwrap();
            until(command, || said("/tmp/err").contains("kak: waiting for another kak"));
            assert_eq!(said("/tmp/out"), "", "{command}");
            // nssh into a jail that is up does not wait.
            assert_eq!(sh("KAK_JAIL=up nssh -c 'echo other'"), "other");
            release(&mut holder);
            assert!(waiting.wait().unwrap().success(), "{command}: {}", said("/tmp/err"));
            assert!(said("/tmp/out").contains(what), "{command}: {}", said("/tmp/out"));
            assert_eq!(said("/tmp/err").lines().count(), 1, "{}", said("/tmp/err"));
            sh("kak teardown; rm /tmp/out /tmp/err");
            if what == "+ " {
                sh("kak setup");
            }
            holder = self::holder();
        }
    }

    fn who_is_killed_before_his_turn_has_done_nothing_and_does_nothing_later() {
        uplink::plug();
        sh("kak netns add x; kak netns delete x");
        for (there, command) in [
            ("", "kak setup"),
            ("", "nssh -c true"),
            ("kak setup", "kak teardown"),
            ("", "kak netns add blue --uplink"),
            ("kak netns add blue --uplink", "kak netns delete blue"),
        ] {
            sh(there);
            let before = dump();
            let mut holder = holder();
            let mut waiting = Command::new("sh").args(["-c", &format!("exec {command} >/dev/null 2>/tmp/err")]).spawn().unwrap();
            until(command, || said("/tmp/err").contains("kak: waiting for another kak"));
            waiting.kill().unwrap();
            waiting.wait().unwrap();
            release(&mut holder);
            until("nobody is at it", || !processes().values().any(|name| ["kak", "nssh"].contains(&name.as_str())));
            assert!(said("/tmp/err").contains("its caller is gone"), "{command}: {}", said("/tmp/err"));
            sh("rm /tmp/err");
            assert_same(command, &before, &dump());
            sh("kak teardown; kak netns delete blue 2>/dev/null || true");
        }
    }

    fn what_is_made_for_somebody_who_was_killed_is_deleted_when_it_is_there() {
        uplink::plug();
        sh("kak netns add x; kak netns delete x");
        let before = dump();
        // Slowed down between its first change and the record.
        let slow = "exec strace -D -f -qq -o /tmp/trace -e trace=mkdir,mkdirat -e inject=mkdir,mkdirat:delay_exit=1000000:when=3+ \
            kak netns add blue --uplink";
        let mut killed = Command::new("sh").args(["-c", slow]).spawn().unwrap();
        until("it is begun", || std::fs::exists("/run/kak/blue").unwrap());
        killed.kill().unwrap();
        killed.wait().unwrap();
        run("kak netns delete blue").code(0);
        until("the tracer is gone", || processes().is_empty());
        sh("rm /tmp/trace");
        assert_same("added and deleted", &before, &dump());
    }

    fn who_is_stopped_at_work_holds_up_nobody() {
        uplink::plug();
        sh("kak netns add x; kak netns delete x");
        let before = dump();
        for command in ["kak netns add blue --uplink", "kak netns delete blue", "kak teardown"] {
            // Slowed down, to be stopped while it has the lock.
            let slow = format!("exec strace -D -f -qq -o /tmp/trace -e trace=flock -e inject=flock:delay_exit=500000 {command}");
            let mut stopped = Command::new("sh").args(["-c", &slow]).spawn().unwrap();
            until("it has the lock", || said("/proc/locks").contains("FLOCK"));
            sh(&format!("kill -STOP {}", stopped.id()));
            assert!(alive(stopped.id().into()), "{command} was faster");
            run("timeout 20 kak setup -n other").code(0);
            sh(&format!("kill -CONT {}; kak teardown -n other", stopped.id()));
            assert!(stopped.wait().unwrap().success(), "{command}");
            sh("kak setup >/dev/null");
        }
        sh("kak teardown");
        assert_same("all is done", &before, &dump());
    }

    fn what_goes_wrong_at_work_is_told_as_before() {
        uplink::plug();
        sh("kak netns add blue --uplink; kak setup");
        let told = |command: &str| {
            let ended = run(command);
            (ended.status.code(), ended.stderr)
        };
        let exists = "Cannot create namespace file \"/run/netns/blue\": File exists\n";
        assert_eq!(told("kak netns add blue --uplink"), (Some(1), exists.into()));
        // With -force, a batch goes on after an error.
        std::fs::write("/tmp/batch", "add blue --uplink\nadd USER --uplink\nadd red\n").unwrap();
        let (code, text) = told("kak netns -force -batch /tmp/batch; exit $?");
        assert_eq!(code, Some(1));
        for part in [exists, "there is a jail of this name\nkak: netns: choose another name", "Command failed /tmp/batch:1\n", "Command failed /tmp/batch:2\n"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        sh("kak netns delete red; kak teardown");
        // Killed, as by the kernel if there is no memory.
        let killed = told("timeout 20 strace -D -f -qq -o /tmp/trace -e inject=flock:signal=SIGKILL kak netns delete blue; exit $?");
        assert_eq!(killed, (Some(1), "kak netns delete blue: was killed by signal 9\n".into()));
        sh("kak netns delete blue");
    }

    fn nobody_waits_for_ever() {
        let _holder = holder();
        let ended = program(&["nssh", "-c", "true"]).code(125);
        assert!(ended.stderr.contains("another kak has been at work for 60 s"), "{ended}");
        assert!(ended.stderr.contains("fuser -v /run/kak"), "{ended}");
        assert!(processes().values().all(|name| ["flock", "sleep"].contains(&name.as_str())), "{:?}", processes());
    }

    fn a_keeper_that_is_killed_is_told() {
        let before = dump();
        // Killed, as by the kernel if there is no memory.
        let killed = |command: &str| run(&format!(
            "timeout 20 strace -D -f -qq -o /tmp/trace -e inject=flock:signal=SIGKILL {command} 2>/tmp/said; exit $?"
        ));
        killed("nssh -c true").code(125);
        assert_eq!(said("/tmp/said"), "kak: nssh: kak setup -n USER: was killed by signal 9\n");
        killed("kak setup").code(1);
        assert_eq!(said("/tmp/said"), "kak: setup: kak setup -n USER: was killed by signal 9\n");
        killed("kak teardown").code(1);
        assert_eq!(said("/tmp/said"), "kak: teardown: kak teardown -n USER: was killed by signal 9\n");
        sh("kak teardown");
        assert_same("three that were killed", &before, &dump());
    }

    fn an_init_that_cannot_begin_says_why() {
        let before = dump();
        program(&["strace", "-f", "-qq", "-o", "/tmp/trace", "-e", "inject=prctl:error=EPERM:when=1", "kak", "setup"])
            .code(1).says("kak: setup: prctl PR_SET_PDEATHSIG: Operation not permitted");
        assert_same("an init that could not begin", &before, &dump());
    }

    fn a_limit_of_its_caller_is_told() {
        let before = dump();
        let ended = run("ulimit -f 0; nssh -c true").code(125);
        assert!(ended.stderr.contains("/run/kak/USER/record") && ended.stderr.contains("File too large"), "{ended}");
        assert_same("a record that could not be written", &before, &dump());
    }

    fn an_attached_keeper_ends_no_jail_but_its_own() {
        let mut attached = Command::new("kak")
            .args(["setup", "--", "sleep", "1000"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the session is listed", || json("kak status --json || true")["sessions"].as_array().is_some_and(|all| all.len() == 1));
        let first = init("USER");
        let keeper = process_field(first, "PPid").unwrap();
        // While the keeper is stopped, its jail ends, and another one comes up.
        sh(&format!("kill -STOP {keeper}; kill -KILL {first}"));
        until("the first jail is down", || run("kak status").status.code() == Some(3));
        sh("nssh -c true");
        let second = init("USER");
        assert_ne!(first, second);
        sh(&format!("kill -CONT {keeper}"));
        assert!(!attached.wait().unwrap().success());
        until("the first keeper is gone", || !alive(keeper.parse().unwrap()));
        assert_eq!(init("USER"), second);
        sh("kak status; nssh -c true");
    }

    fn a_keeper_reaps_its_children() {
        sh("umount /etc/resolv.conf; echo nameserver 127.0.0.53 >/etc/resolv.conf");
        // A subreaper (PR_SET_CHILD_SUBREAPER) that reaps nothing, like `sleep infinity` as a container's PID 1.
        let careless = |command: &str| format!(
            "syscall(157, 36, 1, 0, 0, 0) == 0 or die; system(q({command})); sleep 1000 while 1"
        );
        for end in ["kak teardown", "kill -KILL $(kak status --json | grep -o '\"init\":[0-9]*' | cut -d : -f 2)"] {
            let mut first = Command::new("perl").args(["-e", &careless("kak setup >/dev/null")]).spawn().unwrap();
            until("the jail is up", || run("kak status").status.code() == Some(0));
            let keeper: i64 = process_field(init("USER"), "PPid").unwrap().parse().unwrap();
            until("the relay is there", || processes().values().any(|name| name == "kak-dns"));
            sh(end);
            until("the keeper has ended", || !alive(keeper));
            assert_eq!(zombies(), ["kak-keeper"], "{end}");
            first.kill().unwrap();
            first.wait().unwrap();
            sh("kak teardown");
        }
    }

    fn who_has_closed_his_standard_descriptors_has_a_jail_like_any_other() {
        uplink::plug();
        sh("umount /etc/resolv.conf; echo nameserver 127.0.0.53 >/etc/resolv.conf; kak netns add a");
        let before = dump();
        let stat = |pid: &str| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            text.rsplit(") ").next().unwrap().split(' ').map(str::to_owned).collect::<Vec<_>>()
        };
        for closed in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"] {
            let quick = |command: &str| run(&format!("timeout -k 1 20 {command} {closed}"));
            quick("kak setup").code(0);
            sh("kak status; nssh -c true");
            let keeper = process_field(init("USER"), "PPid").unwrap();
            let ticks = || stat(&keeper)[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>();
            let (state, start) = (stat(&keeper)[0].clone(), ticks());
            std::thread::sleep(std::time::Duration::from_millis(300));
            assert!(state == "S" && ticks() - start < 10, "it spins: {closed}: {state}");
            quick("kak teardown").code(0);
            until("nobody is left", || processes().is_empty());
            quick("kak setup -- sh -c 'exit 7'").code(7);
            quick("kak netns add blue --uplink").code(0);
            assert_eq!(sh("kak netns exec blue ls /sys/class/net"), "eth0\nlo");
            quick("kak netns delete blue").code(0);
            until("nobody is left", || processes().is_empty());
            assert_same(closed, &lasting(&before), &lasting(&dump()));
        }
        // A standard descriptor that the caller has closed is closed in the command, too.
        for (fd, closed) in [(0, "<&-"), (1, ">&-"), (2, "2>&-")] {
            run(&format!("kak netns exec a test -e /proc/self/fd/{fd}")).code(0);
            run(&format!("kak netns exec a test -e /proc/self/fd/{fd} {closed}")).code(1);
        }
    }
}
