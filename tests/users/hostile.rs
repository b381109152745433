//! State of jails, and names of networks, that another user has made or could have written: root's own commands trust
//! it as little as a set-user-ID nssh does. They follow, write and remove nothing.

use crate::people::*;
use crate::sandbox::*;

/// What is done to a jail's state, how that is undone, and which path the error must name.
const STATE: &[(&str, &str, &str)] = &[
    ("chown 1001 /run/kak", "chown 0 /run/kak", "/run/kak"),
    ("chmod 770 /run/kak", "chmod 700 /run/kak", "/run/kak"),
    ("chmod 1777 /run/kak", "chmod 700 /run/kak", "/run/kak"),
    (
        "mv /run/kak /run/real; ln -s real /run/kak",
        "rm /run/kak; mv /run/real /run/kak",
        "/run/kak",
    ),
    (
        "mv /run/kak /run/real; mkfifo /run/kak",
        "rm /run/kak; mv /run/real /run/kak",
        "/run/kak",
    ),
    (
        "mv /run/kak /run/real; echo x >/run/kak",
        "rm /run/kak; mv /run/real /run/kak",
        "/run/kak",
    ),
    (
        "chown 1001 /run/kak/USER",
        "chown 0 /run/kak/USER",
        "/run/kak/USER",
    ),
    (
        "chmod 720 /run/kak/USER",
        "chmod 700 /run/kak/USER",
        "/run/kak/USER",
    ),
    (
        "chmod 702 /run/kak/USER",
        "chmod 700 /run/kak/USER",
        "/run/kak/USER",
    ),
    (
        "cd /run/kak; mv USER real; ln -s real USER",
        "cd /run/kak; rm USER; mv real USER",
        "/run/kak/USER",
    ),
    (
        "cd /run/kak; mv USER real; mkfifo USER",
        "cd /run/kak; rm USER; mv real USER",
        "/run/kak/USER",
    ),
    (
        "cd /run/kak; mv USER real; echo x >USER",
        "cd /run/kak; rm USER; mv real USER",
        "/run/kak/USER",
    ),
];

/// The same for each of the files there.
const FILES: &[(&str, &str)] = &[
    ("chown 1001 NAME", "chown 0 NAME"),
    ("chmod 620 NAME", "chmod 600 NAME"),
    ("chmod 602 NAME", "chmod 600 NAME"),
    ("mv NAME real; ln -s real NAME", "mv real NAME"),
    ("mv NAME real; ln -s /etc/shadow NAME", "mv real NAME"),
    ("mv NAME real; ln -s /nowhere NAME", "mv real NAME"),
    ("mv NAME real; mkfifo NAME", "mv real NAME"),
    (
        "mv NAME real; mknod NAME c 1 3 || mkfifo NAME",
        "mv real NAME",
    ),
    ("mv NAME real; mkdir NAME", "rmdir NAME; mv real NAME"),
    ("ln NAME another", "rm another"),
];

/// Everything that root can do with a jail, and the exit status of an error.
const CALLS: &[(&str, i32)] = &[
    ("setup", 1),
    ("setup --dry-run", 1),
    ("setup --explain", 1),
    ("setup -- true", 1),
    ("teardown", 1),
    ("status", 1),
    ("status --json", 1),
    ("kill --all", 1),
    ("kill 1", 1),
    ("nssh -c id", 125),
];

/// All files that kak has to do with, and their contents.
fn there() -> String {
    sh(
        "for dir in /run/kak /run/real /run/netns /etc/netns /mnt; do
            find $dir -printf '%p %y %m %U %n %s %l\n' 2>/dev/null || :
            find $dir -type f -size -1024k -exec cksum {} + 2>/dev/null || :
        done | sort; cksum /etc/shells /etc/passwd /etc/shadow 2>/dev/null || :",
    )
}

/// A script that prints what a setup changes besides files. Without ip, which would wait for a FIFO's writer in
/// /run/netns.
const MACHINE: &str = "cut -d : -f 1 /proc/net/dev; cat /proc/net/fib_trie /proc/net/route; nft list ruleset; cut -d ' ' -f 4- /proc/self/mountinfo; cat /proc/sys/net/ipv4/ip_forward";

