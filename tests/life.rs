//! Setup, another setup, drift, crash, teardown: the state of the machine during and after a jail's life.

use crate::sandbox::*;

/// `kak status`: its exit status, and the lines of the steps that are not done.
fn status() -> (Option<i32>, Vec<String>) {
    let ended = program(&["kak", "status"]);
    let missing = ended
        .text()
        .lines()
        .filter(|line| line.starts_with("--"))
        .map(str::to_owned)
        .collect();
    (ended.status.code(), missing)
}

/// Asserts that the jail is up and complete.
#[track_caller]
fn assert_up() {
    assert_eq!(status(), (Some(0), Vec::new()), "{}", run("kak status"));
}

/// The PID of the keeper, init's parent, as seen outside.
fn keeper() -> i64 {
    let parent = process_field(init("USER"), "PPid").unwrap();
    parent.parse().unwrap()
}

sandboxed! {
    fn setup_twice_changes_nothing() {
        uplink::plug();
        let first = sh("kak setup");
        let there = "= mkdir -p -m 755 /mnt";
        assert!(first.lines().all(|line| line.starts_with("+ ") || line == there), "{first}");
        let (once, pid) = (dump(), init("USER"));
        let second = sh("kak setup");
        assert!(second.lines().all(|line| line.starts_with("= ")), "{second}");
        assert_eq!(first.lines().count(), second.lines().count());
        assert_same("a second setup", &once, &dump());
        assert_eq!(init("USER"), pid);
    }

    fn teardown_restores_the_machine() {
        uplink::plug();
        let before = dump();
        sh("kak setup");
        assert_ne!(before, dump());
        assert_eq!(sh("nssh -c 'touch /root/.seen; rm /root/.seen; echo ran'"), "ran");
        sh("kak teardown");
        assert_same("setup and teardown", &before, &dump());
        until("the keeper is gone", || processes().is_empty());
    }

    fn what_users_put_into_the_jail_stays() {
        uplink::plug();
        let before = dump();
        sh("kak setup; nssh -c 'echo precious >/opt/file; mkdir /mnt/dir'; kak teardown");
        assert_eq!(sh("cat /mnt/user/opt/file; ls /mnt/user/mnt"), "precious\ndir");
        // And is there when the jail comes up again.
        assert_eq!(sh("kak setup >/dev/null; nssh -c 'cat /opt/file; rm /opt/file; rmdir /mnt/dir'; kak teardown"), "precious");
        sh("rm -rf /mnt/user");
        assert_same("two lives", &before, &dump());
    }

    fn teardown_restores_what_was_there_already() {
        uplink::plug();
        sh("echo 1 >/proc/sys/net/ipv4/ip_forward
            mkdir -p /run/netns /mnt/user/opt /etc/netns/OTHER
            echo keep >/mnt/user/opt/file
            printf '/bin/sh\\n/bin/zsh' >/etc/shells
            nft add table ip mine; nft add chain ip mine c; ip netns add OTHER
            ip link add v0 type veth peer name v1");
        let before = dump();
        sh("kak setup; kak teardown");
        assert_same("setup and teardown", &before, &dump());
    }

    fn etc_shells_gets_its_line_once() {
        sh("printf '/bin/sh\\n/bin/zsh' >/etc/shells; kak setup; kak setup");
        assert_eq!(sh("cat /etc/shells"), "/bin/sh\n/bin/zsh\n/bin/nssh");
        // A line that was added after kak's stays.
        sh("echo /bin/fish >>/etc/shells; kak teardown");
        assert_eq!(sh("cat /etc/shells"), "/bin/sh\n/bin/zsh\n/bin/fish");
    }

    fn a_line_that_was_there_is_not_ours() {
        sh("echo /bin/nssh >>/etc/shells");
        let before = sh("cat /etc/shells");
        sh("kak setup; kak teardown");
        assert_eq!(sh("cat /etc/shells"), before);
    }

    fn teardown_twice_is_fine() {
        sh("kak setup; kak teardown");
        let before = dump();
        let ended = program(&["kak", "teardown"]).code(0);
        assert_eq!(ended.stderr, "");
        assert_same("a second teardown", &before, &dump());
    }

    fn teardown_of_nothing_is_fine() {
        let before = dump();
        program(&["kak", "teardown"]).code(0);
        assert_same("teardown of nothing", &before, &dump());
    }

    fn teardown_ends_the_sessions() {
        sh("kak setup");
        let mut session = std::process::Command::new("nssh")
            .args(["-c", "trap '' HUP TERM; sleep 1000 & wait; sleep 1000"])
            .spawn()
            .unwrap();
        until("the session is listed", || json("kak status --json")["sessions"].as_array().is_some_and(|all| all.len() == 1));
        sh("kak teardown");
        assert!(!session.wait().unwrap().success());
        until("all is gone", || processes().is_empty());
    }

    fn status_tells_up_from_down() {
        let (code, _) = status();
        assert_eq!(code, Some(3));
        assert_eq!(json("kak status --json || test $? = 3")["up"], false);
        uplink::plug();
        sh("kak setup; nft delete table ip kak-USER");
        let torn = json("kak status --json || test $? = 3");
        assert_eq!((&torn["up"], &torn["complete"], &torn["network_only"]), (&true.into(), &false.into(), &false.into()));
        sh("kak setup");
        assert_up();
        let up = json("kak status --json");
        assert_eq!((up["jail"].as_str(), up["up"].as_bool(), up["complete"].as_bool()), (Some("USER"), Some(true), Some(true)));
        assert!(up["steps"].as_array().is_some_and(|steps| steps.len() > 5), "{up}");
        assert!(up["steps"].as_array().unwrap().iter().all(|step| step["done"] == true), "{up}");
        sh("kak teardown");
        assert_eq!(status().0, Some(3));
    }

    fn drift_is_named_and_mended() {
        uplink::plug();
        sh("kak setup");
        let whole = dump();
        for (damage, word) in [
            ("nft delete table ip kak-USER", "nft"),
            ("echo 0 >/proc/sys/net/ipv4/ip_forward", "ip_forward"),
            ("sed -i /nssh/d /etc/shells", "/etc/shells"),
            ("ip -n USER route del default", "route"),
            ("ip -n USER addr flush dev eth0", "10.0.0.2"),
            ("ip -n USER link set lo down", "lo"),
            ("ip addr flush dev kak-USER", "10.0.0.1"),
            ("ip link set kak-USER down", "kak-USER"),
            ("ip link del kak-USER", "veth"),
        ] {
            sh(damage);
            let (code, missing) = status();
            assert_eq!(code, Some(3), "{damage}");
            assert!(missing.iter().any(|line| line.contains(word)), "{damage}: {missing:?}");
            let plan = sh("kak setup --dry-run");
            assert!(plan.lines().any(|line| line.starts_with("+ ") && line.contains(word)), "{damage}: {plan}");
            assert_eq!(status().0, Some(3), "a dry run mends nothing: {damage}");
            let mended = sh("kak setup");
            assert!(mended.lines().any(|line| line.starts_with("+ ")), "{damage}: {mended}");
            assert_eq!(status(), (Some(0), Vec::new()), "{damage}");
            assert_eq!(sh(&format!("nssh -c 'cat </dev/tcp/{}/{}'", uplink::THEIRS, uplink::PORT)), uplink::OURS, "{damage}");
        }
        assert_same("damage and repair", &lasting(&whole), &lasting(&dump()));
    }

    fn a_dry_run_does_nothing() {
        uplink::plug();
        let before = dump();
        let plan = sh("kak setup --dry-run");
        assert!(plan.lines().filter(|line| line.starts_with("+ ")).count() > 20, "{plan}");
        assert_same("a dry run", &before, &dump());
        assert!(processes().is_empty());
        let done = sh("kak setup");
        assert_eq!(plan, done, "what a dry run says is what setup does");
        assert_eq!(sh("kak setup --dry-run"), done.replace("+ ", "= "));
    }

    fn an_explanation_does_nothing() {
        uplink::plug();
        let before = dump();
        let script = sh("kak setup --explain");
        assert!(script.lines().filter(|line| line.starts_with("# ")).count() > 5, "{script}");
        assert_same("an explanation", &before, &dump());
        // If the jail is up, the script is only for reading.
        sh("kak setup");
        let up = dump();
        run("kak setup --explain | sh").code(1).says("the jail USER is up");
        assert_same("an explanation of what is up", &up, &dump());
    }

    fn a_killed_keeper_takes_the_jail_along_and_nssh_brings_it_back() {
        uplink::plug();
        let before = dump();
        sh("kak setup");
        let (pid, whole) = (init("USER"), dump());
        let session = std::process::Command::new("nssh").args(["-c", "sleep 1000"]).spawn().unwrap();
        until("the session is listed", || json("kak status --json")["sessions"].as_array().is_some_and(|all| all.len() == 1));
        sh(&format!("kill -KILL {}", keeper()));
        until("init is gone", || !alive(pid));
        let ended = session.wait_with_output().unwrap();
        assert!(!ended.status.success());
        assert_eq!(status().0, Some(3));
        assert_eq!(sh("nssh -c 'echo back'"), "back");
        assert_ne!(init("USER"), pid);
        assert_up();
        assert_same("a killed keeper, then nssh", &lasting(&whole), &lasting(&dump()));
        sh("kak teardown");
        assert_same("a killed keeper, nssh and teardown", &before, &dump());
    }

    fn a_killed_init_ends_sessions_and_setup_brings_it_back() {
        sh("kak setup");
        let pid = init("USER");
        let session = std::process::Command::new("nssh").args(["-c", "sleep 1000"])
            .stderr(std::process::Stdio::piped()).spawn().unwrap();
        until("the session is listed", || json("kak status --json")["sessions"].as_array().is_some_and(|all| all.len() == 1));
        sh(&format!("kill -KILL {pid}"));
        let ended = session.wait_with_output().unwrap();
        let code = std::os::unix::process::ExitStatusExt::signal(&ended.status).map_or(ended.status.code(), |signal| Some(128 + signal));
        assert_eq!(code, Some(137));
        assert!(String::from_utf8_lossy(&ended.stderr).contains("jail"), "{ended:?}");
        sh("kak setup");
        assert_up();
    }

    fn a_killed_keeper_leaves_a_teardown_that_works() {
        uplink::plug();
        let before = dump();
        sh("kak setup");
        let (pid, keeper) = (init("USER"), keeper());
        sh(&format!("kill -KILL {keeper}"));
        until("init is gone", || !alive(pid));
        sh("kak teardown");
        assert_same("a killed keeper, then teardown", &before, &dump());
    }

    fn without_a_default_route_the_rest_comes_up() {
        let ended = run("kak setup").code(0);
        let said = format!("{}{}", ended.text(), ended.stderr);
        assert!(said.contains("no default route"), "{said}");
        assert_up();
        assert_eq!(sh("nssh -c 'ls /sys/class/net'"), "eth0\nlo");
        assert_eq!(sh("nssh -c 'cat /sys/class/net/lo/operstate /sys/class/net/eth0/operstate'"), "unknown\nup");
        sh("nssh -c 'ping -c 1 -w 5 10.0.0.1'");
    }

    fn a_stale_namespace_file_is_replaced() {
        uplink::plug();
        sh("mkdir -p /run/netns; touch /run/netns/USER");
        let ended = program(&["kak", "setup"]).code(0);
        assert_eq!(ended.stderr, "");
        assert_up();
        assert_eq!(sh("stat -f -c %T /run/netns/USER"), "nsfs");
        sh("nssh -c true");
    }

    fn stacked_namespace_mounts_are_all_removed() {
        let before = dump();
        sh("kak setup; mount --bind /run/netns/USER /run/netns/USER; kak teardown");
        assert_same("stacked mounts", &before, &dump());
    }

    fn the_record_of_an_earlier_life_does_no_harm() {
        uplink::plug();
        let before = dump();
        sh("kak setup");
        let whole = dump();
        // What a container's stop leaves: every kernel object gone, every file still there.
        let pid = init("USER");
        sh(&format!("kill -KILL {}", keeper()));
        until("init is gone", || !alive(pid));
        sh("ip link del kak-USER; umount /run/netns/USER; nft flush ruleset; echo 0 >/proc/sys/net/ipv4/ip_forward");
        sh("test -f /run/netns/USER; test -f /run/kak/USER/record");
        let ended = program(&["kak", "setup"]).code(0);
        assert_eq!(ended.stderr, "");
        assert_up();
        assert_same("a second life", &lasting(&whole), &lasting(&dump()));
        sh("kak teardown");
        assert_same("two lives and a teardown", &before, &dump());
    }

    fn a_torn_record_does_no_harm() {
        uplink::plug();
        let before = dump();
        // An empty one is from a kak that was killed before it changed anything.
        sh("mkdir -p -m 700 /run/kak/USER; touch /run/kak/USER/record");
        program(&["kak", "setup"]).code(0);
        assert_up();
        program(&["kak", "teardown"]).code(0);
        assert_same("an empty record", &before, &dump());
        // One that cannot be parsed may belong to things that exist: kak does not guess, and refuses.
        for record in ["jail US", "nonsense\\n\\n\\0\\377\\n"] {
            sh(&format!("mkdir -p -m 700 /run/kak/USER; printf '{record}' >/run/kak/USER/record"));
            for applet in ["setup", "teardown", "status"] {
                program(&["kak", applet]).code(1).says("/run/kak/USER/record").says("rm -r /run/kak/USER");
            }
            sh("rm -r /run/kak/USER");
            program(&["kak", "setup"]).code(0);
            program(&["kak", "teardown"]).code(0);
            assert_same(record, &before, &dump());
        }
    }

    fn two_jails_live_side_by_side() {
        uplink::plug();
        let before = dump();
        sh("kak setup -n one; kak setup -n two");
        let inside = |jail: &str, script: &str| sh(&format!("kak nssh -n {jail} -- -c '{script}'"));
        for query in ["readlink /proc/self/ns/pid", "readlink /proc/self/ns/net", "readlink /proc/self/ns/mnt", "ip -4 -o addr show eth0"] {
            assert_ne!(inside("one", query), inside("two", query));
        }
        for jail in ["one", "two"] {
            assert_eq!(inside(jail, &format!("cat </dev/tcp/{}/{}", uplink::THEIRS, uplink::PORT)), uplink::OURS);
        }
        sh("kak teardown -n one");
        assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward"), "1", "the other jail still needs it");
        assert_eq!(sh("grep -c nssh /etc/shells"), "1", "the other jail still needs it");
        assert_eq!(inside("two", &format!("cat </dev/tcp/{}/{}", uplink::THEIRS, uplink::PORT)), uplink::OURS);
        sh("kak teardown -n two");
        assert_same("two jails", &before, &dump());
    }

    fn concurrent_setups_make_one_jail() {
        uplink::plug();
        let before = dump();
        sh("for n in 1 2 3 4 5 6 7 8; do kak setup >/tmp/out.$n 2>&1 & pids=\"$pids $!\"; done
            for pid in $pids; do wait $pid; done; rm -f /tmp/out.*");
        assert_up();
        assert_eq!(sh("findmnt -rn -o TARGET -t nsfs"), "/var/upstream\n/run/netns/USER");
        sh("kak teardown");
        assert_same("concurrent setups", &before, &dump());
    }

    fn a_command_takes_the_jail_down_again() {
        uplink::plug();
        let before = dump();
        let ended = program(&["kak", "setup", "--", "sh", "-c", "readlink /proc/self/ns/pid; exit 9"]).code(9);
        assert_ne!(ended.text().trim(), sh("readlink /proc/self/ns/pid"));
        assert_same("setup with a command", &before, &dump());
        until("nobody is left", || processes().is_empty());
    }
}
