//! What root in a jail reaches of the outside: through the processes that it sees there, by `probe/reach.py`, and
//! through what a session has from its caller (directories, descriptors, namespaces). A control shows that the probe
//! does find the outside where it is within reach.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use crate::sandbox::*;

/// The probe, which looks through all processes that it sees.
pub const REACH: &str = include_str!("probe/reach.py");

/// A thing that the probe got from a process: a line of its output.
#[derive(Debug)]
pub struct Got {
    /// The process's name.
    pub who: String,
    /// The way: the entry in /proc, or the system call.
    pub what: String,
    /// The file's device and inode.
    pub file: String,
    /// Its type, as in a mode.
    pub kind: String,
    /// Its size.
    pub size: String,
    /// Its name, or the names in it.
    pub name: String,
}

/// Parses the output of the probe.
pub fn got(text: &str) -> Vec<Got> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            let mut word = || words.next();
            Some(Got {
                who: word()?,
                what: word()?,
                file: word()?,
                kind: word()?,
                size: word()?,
                name: word().unwrap_or_default(),
            })
        })
        .collect()
}

/// Device and inode of each of these files, as the probe writes them.
pub fn numbers(paths: &str) -> BTreeSet<String> {
    sh(&format!("stat -L -c %d:%i {paths}"))
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Places that must not be reached from inside: the outer root, what is hidden, kak's own state, and the namespaces.
const OUTER: &str = "/ /opt /tmp /mnt /run/kak /run/kak/USER /run/kak/USER/record /run/netns /run/netns/USER.outer \
    /proc/self/ns/mnt /proc/self/ns/net /proc/self/ns/pid";

/// Puts entries named `outer` into the outer directories, and a name into /run/netns, to be recognized inside.
fn mark() {
    sh(
        "touch /opt/outer /tmp/outer /mnt/outer; mkdir -p /opt/only/outside; ip netns add USER.outer",
    );
}

/// Asserts that init was seen, and that none of these things is of the outside.
#[track_caller]
pub fn nothing_outer(all: &[Got], outer: &BTreeSet<String>) {
    assert!(
        all.iter()
            .any(|got| got.who.starts_with("kak-init/") && got.what == "seen"),
        "{all:?}"
    );
    for got in all {
        assert!(!outer.contains(&got.file), "{got:?}");
        assert!(!got.name.split(',').any(|name| name == "outer"), "{got:?}");
    }
}

/// Asserts that kak's own processes have nothing open that is of use to others.
#[track_caller]
pub fn only_of_no_use(all: &[Got]) {
    let mine = ["kak-init/", "kak-session/"];
    let open = |what: &str| {
        what.starts_with("fd/") || what.starts_with("getfd/") || what.starts_with("task/")
    };
    for got in all
        .iter()
        .filter(|got| mine.iter().any(|name| got.who.starts_with(name)) && open(&got.what))
    {
        let name = got.name.trim_start_matches("anon_inode:");
        // The lock is an empty file; the pipes lead only to the session's own nssh.
        let known = name == "/dev/null" && got.kind == "20000"
            || ["[signalfd]", "inotify"].contains(&name)
            || name.starts_with("/proc/") && name.ends_with("/mountinfo")
            || name.contains("lock")
                && got.kind == "100000"
                && got.size == "0"
                && got.who.starts_with("kak-init/")
            || name.starts_with("pipe:") && got.who.starts_with("kak-session/");
        assert!(known, "{got:?}");
    }
}

/// Starts a session that stays, from a directory that exists only outside, with outer directories open.
fn stay(options: &str) -> Child {
    let script = format!(
        "cd /opt/only/outside; exec 7</ 8</opt 9</run/netns; exec kak nssh {options} -- -c 'exec sleep 1000'"
    );
    Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs the probe in the jail.
fn look() -> Vec<Got> {
    std::fs::write("/var/reach.py", REACH).unwrap();
    got(&sh("nssh -c 'python3 /var/reach.py'"))
}

sandboxed! {
    fn no_process_in_a_jail_leads_out() {
        mark();
        sh("kak setup");
        let outer = numbers(OUTER);
        assert_eq!(outer.len(), 12);
        let mut sessions: Vec<Child> = ["", "--pty"].map(stay).into();
        until("two sessions", || json("kak status --json")["sessions"].as_array().is_some_and(|all| all.len() == 2));
        let all = look();
        nothing_outer(&all, &outer);
        only_of_no_use(&all);
        // Init, the monitors and the shells were all seen, each with something of it.
        for name in ["kak-init/1", "kak-session/", "sleep/"] {
            for what in ["root", "cwd", "ns/mnt", "ns/net", "fd/"] {
                assert!(all.iter().any(|got| got.who.starts_with(name) && got.what.starts_with(what)), "{name} {what}: {all:?}");
            }
        }
        // A control: outside, the same probe finds what is outside.
        let outside = got(&sh("cd /opt/only/outside; exec 7</; python3 /var/reach.py"));
        assert!(outside.iter().any(|got| outer.contains(&got.file) && got.what == "root"));
        assert!(outside.iter().any(|got| got.who.starts_with("me/") && got.what == "fd/7" && outer.contains(&got.file)));
        for child in &mut sessions {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn nor_does_one_that_a_setup_has_brought() {
        mark();
        let outer: BTreeSet<String> = numbers("/ /opt /tmp /mnt /run/netns /run/netns/USER.outer /proc/self/ns/mnt /proc/self/ns/net /proc/self/ns/pid");
        std::fs::write("/var/reach.py", REACH).unwrap();
        let all = got(&sh("cd /opt/only/outside; exec 7</ 8</opt; kak setup -- python3 /var/reach.py"));
        nothing_outer(&all, &outer);
        only_of_no_use(&all);
    }

    fn what_the_caller_has_open_stays_outside() {
        mark();
        sh("kak setup; ln -s /proc/self/fd/7 /var/seven");
        let outer = numbers("/ /opt /opt/only /opt/only/outside");
        // A home directory by the path of a file descriptor (CVE-2024-21626), directly or through a link.
        for n in 0..12 {
            for home in [format!("/proc/self/fd/{n}"), format!("/proc/thread-self/fd/{n}/.."), format!("/proc/1/fd/{n}"), "/var/seven".into()] {
                let said = sh(&format!(
                    "cd /opt/only/outside; exec 3</ 4</ 5</ 6</ 7</ 8</ 9</; HOME={home} nssh -c '/bin/pwd; stat -c %d:%i . ..; ls -A . ..' 2>/dev/null"
                ));
                assert!(said.starts_with("/\n") && !said.contains("outer") && !said.lines().any(|line| outer.contains(line)), "{home}: {said}");
            }
        }
        // A directory as a standard descriptor.
        for way in ["</", "</opt", "1</", "2</"] {
            let ended = run(&format!("exec 9>/var/said; nssh -c 'for fd in 0 1 2; do stat -L -c %d:%i /proc/self/fd/$fd/. /proc/self/fd/$fd/..; done >/var/said 2>/dev/null; true' {way}"));
            assert_eq!(ended.status.code(), Some(0), "{ended}");
            let said = sh("cat /var/said");
            assert!(!said.lines().any(|line| outer.contains(line)), "{way}: {said}");
        }
    }

    fn links_in_the_place_of_the_roots_own_directories_are_refused() {
        sh("mkdir -p -m 700 /var/victim/tmp; mkdir /mnt/user");
        let before = dump();
        let about = "stat -c '%a %u %n' /var/victim /var/victim/tmp; ls -A /var/victim /var/victim/tmp";
        let victim = sh(about);
        for name in ["proc", "sys", "dev", "etc", "run", "usr", "tmp", "opt", "mnt", "var"] {
            for target in ["/var/victim", "../../var/victim", "/proc/self/cwd", "/dev/console"] {
                sh(&format!("ln -s {target} /mnt/user/{name}"));
                program(&["kak", "setup"]).code(1).says(&format!("/mnt/user/{name}"));
                assert_eq!(sh(about), victim, "{name} {target}");
                sh(&format!("rm /mnt/user/{name}"));
                assert_same(name, &before, &dump());
            }
        }
        sh("kak setup; nssh -c true; kak teardown");
    }
}