/// Asserts that each of [`CALLS`] is refused with one line about this path, and changes nothing.
#[track_caller]
fn all_refused(hostile: &str, path: &str, why: &str) {
    let before = there();
    for (call, status) in CALLS {
        let ended = run(&format!("timeout -k 1 20 kak {call}")).code(*status);
        let applet = call.split(' ').next().unwrap();
        let line = format!("kak: {applet}: {path}: {why}");
        assert_eq!(ended.text(), "", "{hostile}: {call}");
        assert!(
            ended.stderr.starts_with(&line) && ended.stderr.lines().count() == 1,
            "{hostile}: {call}: {ended}"
        );
        assert_eq!(there(), before, "{hostile}: {call}");
    }
}

/// Starts a program as bob, and waits until it prints `ready`.
fn bobs(words: &[&str]) -> std::process::Child {
    let mut bob = std::process::Command::new("setpriv");
    bob.args(["--reuid", "1001", "--regid", "1001", "--clear-groups"])
        .args(words);
    let mut bob = bob.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(bob.stdout.as_mut().unwrap(), &mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");
    bob
}

sandboxed! {
    fn root_believes_no_state_of_anybody_elses() {
        live_together();
        let init = init("USER");
        let files = ["record", "lock", "log"].iter().flat_map(|name| {
            let at = |script: &str| format!("cd /run/kak/USER; {}", script.replace("NAME", name));
            FILES.iter().map(move |(hostile, honest)| (at(hostile), at(honest), format!("/run/kak/USER/{name}")))
        });
        let owned = |(hostile, honest, path): &(&str, &str, &str)| (hostile.to_string(), honest.to_string(), path.to_string());
        for (hostile, honest, path) in STATE.iter().map(owned).chain(files) {
            sh(&hostile);
            all_refused(&hostile, &path, "is not root's alone");
            for person in [ALICE, BOB] {
                refused(person.program(&["nssh", "-c", "id"]).says(&path).says("not root's alone"));
            }
            sh(&honest);
            assert!(alive(init), "{hostile}");
        }
        // The jail is the same as before.
        sh("kak setup; kak status; nssh -c true");
        assert_eq!(crate::sandbox::init("USER"), init);
        sh("kak teardown");
    }

    fn no_record_is_as_large_as_a_disk() {
        live_together();
        sh("cd /run/kak/USER; cp -p record real; truncate -s 1T record 2>/dev/null || truncate -s 1G record");
        let before = there();
        for (call, status) in CALLS {
            let ended = run(&format!("ulimit -v 1000000; timeout -k 1 20 kak {call}")).code(*status);
            assert!(ended.stderr.contains("too large for a record") && ended.stderr.lines().count() == 1, "{call}: {ended}");
            assert_eq!(there(), before, "{call}");
        }
        refused(ALICE.program(&["nssh", "-c", "id"]).says("too large"));
        sh("cd /run/kak/USER; mv real record; kak status; kak teardown");
    }

    fn a_jail_that_somebody_made_up_is_neither_brought_up_nor_taken_back() {
        live_together();
        // By the record all of this is the jail's, and teardown would remove it.
        sh("cp /run/kak/USER/record /home/bob/record; kak teardown; mkdir -p /mnt/user/tmp /etc/netns/USER
            cp /etc/resolv.conf /etc/netns/USER/ 2>/dev/null || :; echo /bin/nssh >>/etc/shells; chown 1001 /home/bob/record; chmod 1777 /run");
        sh("setpriv --reuid 1001 --regid 1001 --clear-groups sh -c 'mkdir -m 755 /run/kak /run/kak/USER; cp /home/bob/record /run/kak/USER/; touch /run/kak/USER/lock'");
        all_refused("a jail of bob's", "/run/kak", "is not root's alone");
        let status = run("kak status --all").code(1).says("/run/kak: is not root's alone");
        assert_eq!(status.text(), "");
        // Nor is one of bob's in a directory of root's.
        sh("chmod 755 /run; mv /run/kak /run/bob; mkdir -m 700 /run/kak; mv /run/bob/USER /run/kak/USER; rmdir /run/bob");
        all_refused("a directory of bob's", "/run/kak/USER", "is not root's alone");
        run("kak status --all").code(1).says("/run/kak/USER: is not root's alone");
        // Other jails work all the same.
        sh("kak setup -n other; nssh -n other -c true 2>/dev/null || kak nssh -n other -c true; kak status -n other; kak teardown -n other");
        sh("rm -r /run/kak/USER; kak setup; kak status; kak teardown");
    }

    fn nobody_elses_mounts_make_a_jail_of_the_outside() {
        move_in();
        sh("kak --install --setuid-nssh /var/nssh; printf '#!/bin/sh\nid >/home/bob/ran\n' >/home/bob/evil; chmod 755 /home/bob/evil; chmod 1777 /run; mkdir -m 777 /var/own");
        // A read-only mount in a mount namespace of bob's, reached by a link of his.
        let own = "mount -t tmpfs own /var/own && ln -s /home/bob/evil /var/own/shell && mount -o remount,bind,ro /var/own && echo ready && exec sleep 100";
        let mut bob = bobs(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", own]);
        sh(&format!("setpriv --reuid 1001 --regid 1001 --clear-groups ln -s /proc/{}/root/var/own /run/kak; test -L /run/kak/shell", bob.id()));
        all_refused("mounts of bob's", "/run/kak", "is not root's alone");
        for (person, nssh) in [(ALICE, "/bin/nssh"), (ALICE, "/var/nssh"), (BOB, "/var/nssh")] {
            person.program(&[nssh, "-c", "id"]).code(125).says("/run/kak: is not root's alone");
        }
        run("nssh -c id").code(125).says("/run/kak: is not root's alone");
        assert_eq!(sh("ls /home/bob/ran 2>/dev/null || echo none"), "none");
        bob.kill().unwrap();
        bob.wait().unwrap();
    }

    fn a_jail_of_somebodys_that_comes_while_there_is_none_is_not_joined() {
        live_together();
        sh("printf '#!/bin/sh\nid >/home/bob/ran\n' >/home/bob/evil; chmod 755 /home/bob/evil
            sed 's#^shell .*#shell /home/bob/evil#' /run/kak/USER/record >/home/bob/record; kak teardown; chown 1001 /home/bob/record; chmod 1777 /run");
        let bob = "setpriv --reuid 1001 --regid 1001 --clear-groups";
        sh(&format!("{bob} sh -c 'mkdir -p -m 755 /run/bobs/USER; cp /home/bob/record /run/bobs/USER/; touch /run/bobs/USER/lock'"));
        // A process of bob's that looks like an init.
        let hold = "import fcntl, time; f = open('/run/bobs/USER/lock', 'r+'); fcntl.lockf(f, fcntl.LOCK_EX, 2); print('ready', flush=True); time.sleep(100)";
        let mut init = bobs(&["unshare", "-Urmnpf", "--kill-child", "python3", "-c", hold]);
        // Delayed between the look, which finds no jail, and the open of its lock. The limit ends strace, which would
        // trace a keeper for ever.
        let slow = "timeout -k 1 8 strace -f -qq -o /tmp/trace -P /run/kak/USER/lock -e trace=open,openat -e inject=open,openat:delay_enter=800000:when=1 nssh -c 'echo joined'";
        let ended = std::thread::scope(|scope| {
            let asked = scope.spawn(|| run(slow));
            std::thread::sleep(std::time::Duration::from_millis(300));
            run(&format!("{bob} mv -T /run/bobs /run/kak"));
            asked.join().unwrap()
        });
        // Either nssh has made the jail, and bob came too late; or, on a slow machine, bob was first.
        let first = ended.stderr.contains("/run/kak: is not root's alone");
        assert!(first || ended.text() == "joined\n", "{ended}");
        assert_eq!(sh("ls /home/bob/ran 2>/dev/null || echo none"), "none", "{ended}");
        sh(if first { "rm -r /run/kak" } else { "kak teardown" });
        init.kill().unwrap();
        init.wait().unwrap();
    }

    fn no_jail_gets_a_network_by_anybody_elses_name() {
        move_in();
        uplink::plug();
        sh("ip netns add theirs");
        for (hostile, honest, path) in [
            ("chown 1001 /run/netns", "chown 0 /run/netns", "/run/netns"),
            ("chmod 777 /run/netns", "chmod 755 /run/netns", "/run/netns"),
            ("chmod 775 /run/netns", "chmod 755 /run/netns", "/run/netns"),
            ("touch /run/netns/USER; chown 1001 /run/netns/USER", "rm /run/netns/USER", "/run/netns/USER"),
            ("echo x >/run/netns/USER", "rm /run/netns/USER", "/run/netns/USER"),
            ("ln -s theirs /run/netns/USER", "rm /run/netns/USER", "/run/netns/USER"),
            ("ln -s /proc/self/ns/net /run/netns/USER", "rm /run/netns/USER", "/run/netns/USER"),
            ("ln -s /nowhere /run/netns/USER", "rm /run/netns/USER", "/run/netns/USER"),
            ("mkfifo /run/netns/USER", "rm /run/netns/USER", "/run/netns/USER"),
            ("mkdir /run/netns/USER", "rmdir /run/netns/USER", "/run/netns/USER"),
        ] {
            sh(hostile);
            let (before, machine) = (there(), sh(MACHINE));
            for (call, status) in [("setup", 1), ("setup -- true", 1), ("nssh -c id", 125)] {
                let ended = run(&format!("timeout -k 1 20 kak {call}")).code(status).says(path);
                assert!(!ended.text().contains("uid="), "{hostile}: {ended}");
                assert_eq!(ended.stderr.lines().count(), 1, "{hostile}: {ended}");
                assert_eq!(there(), before, "{hostile}: {call}");
                assert_eq!(sh(MACHINE), machine, "{hostile}: {call}");
            }
            // No jail was made, so there is nothing to take back.
            run("kak teardown").code(0);
            assert_eq!(there(), before, "{hostile}: teardown");
            refused(ALICE.program(&["nssh", "-c", "id"]).says("not up"));
            sh(honest);
        }
        sh("kak setup; nssh -c true; kak teardown");
    }

    fn nobody_elses_link_makes_a_jail_of_the_outside() {
        move_in();
        sh("kak --install --setuid-nssh /var/nssh; printf '#!/bin/sh\nid >/home/bob/ran\n' >/home/bob/evil; chmod 755 /home/bob/evil; chmod 1777 /run");
        sh("setpriv --reuid 1001 --regid 1001 --clear-groups sh -c 'mkdir -m 755 /run/kak; ln -s /home/bob/evil /run/kak/shell'");
        all_refused("a link of bob's", "/run/kak", "is not root's alone");
        for (person, nssh) in [(ALICE, "/bin/nssh"), (ALICE, "/var/nssh"), (BOB, "/var/nssh")] {
            person.program(&[nssh, "-c", "id"]).code(125).says("/run/kak: is not root's alone");
        }
        run("nssh -c id").code(125).says("/run/kak: is not root's alone");
        // Nor if the directory has become root's meanwhile.
        sh("chown 0 /run/kak");
        for (call, status) in [("setup", 1), ("teardown", 1), ("nssh -c id", 125), ("setup -- true", 1)] {
            run(&format!("kak {call}")).code(status).says("/run/kak/shell: is not root's alone");
        }
        assert_eq!(sh("ls /home/bob/ran 2>/dev/null || echo none"), "none");
        sh("rm -r /run/kak; chmod 755 /run; kak setup; nssh -c 'nssh -c true'");
        // In a user namespace of alice's, the real root appears as nobody; the jail's link, which is root's, is still
        // trusted.
        let alice = "setpriv --reuid 1000 --regid 1000 --clear-groups unshare --user";
        assert_eq!(sh(&format!("nssh -c '{alice} --map-root-user nssh -c \"id -u\"; {alice} nssh -c \"id -u\"'")), "0\n65534");
        sh("kak teardown");
    }
}
