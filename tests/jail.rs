//! What a jail looks like from inside, and that it is separate from the outside.

use std::process::{Command, Stdio};

use crate::sandbox::*;

/// Runs a script in the jail's shell; what it prints.
#[track_caller]
fn inside(script: &str) -> String {
    program(&["nssh", "-c", script])
        .code(0)
        .text()
        .trim()
        .to_owned()
}

/// Waits until `status` lists this many sessions.
#[track_caller]
fn sessions(count: usize) {
    until("the sessions are listed", || {
        json("kak status --json")["sessions"]
            .as_array()
            .is_some_and(|all| all.len() == count)
    });
}

/// Starts a session that does not end by itself.
fn session() -> std::process::Child {
    Command::new("nssh")
        .args(["-c", "sleep 1000"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

sandboxed! {
    fn a_run_that_is_a_link_is_covered_in_the_jail_and_nowhere_else() {
        sh("rm /var/run; mv /run /var/run; mkdir -p /var/run/nscd /var/run/systemd/resolve");
        let _sockets = ["/var/run/nscd/socket", "/var/run/systemd/resolve/io.systemd.Resolve"].map(|path| std::os::unix::net::UnixListener::bind(path).unwrap());
        for target in ["/var/run", "var/run"] {
            sh(&format!("ln -sfn {target} /run"));
            let all = || dump() + &sh("find /var/run -name mount -prune -o -print | sort");
            let before = all();
            for way in ["kak setup", "kak setup --explain >/tmp/script; setsid sh -eu /tmp/script >/dev/null 2>&1 &"] {
                sh(way);
                until("it is complete", || run("kak status").status.code() == Some(0));
                assert_eq!(sh("nssh -c 'cd /run; ls netns kak nscd systemd/resolve'"), "kak:\nshell\n\nnetns:\n\nnscd:\n\nsystemd/resolve:\nresolv.conf\nstub-resolv.conf", "{target}");
                assert_eq!(sh("nssh -c 'cd /var/run; ls netns kak nscd systemd/resolve'"), "kak:\nshell\n\nnetns:\n\nnscd:\n\nsystemd/resolve:\nresolv.conf\nstub-resolv.conf", "{target}");
                // Outside, nothing is covered.
                assert_eq!(sh("ls /run/netns /run/kak; ls /run/nscd"), "/run/kak:\nUSER\n\n/run/netns:\nUSER\nsocket", "{target}");
                assert!(!sh("kak setup").lines().any(|line| line.starts_with('+')), "{target}");
                sh("kak netns add blue; kak netns exec blue true; kak netns delete blue");
                sh("kak teardown; rm -f /tmp/script");
                assert_same(target, &before, &all());
            }
        }
    }

    fn who_locks_what_init_has_open_is_not_taken_for_it() {
        sh("kak setup");
        let first = init("USER");
        let lock = sh("nssh -c 'for fd in /proc/1/fd/*; do case $(readlink $fd) in */lock) echo $fd;; esac; done'");
        let taker = r#"import fcntl, sys, time; f = open(sys.argv[1], "r+b"); fcntl.lockf(f, fcntl.LOCK_EX, 200, 50); print("has it", flush=True); time.sleep(60)"#;
        let mut taker = Command::new("nssh").args(["-c", "exec python3 -c \"$@\" >/var/taken", "sh", taker, &lock]).spawn().unwrap();
        until("it is locked", || sh("cat /var/taken 2>/dev/null || :") == "has it");
        assert_eq!(init("USER"), first);
        assert_eq!(sh("kak nssh -- -c 'cat /proc/1/comm'"), "kak-init");
        sh("kak status; kak teardown");
        taker.wait().unwrap();
    }

    fn it_has_a_process_table_of_its_own() {
        sh("sleep 1000 >/dev/null 2>&1 & kak setup");
        for kind in ["pid", "mnt", "net"] {
            let link = format!("readlink /proc/self/ns/{kind}");
            assert_ne!(inside(&link), sh(&link), "{kind}");
        }
        assert_eq!(sh(&format!("readlink /proc/{}/exe", init("USER"))), sh("readlink -f /bin/kak"));
        // /proc shows only the jail's processes, init first, and not those outside.
        let names = inside("cat /proc/[0-9]*/comm 2>/dev/null || true");
        assert!(!names.contains("sleep"), "{names}");
        assert_eq!(inside("cd /proc; echo [0-9]* | cut -d ' ' -f 1"), "1");
        let all: i64 = inside("echo /proc/[0-9]* | wc -w").parse().unwrap();
        assert!(all < 8, "{all} processes in an empty jail: {names}");
        assert_eq!(inside("cd /proc/self && cat comm"), "cat");
        assert_eq!(inside("findmnt -n -o FSTYPE,OPTIONS /proc"), "proc   rw,nosuid,nodev,noexec,relatime");
    }

    fn a_shell_is_never_pid_1() {
        sh("kak setup");
        assert_ne!(inside("echo $$"), "1");
        // So a signal reaches it.
        program(&["nssh", "-c", "kill -TERM $$; sleep 5"]).signal(15);
    }

    fn sysfs_is_of_its_network() {
        sh("kak setup");
        assert_eq!(inside("ls /sys/class/net"), "eth0\nlo");
        let options = inside("findmnt -n -o OPTIONS /sys | tail -n 1");
        for option in ["nosuid", "nodev", "noexec"] {
            assert!(options.contains(option), "{options}");
        }
    }

    fn sysfs_is_read_only_where_the_outer_one_is() {
        sh("mount -o remount,bind,ro /sys; kak setup");
        let options = inside("findmnt -n -o OPTIONS /sys | tail -n 1");
        assert!(options.split(',').any(|option| option == "ro"), "{options}");
    }

    fn what_is_mounted_below_proc_and_sys_is_carried_over() {
        sh("mount -t tmpfs -o ro,size=4k carried /sys/kernel/mm
            mount --bind /dev/null /proc/interrupts
            mount --bind /dev/null /proc/1/environ
            mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys
            mount -t tmpfs -o ro,size=4k masked /proc/irq");
        let list = "for dir in /proc /sys; do findmnt -rn -R -o TARGET,FSTYPE,OPTIONS $dir | sed 1d | grep -v ^/proc/1/ | sort; done";
        let outer = sh(list);
        assert!(outer.lines().count() >= 4, "{outer}");
        sh("kak setup");
        assert_eq!(inside(list), outer);
        assert_eq!(inside("ls -A /proc/irq; stat -c %t:%T /proc/interrupts"), "1:3");
        program(&["nssh", "-c", "echo x >/proc/sys/kernel/hostname"]).says("Read-only");
        assert_eq!(inside("ls /sys/fs/cgroup"), sh("ls /sys/fs/cgroup"));
    }

    fn a_merged_usr_stays_merged() {
        sh("kak setup");
        let links = "find / -maxdepth 1 -type l -printf '%p %l\\n' | sort";
        assert_eq!(inside(links), sh(links));
    }

    fn every_top_level_entry_is_there() {
        sh("mkdir '/a b' /.dot /empty; echo one >'/a b/one'; echo two >/file; echo three >'/new
line'");
        sh("kak setup");
        assert_eq!(inside("cat '/a b/one' /file '/new\nline'; ls -d /.dot /empty /.dockerenv"), "one\ntwo\nthree\n/.dockerenv\n/.dot\n/empty");
        assert_eq!(inside("ls -A / | sort"), sh("ls -A / | sort"));
    }

    fn volumes_and_dockers_files_are_there() {
        sh("mkdir /var/vol; mount -t tmpfs vol /var/vol; mkdir /var/vol/sub; mount -t tmpfs sub /var/vol/sub; echo deep >/var/vol/sub/file");
        sh("kak setup");
        assert_eq!(inside("cat /var/vol/sub/file"), "deep");
        for name in ["resolv.conf", "hosts", "hostname"] {
            assert_eq!(inside(&format!("cat /etc/{name}")), sh(&format!("cat /etc/{name}")), "{name}");
        }
    }

    fn its_tmp_opt_and_mnt_are_its_own() {
        sh("touch /tmp/outer /opt/outer /mnt/outer; kak setup");
        for (dir, mode) in [("/tmp", "1777 0 0"), ("/opt", "755 0 0"), ("/mnt", "755 0 0")] {
            assert_eq!(inside(&format!("stat -c '%a %u %g' {dir}; ls -A {dir}")), mode, "{dir}");
            inside(&format!("touch {dir}/inner"));
            assert_eq!(sh(&format!("ls -A {dir} | grep -c inner || true")), "0", "{dir}");
        }
    }

    fn the_control_plane_is_hidden() {
        sh("ip netns add other; kak setup; kak setup -n TWO");
        assert_eq!(inside("ls -A /run/netns"), "");
        assert_eq!(inside("ls -A /run/kak"), "shell");
        assert_eq!(inside("ls -A /mnt"), "");
        for dir in ["/run/netns", "/run/kak"] {
            program(&["nssh", "-c", &format!("touch {dir}/x")]).says("Read-only");
        }
        assert!(!inside("cat /proc/self/mountinfo").contains("/mnt/user /mnt/user"));
        assert_eq!(inside("grep -c nsfs /proc/self/mountinfo || true"), "0", "names of other networks");
    }

    fn devices_come_with_their_mounts() {
        sh("kak setup");
        assert_eq!(inside("stat -c %a /dev/shm; touch /dev/shm/x; test -c /dev/console; findmnt -n -o FSTYPE /dev/mqueue"), "1777\nmqueue");
        assert_eq!(inside("findmnt -rn -R -o TARGET,FSTYPE,OPTIONS /dev"), sh("findmnt -rn -R -o TARGET,FSTYPE,OPTIONS /dev"));
        // The terminal that a session inherits has its name inside, and new ones can be made.
        let tty = sh("script -qec 'tty; nssh -c tty' /dev/null </dev/null");
        let names: Vec<&str> = tty.lines().map(str::trim).collect();
        assert!(names.len() == 2 && names[0] == names[1] && names[0].starts_with("/dev/pts/"), "{tty}");
        assert!(inside("script -qec tty /dev/null </dev/null").starts_with("/dev/pts/"));
    }

    fn its_root_is_a_mount_and_the_end() {
        sh("touch /opt/outer; kak setup");
        assert_eq!(inside("findmnt -n -o TARGET /"), "/");
        inside("unshare -U true");
        assert_eq!(inside("nsenter -t 1 -m ls -A /opt"), "");
        let walk = "mkdir \"/tmp/hole\"; chroot \"/tmp/hole\" or die; chdir \"..\" for 1..40; chroot \".\" or die; print grep { -e } \"/opt/outer\", \"/etc/passwd\"";
        assert_eq!(inside(&format!("perl -e '{walk}'")), "/etc/passwd");
        assert_eq!(inside("ls -A /opt /proc/1/root/opt | tr -d '\\n'"), "/opt:/proc/1/root/opt:");
    }

    fn sixteen_first_shells_make_one_jail() {
        let sixteen: Vec<_> = (0..16)
            .map(|_| {
                Command::new("nssh").args(["-c", "readlink /proc/self/ns/pid"])
                    .stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let outputs: Vec<_> = sixteen.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        for output in &outputs {
            assert!(output.status.success(), "{output:?}");
            assert_eq!(output.stdout, outputs[0].stdout);
        }
        assert_eq!(sh("findmnt -rn -o TARGET -t nsfs"), "/run/netns/USER");
        let theirs = String::from_utf8_lossy(&outputs[0].stdout).trim().to_owned();
        assert_eq!(sh(&format!("readlink /proc/{}/ns/pid", init("USER"))), theirs);
        // There is exactly one PID namespace besides the machine's.
        let mine = sh("readlink /proc/self/ns/pid");
        let strangers = sh("for p in /proc/[0-9]*; do readlink $p/ns/pid || true; done | sort -u");
        assert_eq!(strangers.lines().filter(|ns| *ns != mine).collect::<Vec<_>>(), [theirs.as_str()]);
    }

    fn who_stays_has_nothing_of_its_callers_words() {
        sh("echo nameserver 127.0.0.53 >/etc/resolv.conf; mkdir -p /etc/netns/blue; touch /etc/motd /etc/netns/blue/motd; kak netns add blue");
        // A long command line, one with little room for a name, and that of a guard, which stays with a command.
        sh("SECRET=hunter2 nssh -c ': hunter2'");
        let stays = |name: &str| {
            let pid = processes().into_iter().find_map(|(pid, who)| (who == name).then_some(pid)).unwrap();
            let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
            // A name that is longer than the command line was goes on in the environment's memory.
            let environ = String::from_utf8(read("environ")).unwrap();
            assert!(!environ.contains('='), "{name}: {environ}");
            String::from_utf8(read("cmdline")).unwrap().trim_end_matches('\0').to_owned()
        };
        for name in ["kak-keeper", "kak-init", "kak-dns"] {
            assert_eq!(stays(name), format!("{name} USER"));
        }
        assert_eq!(inside("tr -d '\\0' </proc/1/cmdline"), "kak-init USER");
        sh("kak teardown; until ! pgrep kak-; do sleep 0.01; done; SECRET=hunter2 nssh </dev/null");
        assert_eq!((stays("kak-keeper").as_str(), stays("kak-dns").as_str()), ("kak-keeper USER", "kak-dns USER"));
        sh("kak teardown");
        let mut child = Command::new("kak").args(["netns", "exec", "blue", "sleep", "1000"]).env("SECRET", "hunter2").spawn().unwrap();
        until("the guard is there", || processes().values().any(|name| name == "kak-netns"));
        until("it has its own name", || stays("kak-netns") == "kak-netns");
        child.kill().unwrap();
        child.wait().unwrap();
        sh("kak netns delete blue");
    }

    fn no_session_can_hold_up_its_end() {
        for signal in ["STOP", "KILL"] {
            sh("kak setup");
            let pid = init("USER");
            let mut nssh = session();
            sessions(1);
            sh(&format!("kill -{signal} {}", nssh.id()));
            sh(&format!("kill -KILL {pid}"));
            until("init is gone", || !alive(pid));
            until("its mounts and namespaces are gone", || run("kak status").status.code() == Some(3));
            nssh.kill().unwrap();
            nssh.wait().unwrap();
            sh("kak teardown");
        }
    }

    fn a_killed_nssh_takes_its_session_along() {
        sh("kak setup");
        let mut nssh = session();
        sessions(1);
        nssh.kill().unwrap();
        nssh.wait().unwrap();
        sessions(0);
        assert!(!inside("cat /proc/[0-9]*/comm").contains("sleep"));
    }

    fn out_here_is_only_the_mount_of_the_namespace() {
        uplink::plug();
        let before = mounts("/proc/self/mountinfo");
        sh("kak setup");
        let _session = session();
        sessions(1);
        let mut after = mounts("/proc/self/mountinfo");
        after.retain(|line| !before.contains(line));
        // /run/netns is a shared mount as well, as `ip netns add` makes it, so that all mount namespaces see the same
        // names.
        after.retain(|line| !line.starts_with("/run/netns /run/netns "));
        assert!(after.len() == 1 && after[0].contains(" /run/netns/USER ") && after[0].contains(" nsfs "), "{after:?}");
    }

    fn shared_mounts_out_here_survive() {
        sh("mkdir /var/vol; mount -t tmpfs vol /var/vol; mkdir /var/vol/sub; mount -t tmpfs sub /var/vol/sub
            mount --make-rshared /");
        let before = mounts("/proc/self/mountinfo");
        sh("kak setup");
        inside("umount -R /var/vol; mount -t tmpfs mine /etc");
        let mut after = mounts("/proc/self/mountinfo");
        after.retain(|line| !line.contains(" /run/netns"));
        assert_same("mounts out here", &before.join("\n"), &after.join("\n"));
        sh("kak teardown");
        assert_eq!(before, mounts("/proc/self/mountinfo"));
    }

    fn a_session_has_no_descriptor_too_many() {
        sh("kak setup");
        let list = "ls /proc/self/fd | tr '\\n' ' '";
        assert_eq!(sh(&format!("exec 3</ 9</opt 8</dev/null; nssh -c \"{list}\"")), "0 1 2 3");
        // init and keeper have no terminal, pipe or directory of the caller open.
        for pid in [init("USER").to_string(), process_field(init("USER"), "PPid").unwrap()] {
            assert_eq!(sh(&format!("cd /proc/{pid}/fd; stat -L -c %t:%T 0 1")), "1:3\n1:3", "not /dev/null");
            let kinds = sh(&format!("cd /proc/{pid}/fd; for fd in *; do stat -L -c %F $fd; done"));
            assert!(!kinds.contains("directory") && !kinds.contains("fifo"), "{kinds}");

            assert_eq!(sh(&format!("cut -d ' ' -f 7 /proc/{pid}/stat")), "0", "a controlling terminal");
        }
    }

    fn a_directory_on_standard_input_is_no_way_out() {
        sh("touch /opt/outer; kak setup");
        let ended = run("nssh -c 'cd /proc/self/fd/0 && ls; ls /proc/self/fd/0/' </opt");
        assert!(!ended.text().contains("outer"), "{ended}");
    }

    fn nssh_inside_is_the_real_shell() {
        sh("kak setup");
        assert_eq!(inside("nssh -c 'readlink /proc/self/ns/pid'"), inside("readlink /proc/self/ns/pid"));
        assert_eq!(inside("/bin/nssh -c 'readlink /proc/$$/exe; true'"), sh("readlink -f /bin/bash"));
        assert_eq!(inside("nssh -c 'exit 7' || echo $?"), "7");
        assert_eq!(inside("exec -a -nssh nssh -c 'shopt -q login_shell && echo $0'"), "-bash");
        assert_eq!(inside("nssh -c 'nssh -c \"nssh -c \\\"echo deep\\\"\"'"), "deep");
        for (words, code) in [("setup", 1), ("setup --dry-run", 1), ("teardown", 1), ("status", 1), ("status --all", 1), ("kill --all", 1), ("nssh -n other", 125)] {
            let ended = program(&["nssh", "-c", &format!("kak {words}")]).code(code).says("this is the inside of a jail; ").says(" only from outside");
            assert!(ended.stdout.is_empty(), "{ended}");
        }
        assert_eq!(inside("kak nssh -- -c 'echo here'"), "here");
        assert_eq!(inside("unshare --user nssh -c 'id -u'"), "65534");
    }

    fn its_shell_variable_names_the_real_shell() {
        sh("kak setup");
        assert_eq!(inside("echo $SHELL"), "/bin/bash");
        assert_eq!(sh("SHELL=/bin/nssh nssh -c 'echo $SHELL'"), "/bin/bash");
        sh("kak teardown; kak setup --shell /bin/sh");
        assert_eq!(inside("echo $SHELL; readlink /proc/$$/exe; true"), sh("echo /bin/sh; readlink -f /bin/sh"));
    }

    fn resolv_conf_is_the_jails_in_every_state() {
        sh("umount /etc/resolv.conf; mkdir /run/resolver");
        for state in [
            "echo nameserver 192.0.2.1 >/etc/resolv.conf",
            "echo nameserver 192.0.2.1 >/run/resolver/conf; ln -sf ../run/resolver/conf /etc/resolv.conf",
            "ln -sf ../run/resolver/missing /etc/resolv.conf",
            "rm -f /etc/resolv.conf",
        ] {
            sh(state);
            let before = dump();
            sh("kak setup --dns 192.0.2.53");
            assert_eq!(inside("cat /etc/resolv.conf"), "nameserver 192.0.2.53", "{state}");
            sh("kak teardown");
            assert_same(state, &before, &dump());
        }
    }

    fn whoever_renames_meanwhile_holds_up_no_setup() {
        sh("umount /etc/resolv.conf; mkdir /run/resolver; echo nameserver 192.0.2.1 >/run/resolver/conf; ln -sf ../run/resolver/conf /etc/resolv.conf");
        let rename = "import os, sys; a, b = sys.argv[1:]; open(a, 'w')\nwhile True: os.rename(a, b); os.rename(b, a)";
        let mut both = ["/tmp/a", "/tmp/b"].map(|name| {
            let other = format!("{name}2");
            Command::new("python3").args(["-c", rename, name, &other]).spawn().unwrap()
        });
        for n in 0..40 {
            run("kak setup").code(0);
            sh(&format!("kak teardown # {n}"));
        }
        for one in &mut both {
            one.kill().unwrap();
            one.wait().unwrap();
        }
    }

    fn resolv_conf_stays_the_jails_when_the_outer_one_is_replaced() {
        sh("umount /etc/resolv.conf; echo nameserver 192.0.2.1 >/etc/resolv.conf; kak setup --dns 192.0.2.53");
        for n in 0..20 {
            sh(&format!("echo nameserver 192.0.2.{n} >/etc/new; mv /etc/new /etc/resolv.conf"));
            until("the jail has its own again", || inside("cat /etc/resolv.conf") == "nameserver 192.0.2.53");
            assert_eq!(sh("cat /etc/resolv.conf"), format!("nameserver 192.0.2.{n}"));
        }
        sh("kak status; nssh -c 'mount -t tmpfs x /mnt; umount /mnt'; kak teardown");
    }

    fn what_is_bound_by_a_link_is_seen_where_that_leads() {
        sh("echo one >/var/one; kak setup --bind /var/one:/bin/true; kak status; kak setup");
        assert_eq!(sh("readlink /bin; nssh -c 'cat /usr/bin/true; grep -c /bin/true /proc/self/mountinfo'"), "usr/bin\none\n1");
        sh("kak teardown");
    }

    fn more_can_be_hidden_and_bound() {
        sh("mkdir /srv /data; echo one >/srv/one; echo two >/data/two; echo three >/var/three
            kak setup --hide srv --bind /data:/opt/data:ro --bind /var/three:/opt/file --bind /data:/srv/rw");
        assert_eq!(inside("ls /srv"), "rw");
        assert_eq!(inside("cat /opt/data/two /opt/file"), "two\nthree");
        program(&["nssh", "-c", "touch /opt/data/x"]).says("Read-only");
        inside("touch /srv/rw/x");
        sh("test -f /data/x");
    }

    fn orphans_are_reaped() {
        sh("kak setup");
        let _session = session();
        sessions(1);
        inside("(sleep 0.05 &) ; (true &)");
        until("no zombie", || inside("grep -l '^State:.Z' /proc/[0-9]*/status | wc -l") == "0");
        until("no zombie out here", || sh("grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l") == "0");
    }
}
