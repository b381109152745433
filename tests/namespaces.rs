//! More namespaces of a jail's own: `--unshare uts,ipc,cgroup,time` and `--hostname`.

use std::process::Command;

use crate::sandbox::*;

/// Every kind of namespace, those of `--unshare` first.
const KINDS: [&str; 8] = ["uts", "ipc", "cgroup", "time", "pid", "mnt", "net", "user"];

/// A script that reads the links of all kinds.
const LINKS: &str =
    "for kind in uts ipc cgroup time pid mnt net user; do readlink /proc/self/ns/$kind; done";

/// Runs a script in the jail's shell; what it prints.
#[track_caller]
fn inside(script: &str) -> String {
    program(&["nssh", "-c", script])
        .code(0)
        .text()
        .trim()
        .to_owned()
}

/// The seconds since boot, from the text of /proc/uptime.
fn seconds(uptime: &str) -> i64 {
    uptime.split('.').next().unwrap().parse().unwrap()
}

/// Asserts that of the kinds of `--unshare` the jail has only these of its own, and that init and every session are in
/// the same namespaces.
#[track_caller]
fn assert_own(words: &[&str]) {
    let (here, there) = (sh(LINKS), inside(LINKS));
    for (kind, (here, there)) in KINDS.iter().zip(here.lines().zip(there.lines())) {
        let own = words.contains(kind) || ["pid", "mnt", "net"].contains(kind);
        assert_eq!(here != there, own, "{kind} of {words:?}");
    }
    assert_eq!(inside(LINKS), there, "another session");
    assert_eq!(inside(&LINKS.replace("self", "1")), there, "init");
    assert_eq!(
        sh(&LINKS.replace("self", &init("USER").to_string())),
        there,
        "init, from here"
    );
    assert_eq!(
        sh("kak nssh -- -c 'sh -c \"exec readlink /proc/\\$\\$/ns/uts\"'"),
        there.lines().next().unwrap()
    );
}

/// Runs the script that `kak setup --explain` prints with these options, and waits until `kak status` says complete.
#[track_caller]
fn by_script(options: &str) {
    sh(&format!("kak setup --explain {options} >/tmp/script"));
    Command::new("setsid")
        .args(["sh", "-eu", "/tmp/script"])
        .spawn()
        .unwrap();
    until("kak calls it complete", || {
        run("kak status").status.code() == Some(0)
    });
    sh("rm /tmp/script");
}

