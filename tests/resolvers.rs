//! Jails and namespaces with a resolv.conf of their own keep it, and copies follow the machine's, whatever happens to
//! that.

use crate::sandbox::*;

/// Makes the namespace `a`, whose own resolv.conf says `ns`, and the machine's, a plain file that says `host`.
fn namespace() {
    sh(
        "mkdir -p /etc/netns/a; umount /etc/resolv.conf; echo host >/etc/resolv.conf
        echo ns >/etc/netns/a/resolv.conf; kak netns add a",
    );
}

/// Starts a process that stays in a namespace, by the command `how` (`kak netns exec ...`); its PID.
fn inhabitant(how: &str) -> i64 {
    sh("rm -f /tmp/pid");
    sh(&format!(
        "{how} sh -c 'echo $$ >/tmp/new; mv /tmp/new /tmp/pid; exec sleep 1000' >/dev/null 2>&1 &"
    ));
    until("the process has started", || {
        std::path::Path::new("/tmp/pid").exists()
    });
    let pid = sh("cat /tmp/pid").parse().unwrap();
    until("the process stays", || {
        process_field(pid, "Name").is_some_and(|name| name == "sleep")
    });
    pid
}

/// The contents of /etc/resolv.conf as a process sees it.
fn seen_by(pid: i64) -> String {
    run(&format!("nsenter -t {pid} -m cat /etc/resolv.conf")).text()
}

/// Kills a process, and waits until no other is left.
fn end(pid: i64) {
    sh(&format!("kill -KILL {pid}"));
    until("nobody is left", || processes().is_empty());
}

/// The ways in which a machine's resolv.conf can change.
const CHANGES: &[&str] = &[
    "echo host >/etc/new; mv /etc/new /etc/resolv.conf",
    "rm /etc/resolv.conf; echo host >/etc/resolv.conf",
    "echo other >/etc/resolv.conf",
    "mkdir -p /run/one /run/two; echo host >/run/one/conf; echo host >/run/two/conf; ln -sf /run/one/conf /etc/resolv.conf",
    "ln -s ../run/two/conf /etc/new; mv -T /etc/new /etc/resolv.conf",
    "echo other >/run/two/new; mv /run/two/new /run/two/conf",
    "mv /run/two /run/three; mkdir /run/two; echo host >/run/two/conf",
    "ln -sfn /run/three /run/way; ln -sf way/conf /run/chain; ln -sf /run/chain /etc/resolv.conf",
    "ln -sfn /run/one /run/way2; mv -T /run/way2 /run/way",
    "ln -sf /nowhere/conf /etc/resolv.conf",
    "rm /etc/resolv.conf; echo host >/etc/resolv.conf",
];