sandboxed! {
    fn each_is_its_own_and_every_sessions() {
        uplink::plug();
        let before = dump();
        for words in [&["uts"][..], &["ipc"], &["cgroup"], &["time"], &["uts", "ipc", "cgroup", "time"], &[]] {
            let options: String = words.iter().map(|word| format!("--unshare {word} ")).collect();
            sh(&format!("kak setup {options}; kak status"));
            assert_own(words);
            assert_eq!(inside(&format!("cat </dev/tcp/{}/{}", uplink::THEIRS, uplink::PORT)), uplink::OURS);
            sh("kak teardown");
            assert_same(&options, &before, &dump());
        }
        // As one list, too, and in the first session of `kak setup -- CMD`.
        let links = sh(&format!("kak setup --unshare ipc,time,pid -- sh -c '{LINKS}'"));
        let differ: Vec<&str> = KINDS.into_iter().zip(links.lines().zip(sh(LINKS).lines())).filter(|(_, (there, here))| there != here).map(|(kind, _)| kind).collect();
        assert_eq!(differ, ["ipc", "time", "pid", "mnt", "net"]);
        assert_same("attached", &before, &dump());
    }

    fn a_kernel_that_takes_no_pidfd_joins_them_all() {
        sh("kak setup --unshare uts,ipc,cgroup,time");
        let there = inside(LINKS);
        let traced = sh(&format!("strace -f -qq -o /tmp/trace -e trace=setns -e inject=setns:error=EINVAL:when=1..2 nssh -c '{LINKS}'"));
        assert_eq!(traced, there);
        assert_eq!(sh("grep -c INJECTED /tmp/trace; grep -c setns /tmp/trace"), "2\n9");
    }

    fn who_may_not_join_what_is_his_anyway_joins_the_rest() {
        sh("kak setup --unshare ipc");
        let there = inside(LINKS);
        for why in ["EPERM", "EINVAL"] {
            let traced = sh(&format!("strace -f -qq -o /tmp/trace -e trace=setns -e inject=setns:error={why}:when=1 nssh -c '{LINKS}'"));
            assert_eq!(traced, there, "{why}");
            let tried = sh("sed -n 's/.*setns(\\([0-9]*\\), /setns(/p' /tmp/trace");
            let lines: Vec<&str> = tried.lines().collect();
            assert!(lines.len() == 2 && lines[0].starts_with("setns("), "{tried}");
            for kind in ["NEWNS", "NEWCGROUP", "NEWUTS", "NEWIPC", "NEWPID", "NEWNET"] {
                assert!(lines[0].contains(kind), "{kind}: {tried}");
            }
            assert_eq!(lines[1], "setns(CLONE_NEWNS|CLONE_NEWIPC|CLONE_NEWPID|CLONE_NEWNET) = 0", "{tried}");
        }
    }

    fn setup_twice_changes_nothing() {
        let first = sh("kak setup --unshare uts,ipc,cgroup,time --hostname inside");
        for line in ["+ unshare --uts", "+ unshare --ipc", "+ unshare --cgroup", "+ hostname inside"] {
            assert!(first.lines().any(|other| other == line), "no {line} in {first}");
        }
        let (once, pid, links) = (dump(), init("USER"), inside(LINKS));
        for again in ["kak setup", "kak setup --hostname inside --unshare time,cgroup --unshare ipc"] {
            let second = sh(again);
            assert!(second.lines().all(|line| line.starts_with("= ")), "{second}");
            assert_eq!(first.lines().count(), second.lines().count());
        }
        assert_eq!((init("USER"), inside(LINKS)), (pid, links));
        assert_same("a second setup", &once, &dump());
        for (options, how) in [("--unshare uts", "--unshare uts is not among them"), ("--unshare uts,ipc,cgroup,time", "--hostname inside is among them")] {
            for mode in ["", "--dry-run", "--explain"] {
                let ended = run(&format!("kak setup {options} {mode}")).code(1).says("it is up with other options: ").says(how);
                assert!(ended.stdout.is_empty(), "{ended}");
            }
        }
        assert_eq!(sh("kak setup --dry-run"), first.replace("+ ", "= "));
        // The jail comes up again with the same options.
        sh(&format!("kill -KILL {pid}"));
        until("init is gone", || !alive(pid));
        assert_eq!(inside("hostname"), "inside");
        assert_own(&["uts", "ipc", "cgroup", "time"]);
    }

    fn the_script_does_the_same() {
        uplink::plug();
        let options = "--unshare ipc,cgroup,time --hostname inside.example";
        let before = dump();
        let seen = || inside("hostname; findmnt -rn -o TARGET,FSTYPE,SOURCE,OPTIONS | grep -v nsfs | sort; cat /proc/self/cgroup; sed s/[0-9.]*//g /proc/uptime; cat /proc/self/timens_offsets | grep -c -- -");
        sh(&format!("kak setup {options}"));
        let (by_kak, status) = (seen(), sh("kak status | grep -v init"));
        sh("kak teardown");
        by_script(options);
        assert_own(&["uts", "ipc", "cgroup", "time"]);
        assert_same("kak's jail and sh's", &by_kak, &seen());
        assert_eq!(sh("kak status | grep -v init"), status);
        let again = sh("kak setup");
        assert!(again.lines().all(|line| line.starts_with("= ")), "{again}");
        sh("kak teardown");
        assert_same("sh made it, kak took it away", &before, &dump());
    }

    fn the_host_name_is_the_jails() {
        let before = sh("hostname");
        sh("kak setup --hostname web-1.example.org");
        assert_own(&["uts"]);
        assert_eq!(inside("hostname; uname -n; cat /proc/sys/kernel/hostname"), "web-1.example.org\n".repeat(3).trim());
        assert_eq!(sh("hostname"), before);
        assert_eq!(sh("HOSTNAME=container nssh -c 'echo $HOSTNAME'"), "web-1.example.org");
        assert_eq!(sh("env -u HOSTNAME nssh -c 'sh -c \"echo =\\$HOSTNAME\"'"), "=");
        // A change inside is reported by status, and does not reach the machine.
        inside("hostname other");
        assert_eq!(sh("hostname"), before);
        let status = program(&["kak", "status"]).code(3).text();
        assert!(status.contains("--  hostname web-1.example.org"), "{status}");
        program(&["kak", "setup"]).code(1).says("hostname web-1.example.org").says("is missing in the jail");
        // Without --hostname the jail begins with the outer name.
        sh("kak teardown; kak setup --unshare uts");
        assert_eq!(inside("hostname"), before);
        inside("hostname other");
        assert_eq!((inside("hostname"), sh("hostname")), ("other".into(), before));
        sh("kak status");
    }

    fn queues_and_shared_memory_are_the_jails() {
        sh("ipcmk -Q >/dev/null; ipcmk -M 4096 >/dev/null; ipcmk -S 1 >/dev/null; touch /dev/mqueue/outer /dev/shm/outer");
        let list = "ipcs | grep -c ^0x || true; ls -A /dev/mqueue /dev/shm";
        sh("kak setup --unshare ipc");
        let outer = "3\n/dev/mqueue:\nouter\n\n/dev/shm:\nouter";
        assert_eq!(inside(list), "0\n/dev/mqueue:\n\n/dev/shm:");
        assert_eq!(sh(list), outer);
        inside("ipcmk -Q >/dev/null; touch /dev/mqueue/inner /dev/shm/inner");
        assert_eq!(inside(list), "1\n/dev/mqueue:\ninner\n\n/dev/shm:\ninner");
        assert_eq!(sh(list), outer);
        // The mount options and modes are those of the outer ones.
        let options = "findmnt -rn -o TARGET,FSTYPE,OPTIONS /dev/shm | tail -n 1; findmnt -rn -o TARGET,FSTYPE,OPTIONS /dev/mqueue | tail -n 1; stat -c %a /dev/shm /dev/mqueue";
        assert_eq!(inside(options), sh(options));
        sh("kak teardown; kak setup");
        assert_eq!(inside(list), outer);
        // What is not mounted outside is not mounted inside.
        sh("kak teardown; umount /dev/mqueue /dev/shm; kak setup --unshare ipc");
        assert_eq!(inside("findmnt -rn /dev/mqueue; findmnt -rn /dev/shm; ipcs -q | grep -c ^0x || true"), "0");
        sh("kak status");
    }

    fn the_shared_memory_has_the_outer_ones_limits() {
        sh("umount /dev/shm; mount -t tmpfs -o size=1m,nosuid,nodev,noexec shm /dev/shm; mount -o remount,ro,bind /dev/mqueue; kak setup --unshare ipc");
        let options = "findmnt -rn -o OPTIONS /dev/shm | tail -n 1";
        assert_eq!(inside(options), sh(options));
        assert!(inside(options).contains("size=1024k"));
        program(&["nssh", "-c", "head -c 2097152 /dev/zero >/dev/shm/x"]).says("No space");
        program(&["nssh", "-c", "touch /dev/mqueue/x"]).says("Read-only");
    }

    fn its_control_group_is_the_top() {
        // Each control group mount: the root within its tree, and the mount point.
        let mounts = "grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d ' ' -f 4,5";
        let outer = sh(mounts);
        assert!(!outer.is_empty(), "no control groups here");
        let ours = sh("cat /proc/self/cgroup");
        sh("kak setup --unshare cgroup");
        for line in inside("cat /proc/self/cgroup").lines() {
            assert!(line.ends_with(":/"), "{line}");
        }
        let mut compared = 0;
        for line in outer.lines() {
            let (_, point) = line.split_once(' ').unwrap();
            let seen = inside(&format!("grep ' {point} ' /proc/self/mountinfo | tail -n 1"));
            assert!(seen.split(' ').nth(3) == Some("/") && seen.contains(" kak "), "{seen}");
            // It is the directory of this process's own group.
            let tree = seen.rsplit(',').next().unwrap();
            let part = ours.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':').unwrap().1.split_once(':').unwrap();
                let wanted = if seen.contains(" - cgroup2 ") { "" } else { tree };
                controllers.split(',').any(|word| word == wanted).then_some(path)
            });
            let part = part.unwrap_or_else(|| panic!("{tree} in {ours}"));
            if std::path::Path::new(&format!("{point}{part}")).exists() {
                compared += 1;
                assert_eq!(inside(&format!("stat -c %i {point}")), sh(&format!("stat -c %i {point}{part}")), "{point}{part}");
            }
        }
        assert!(compared > 0, "no group of this process's own is mounted: {ours}");
        // Outside nothing has changed.
        assert_eq!((sh(mounts), sh("cat /proc/self/cgroup")), (outer, ours));
        sh("kak status; kak teardown; kak setup");
        assert_eq!(inside("cat /proc/self/cgroup"), sh("cat /proc/self/cgroup"));
    }

    fn its_control_group_is_the_top_where_there_is_one_tree_only() {
        // Only cgroup v2, as on most machines today; the old mounts are hidden below.
        sh("unshare --cgroup mount -t cgroup2 -o nosuid,nodev,noexec one /sys/fs/cgroup; kak setup --unshare cgroup; kak status");
        let seen = "findmnt -rn -o FSTYPE,OPTIONS /sys/fs/cgroup | tail -n 1; ls -d /sys/fs/cgroup/*.procs";
        assert_eq!(inside(seen), sh(seen));
        let mount = inside("grep ' /sys/fs/cgroup ' /proc/self/mountinfo | tail -n 1");
        assert!(mount.split(' ').nth(3) == Some("/") && mount.contains(" cgroup2 kak "), "{mount}");
        sh("kak teardown");
        // Read-only outside, read-only inside.
        sh("mount -o remount,bind,ro /sys/fs/cgroup; kak setup --unshare cgroup");
        program(&["nssh", "-c", "mkdir /sys/fs/cgroup/x"]).says("Read-only");
        assert_eq!(inside(seen), sh(seen));
    }

    fn a_mask_on_a_control_group_stays() {
        let first = sh("find /sys/fs/cgroup -name cgroup.procs | head -n 1");
        sh(&format!("mount --bind /dev/null {first}; kak setup --unshare cgroup"));
        assert_eq!(inside(&format!("stat -c %t:%T {first}")), "1:3");
    }

    fn it_has_been_up_since_setup() {
        let uptime = || seconds(&sh("cat /proc/uptime"));
        let start = uptime();
        sh("kak setup --unshare time");
        let up = seconds(&inside("cat /proc/uptime"));
        assert!(up <= uptime() - start + 1, "up for {up} s");
        // CLOCK_MONOTONIC, by which programs inside and outside exchange times, is the same.
        assert_eq!(inside("grep monotonic /proc/self/timens_offsets | tr -s ' '"), "monotonic 0 0");
        // A process's start time is relative to that.
        let started: i64 = inside("cut -d ' ' -f 22 /proc/self/stat").parse().unwrap();
        assert!(started / 100 <= uptime() - start + 1, "started after {started} ticks");
        let mut session = Command::new("nssh").args(["-c", "read line"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let sessions = || json("kak status --json")["sessions"].as_array().unwrap().clone();
        until("it is listed", || sessions().len() == 1);
        assert!(sessions()[0]["seconds"].as_i64().unwrap() <= uptime() - start);
        session.kill().unwrap();
        session.wait().unwrap();
        // Also if setup itself runs in another time namespace.
        for how in ["kak setup --unshare time", "setsid sh -eu /tmp/script"] {
            sh("kak teardown; kak setup --unshare time --explain >/tmp/script");
            let start = uptime();
            Command::new("sh").args(["-c", &format!("unshare --time --boottime=1000000 --fork {how} >/tmp/said 2>&1")]).spawn().unwrap();
            until("it is up", || run("kak status").status.code() == Some(0));
            let up = seconds(&inside("cat /proc/uptime"));
            assert!(up <= uptime() - start + 1, "{how}: up for {up} s");
        }
    }

    fn wrong_words_are_named_with_the_right_ones() {
        let before = dump();
        for word in ["user", "", "uts,", "uts ipc", "UTS", "nonsense"] {
            program(&["kak", "setup", "--unshare", word]).code(2).says("--unshare").says("uts, ipc, cgroup, time");
        }
        for name in ["", "-x", "x-", "a..b", "a_b", "a b", "x/y", &"x".repeat(65)] {
            program(&["kak", "setup", &format!("--hostname={name}")]).code(2).says("--hostname");
        }
        program(&["kak", "setup", "--unshare"]).code(2).says("--unshare");
        program(&["kak", "setup", "--hostname"]).code(2).says("--hostname");
        program(&["kak", "netns", "add", "x", "--uplink", "--unshare", "uts"]).code(255);
        assert_same("wrong words", &before, &dump());
    }

    fn a_kernel_without_them_is_named() {
        for kind in ["uts", "ipc", "cgroup", "time"] {
            let before = dump();
            // Every system call on this file fails with ENOENT.
            let ended = run(&format!(
                "strace -f -qq -o /var/trace -P /proc/self/ns/{kind} -e inject=file:error=ENOENT kak setup --unshare uts,ipc,cgroup,time"
            ));
            let ended = ended.code(1).says(&format!("--unshare {kind}: this kernel has no {kind} namespaces"));
            assert_eq!((ended.text().as_str(), ended.stderr.lines().count()), ("", 2), "{ended}");
            assert_same("nothing was made", &before, &dump());
        }
        assert!(processes().is_empty());
    }
}