sandboxed! {
    fn a_command_keeps_its_resolvers_whatever_the_machine_does() {
        namespace();
        let pid = inhabitant("kak netns exec a");
        for change in CHANGES {
            sh(change);
            until(change, || seen_by(pid) == "ns\n");
        }
        assert_eq!(sh("cat /etc/netns/a/resolv.conf"), "ns");
        end(pid);
    }

    fn a_jail_keeps_its_resolvers_whatever_the_machine_does() {
        sh("umount /etc/resolv.conf; echo host >/etc/resolv.conf; kak setup --dns 192.0.2.53");
        let ours = "nameserver 192.0.2.53\n";
        let pid = init("USER");
        for change in CHANGES {
            sh(change);
            until(change, || seen_by(pid) == ours);
            assert_ne!(run("cat /etc/resolv.conf").text(), ours, "{change}");
        }
        sh("kak status; kak teardown");
        until("nobody is left", || processes().is_empty());
        // With a link from the start, a replaced target is never seen inside, not even for a moment.
        sh("ln -sf /run/one/conf /etc/resolv.conf; kak setup --dns 192.0.2.53");
        let pid = init("USER");
        for n in 0..50 {
            sh(&format!("echo host{n} >/run/one/new; mv /run/one/new /run/one/conf"));
            assert_eq!(seen_by(pid), ours);
        }
        sh("kak teardown");
    }

    fn the_guard_is_there_although_the_caller_had_no_standard_descriptors() {
        namespace();
        for closed in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"] {
            sh(&format!("rm -f /tmp/pid; sh -c 'exec kak netns exec a sh -c \"echo \\$\\$ >/tmp/pid; exec sleep 1000\" {closed}' >/dev/null 2>&1 &"));
            until("the process has started", || !run("cat /tmp/pid").text().is_empty());
            let pid = sh("cat /tmp/pid").parse().unwrap();
            until("the process stays", || process_field(pid, "Name").is_some_and(|name| name == "sleep"));
            sh("echo host >/etc/new; mv /etc/new /etc/resolv.conf");
            until(closed, || seen_by(pid) == "ns\n");
            end(pid);
        }
    }

    fn the_guard_is_there_for_an_exec_within_another() {
        namespace();
        sh("mkdir /etc/netns/b; echo outer >/etc/netns/b/resolv.conf; kak netns add b");
        let pid = inhabitant("kak netns exec b kak netns exec a");
        for change in &CHANGES[..2] {
            sh(change);
            until(change, || seen_by(pid) == "ns\n");
        }
        end(pid);
    }

    fn the_guard_is_there_where_nothing_tells_of_names() {
        // Without inotify: as if other programs had used up the user's instances.
        let script = "echo 0 >/proc/sys/user/max_inotify_instances; mount -t tmpfs run /run; cp -r /etc /run/etc; mount --bind /run/etc /etc
            mkdir -p /etc/netns/a; echo ns >/etc/netns/a/resolv.conf; echo host >/etc/resolv.conf; kak netns add a
            kak netns exec a sh -c 'echo $$ >/run/pid; exec sleep 1000' & while ! [ -s /run/pid ]; do sleep .01; done
            for n in 1 2 3; do echo host >/etc/new; mv /etc/new /etc/resolv.conf
                until [ \"$(nsenter -t $(cat /run/pid) -m cat /etc/resolv.conf)\" = ns ]; do sleep .01; done; done
            kill $(cat /run/pid); echo fine";
        let ended = program(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script]);
        assert_eq!(ended.code(0).text(), "fine\n");
    }

    fn the_guard_is_not_in_the_namespace() {
        namespace();
        let pid = inhabitant("kak netns exec a");
        assert!(processes().values().any(|name| name == "kak-netns"));
        for ip in ["kak netns", "ip netns"] {
            assert_eq!(sh(&format!("{ip} pids a")), pid.to_string());
        }
        // In it, it would keep the network alive, too.
        sh("kak netns delete a");
        end(pid);
    }

    fn a_copy_goes_with_what_it_is_a_copy_of() {
        uplink::plug();
        sh("umount /etc/resolv.conf; echo nameserver 192.0.2.1 >/etc/resolv.conf; mkdir /run/one");
        let before = dump();
        sh("kak setup; kak netns add blue --uplink");
        let jail = init("USER");
        let blue = inhabitant("kak netns exec blue");
        for (change, now) in [
            ("echo nameserver 192.0.2.2 >/etc/resolv.conf", "192.0.2.2"),
            ("echo nameserver 192.0.2.3 >/etc/new; mv /etc/new /etc/resolv.conf", "192.0.2.3"),
            // Shorter and longer than it was.
            ("printf 'nameserver 1.1.1.1' >/etc/resolv.conf", "1.1.1.1"),
            ("printf 'search example.org\\nnameserver 192.0.2.44\\noptions edns0\\n' >/etc/resolv.conf", "192.0.2.44"),
            ("echo nameserver 192.0.2.5 >/run/one/conf; ln -sf /run/one/conf /etc/resolv.conf", "192.0.2.5"),
            ("echo nameserver 192.0.2.6 >/run/one/new; mv /run/one/new /run/one/conf", "192.0.2.6"),
            ("echo nameserver 192.0.2.7 >/run/one/conf", "192.0.2.7"),
            ("rm -r /run/one; mkdir /run/one; echo nameserver 192.0.2.8 >/run/one/conf", "192.0.2.8"),
            // While the machine has none, the copy stays, and is mounted again as soon as there is a place for it.
            ("rm /etc/resolv.conf", ""),
            ("ln -s /nowhere /etc/resolv.conf", "192.0.2.8"),
            (": >/etc/new; mv /etc/new /etc/resolv.conf", "192.0.2.8"),
            ("echo nameserver 192.0.2.9 >/etc/resolv.conf", "192.0.2.9"),
            ("echo nameserver 192.0.2.10 >/run/mounted; mount --bind /run/mounted /etc/resolv.conf", "192.0.2.10"),
            ("umount /etc/resolv.conf", "192.0.2.9"),
        ] {
            sh(change);
            for pid in [jail, blue] {
                until(change, || {
                    let seen = seen_by(pid);
                    let server = seen.lines().find_map(|line| line.strip_prefix("nameserver "));
                    server.unwrap_or_default() == now
                });
            }
            assert_eq!(seen_by(jail), seen_by(blue), "{change}");
        }
        assert_eq!(seen_by(jail), "nameserver 192.0.2.9\n");
        // The changed copy counts as complete, as the first one did.
        sh("kak status; kak status -n blue; kak status --json | grep '\"up\":true'");
        assert!(!sh("kak setup").lines().any(|line| line.starts_with('+')));
        assert_eq!(init("USER"), jail);
        assert_eq!(seen_by(jail), "nameserver 192.0.2.9\n");
        sh(&format!("kill {blue}; kak teardown; kak netns delete blue; echo nameserver 192.0.2.1 >/etc/resolv.conf; rm -r /run/one /run/mounted; mkdir /run/one"));
        assert_same("after all of that", &before, &dump());
        until("nobody is left", || processes().is_empty());
    }

    fn a_file_of_its_own_that_is_replaced_is_seen() {
        uplink::plug();
        sh("umount /etc/resolv.conf; echo nameserver 192.0.2.9 >/etc/resolv.conf
            mkdir -p /etc/netns/USER /etc/netns/blue /run/systemd/resolve; echo nameserver 192.0.2.1 | tee /etc/netns/USER/resolv.conf >/etc/netns/blue/resolv.conf
            echo nameserver 192.0.2.8 >/run/systemd/resolve/stub-resolv.conf; kak netns add blue");
        for link in ["true", "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf", "ln -sf /etc/other /etc/resolv.conf; echo nameserver 192.0.2.9 >/etc/other"] {
            sh(link);
            let before = dump();
            sh("kak setup; setsid kak netns exec blue sleep 1000 >/dev/null 2>&1 &");
            until("it sleeps", || processes().values().any(|name| name == "kak-netns"));
            let (jail, blue) = (init("USER"), sh("pgrep -x sleep").parse().unwrap());
            let mounts = |pid: i64| sh(&format!("grep -c resolv.conf /proc/{pid}/mountinfo"));
            let as_first = [mounts(jail), mounts(blue)];
            for (n, change) in [
                "sed -i s/192.0.2.*/192.0.2.2/",
                "f() { echo nameserver 192.0.2.3 >$1.new; mv $1.new $1; }; f",
                "f() { rm $1; echo nameserver 192.0.2.4 >$1; }; f",
                "f() { mv $1 $1~; cp $1~ $1; sed -i s/192.0.2.*/192.0.2.5/ $1; rm $1~; }; f",
            ].iter().enumerate() {
                sh(&format!("for name in USER blue; do (set -- /etc/netns/$name/resolv.conf; {change} $1); done"));
                until(change, || seen_by(jail) == format!("nameserver 192.0.2.{}\n", n + 2));
                // As with `ip netns exec`, a replaced file does not reach a running command.
                assert_eq!(seen_by(blue), "nameserver 192.0.2.1\n", "{change}");
                // As many mounts as before.
                until("it is complete", || run("kak status").status.code() == Some(0));
                assert!(!sh("kak setup").lines().any(|line| line.starts_with('+')), "{change}");
                assert_eq!([mounts(jail), mounts(blue)], as_first, "{change}");
            }
            // If it is removed, or becomes a directory, the jail does not fall back to the machine's.
            let last = "nameserver 192.0.2.5\n";
            sh("cd /etc/netns/USER; mv resolv.conf ../own; mkdir resolv.conf");
            assert_eq!(seen_by(jail), last);
            sh("cd /etc/netns/USER; rmdir resolv.conf");
            assert_eq!(seen_by(jail), last);
            sh("mv /etc/netns/own /etc/netns/USER/resolv.conf; kak setup; kak status");
            assert_eq!(seen_by(jail), last);
            // When setup returns, one that it made anew is in place.
            for _ in 0..20 {
                sh("rm /etc/netns/USER/resolv.conf; kak setup; kak status");
            }
            sh(&format!("kill {blue}; kak teardown; echo nameserver 192.0.2.1 | tee /etc/netns/USER/resolv.conf >/etc/netns/blue/resolv.conf"));
            assert_same(link, &before, &dump());
            until("nobody is left", || processes().is_empty());
        }
    }

    fn a_jail_without_its_keeper_is_taken_away_with_the_copy_that_it_has_by_then() {
        uplink::plug();
        sh("umount /etc/resolv.conf; echo nameserver 192.0.2.1 >/etc/resolv.conf");
        let before = dump();
        sh("kak setup");
        let jail = init("USER");
        sh("echo nameserver 192.0.2.2 >/etc/resolv.conf");
        until("it has the new one", || seen_by(jail) == "nameserver 192.0.2.2\n");
        sh(&format!("kill -KILL {}", process_field(jail, "PPid").unwrap()));
        until("nobody is left", || processes().is_empty());
        // It comes up again with the machine's current resolvers.
        sh("echo nameserver 192.0.2.3 >/etc/resolv.conf; kak setup");
        let jail = init("USER");
        until("it has the newest one", || seen_by(jail) == "nameserver 192.0.2.3\n");
        sh(&format!("kill -KILL {}", process_field(jail, "PPid").unwrap()));
        until("nobody is left", || processes().is_empty());
        sh("kak teardown; echo nameserver 192.0.2.1 >/etc/resolv.conf");
        assert_same("after all of that", &before, &dump());
    }

    fn a_change_that_is_killed_at_any_call_leaves_nothing() {
        uplink::plug();
        let texts = ["nameserver 192.0.2.1\nsearch a.longer.text.than.the.other.example\n", "nameserver 192.0.2.2\n"];
        sh("umount /etc/resolv.conf");
        std::fs::write("/etc/resolv.conf", texts[0]).unwrap();
        let before = dump();
        let mut killed = 0;
        for call in ["open", "write", "fchmod", "renameat", "ftruncate", "flock", "unlinkat", "close"] {
            for n in 1.. {
                sh("kak setup");
                let jail = init("USER");
                let (relay, _) = processes().into_iter().find(|(_, name)| name == "kak-dns").unwrap();
                until("it waits", || sh(&format!("cut -d ' ' -f 1 /proc/{relay}/syscall")) != "running");
                let mut strace = std::process::Command::new("strace")
                    .args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &format!("inject={call}:signal=KILL:when={n}")])
                    .args(["-p", &relay.to_string()]).spawn().unwrap();
                until("it is traced", || process_field(relay, "TracerPid").is_some_and(|pid| pid != "0"));
                std::fs::write("/etc/resolv.conf", texts[1]).unwrap();
                // Releasing the lock is the last step of a change.
                until("it is done or dead", || !alive(relay) || seen_by(jail) == texts[1] && run("flock -n /run/kak true").status.success());
                let survived = alive(relay);
                rustix::process::kill_process(rustix::process::Pid::from_child(&strace), rustix::process::Signal::TERM).ok();
                strace.wait().unwrap();
                if n % 2 == 0 {
                    sh("kak status; kak setup");
                }
                sh("kak teardown");
                std::fs::write("/etc/resolv.conf", texts[0]).unwrap();
                assert_same(&format!("killed at {call} {n}"), &before, &dump());
                if survived {
                    break;
                }
                killed += 1;
            }
        }
        assert!(killed > 15, "only {killed} calls");
    }

    fn what_is_no_copy_stays_as_it_is() {
        uplink::plug();
        sh("umount /etc/resolv.conf; echo nameserver 192.0.2.1 >/etc/resolv.conf
            mkdir -p /etc/netns/own /etc/netns/link; echo nameserver 192.0.2.20 >/etc/netns/own/resolv.conf
            echo nameserver 192.0.2.30 >/etc/netns/elsewhere; ln -s ../elsewhere /etc/netns/link/resolv.conf");
        sh("kak setup -n given --dns 192.0.2.10; kak setup -n own; kak setup -n link; kak setup -n copy");
        let seen = || ["given", "own", "link", "copy"].map(|jail| seen_by(init(jail)));
        let has = |last: &str| ["10", "20", "30", last].map(|n| format!("nameserver 192.0.2.{n}\n"));
        assert_eq!(seen(), has("1"));
        sh("echo nameserver 192.0.2.2 >/etc/resolv.conf");
        until("the copy is another", || seen() == has("2"));
        // A copy that somebody has written to is no copy any more.
        sh("echo nameserver 192.0.2.40 >/etc/netns/copy/resolv.conf; echo nameserver 192.0.2.3 >/etc/resolv.conf");
        sh("kak setup -n copy2");
        sh("echo nameserver 192.0.2.4 >/etc/resolv.conf");
        until("a copy is another", || seen_by(init("copy2")) == "nameserver 192.0.2.4\n");
        assert_eq!(seen(), has("40"));
        sh("for jail in given own link copy copy2; do kak teardown -n $jail; done");
        assert_eq!(sh("cd /etc/netns; find . -type f -o -type l | sort"), "./copy/resolv.conf\n./elsewhere\n./link/resolv.conf\n./own/resolv.conf");
    }

    fn resolvers_that_are_given_do_not_give_way_to_a_file() {
        uplink::plug();
        sh("mkdir -p /etc/netns/USER; echo nameserver 192.0.2.20 >/etc/netns/USER/resolv.conf");
        let before = dump();
        for command in ["setup", "netns add USER --uplink"] {
            run(&format!("kak {command} --dns 192.0.2.10")).code(1)
                .says("--dns: /etc/netns/USER/resolv.conf is there already").says("leave --dns out");
        }
        assert_same("when it was refused", &before, &dump());
        // A file with the same contents is accepted, and stays.
        sh("kak setup --dns 192.0.2.20; kak teardown");
        assert_same("afterwards", &before, &dump());
        // The same for a jail that is down but has a record.
        sh("kak setup");
        sh(&format!("kill -KILL {}", process_field(init("USER"), "PPid").unwrap()));
        until("nobody is left", || processes().is_empty());
        run("kak setup --dns 192.0.2.10").code(1).says("leave --dns out");
        sh("kak teardown");
        // A file that kak has made itself does not count.
        sh("rm -r /etc/netns; kak setup --dns 192.0.2.10");
        sh(&format!("kill -KILL {}", process_field(init("USER"), "PPid").unwrap()));
        until("nobody is left", || processes().is_empty());
        sh("kak setup --dns 192.0.2.11 --dry-run; kak setup --dns 192.0.2.11");
        assert_eq!(seen_by(init("USER")), "nameserver 192.0.2.11\n");
    }

    fn they_can_be_given_where_etc_cannot_be_written() {
        uplink::plug();
        sh("mount --bind /etc /etc; mount -o remount,bind,ro /etc; mount --bind /var/container/resolv.conf /etc/resolv.conf");
        let before = dump();
        sh("kak setup --dns 192.0.2.10");
        assert_eq!(seen_by(init("USER")), "nameserver 192.0.2.10\n");
        sh("kak teardown; kak setup; echo nameserver 192.0.2.2 >/var/container/resolv.conf");
        until("a copy is another", || seen_by(init("USER")) == "nameserver 192.0.2.2\n");
        sh("kak status; kak teardown; printf 'nameserver 203.0.113.1\nsearch example\n' >/var/container/resolv.conf");
        run("kak netns add blue --uplink --dns 192.0.2.10").code(1).says("/etc is read-only");
        sh("kak netns add blue --uplink; kak netns delete blue");
        assert_same("afterwards", &before, &dump());
    }

    fn nobody_answers_around_the_jails_network() {
        uplink::plug();
        sh("umount /etc/resolv.conf; mkdir -p /run/nscd /run/systemd/resolve");
        let _sockets = ["/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve"].map(|path| std::os::unix::net::UnixListener::bind(path).unwrap());
        let stub = "/run/systemd/resolve/stub-resolv.conf";
        sh(&format!("echo nameserver 192.0.2.1 >{stub}; cp {stub} /run/systemd/resolve/resolv.conf"));
        for state in [
            "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
            "ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
            "ln -sf /run/systemd/resolve/nothing /etc/resolv.conf",
            "rm /etc/resolv.conf; echo nameserver 192.0.2.1 >/etc/resolv.conf",
            "rm /etc/resolv.conf",
        ] {
            sh(state);
            let before = dump();
            let script = !(state.contains("nothing") || state.contains("rm"));
            for way in ["kak setup --dns 192.0.2.53", "kak setup --dns 192.0.2.53 --explain >/tmp/script; setsid sh -eu /tmp/script >/dev/null 2>&1 &"] {
                if way.contains("script") && !script {
                    continue; // mount(8) does not put anything on a link
                }
                sh(way);
                until("it is complete", || run("kak status").status.code() == Some(0));
                assert_eq!(seen_by(init("USER")), "nameserver 192.0.2.53\n", "{state}");
                assert_eq!(sh("nssh -c 'ls /run/nscd /run/systemd/resolve'"), "/run/nscd:\n\n/run/systemd/resolve:\nresolv.conf\nstub-resolv.conf");
                assert_eq!(sh("nssh -c 'cat /run/systemd/resolve/*'"), "nameserver 192.0.2.53\nnameserver 192.0.2.53");
                sh("kak teardown; rm -f /tmp/script");
                assert_same(state, &before, &dump());
            }
        }
        // A --bind to that place is honoured.
        sh("mkdir /run/mine; touch /run/mine/x; kak setup --bind /run/mine:/run/nscd");
        assert_eq!(sh("nssh -c 'ls /run/nscd'"), "x");
        sh("kak status; kak teardown");
    }

    fn nor_does_who_comes_later_or_again() {
        uplink::plug();
        let listen = |path: &str| std::os::unix::net::UnixListener::bind(path).unwrap();
        sh("mkdir /run/nscd; kak setup");
        let reached = |path: &str| run(&format!("nsenter -t {} -m test -S {path}", init("USER"))).status.success();
        for round in 0..3 {
            let _nscd = listen("/run/nscd/socket");
            until("it is covered", || !reached("/run/nscd/socket"));
            sh("mkdir -p /run/systemd/resolve");
            let _resolved = listen("/run/systemd/resolve/io.systemd.Resolve");
            until("it is covered", || !reached("/run/systemd/resolve/io.systemd.Resolve"));
            sh(["rm -r /run/nscd /run/systemd/resolve", "rm -r /run/nscd /run/systemd", "mv /run/nscd /run/old; mv /run/systemd /run/older"][round]);
            sh("kak status");
            sh("mkdir /run/nscd");
        }
        assert!(sh("kak setup").lines().all(|line| !line.starts_with('+')));
        sh("kak teardown");
    }

    fn a_resolv_conf_that_is_none_is_no_reason_to_have_no_jail() {
        sh("umount /etc/resolv.conf; rm /etc/resolv.conf; ln -s resolv.conf /etc/resolv.conf");
        let before = dump();
        sh("kak setup; nssh -c true; kak status; kak teardown");
        sh("kak setup --dns 192.0.2.53");
        assert_eq!(sh("nssh -c 'cat /etc/resolv.conf'"), "nameserver 192.0.2.53");
        sh("kak status; kak teardown");
        assert_same("a link to itself", &before, &dump());
        sh("rm /etc/resolv.conf; mkdir /etc/resolv.conf");
        for dir in ["true", "mv /etc/resolv.conf /etc/dir; ln -s dir /etc/resolv.conf"] {
            sh(dir);
            let before = dump();
            program(&["kak", "setup"]).code(0).says("/etc/resolv.conf is a directory");
            sh("nssh -c 'test -d /etc/resolv.conf'; kak status; kak teardown");
            assert_same("a directory", &before, &dump());
        }
    }
}
