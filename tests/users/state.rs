//! A set-user-ID nssh and a jail that is not up, or coming up, or going down, or whose state cannot be trusted.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::people::*;
use crate::sandbox::*;

/// Starts a setup in which one system call is delayed, and returns when it holds this lock, by which it is known how
/// far it has come.
fn slow_setup(call: &str, lock: &str) -> Child {
    let inject = format!("inject={call}:delay_enter=1500000:when=1");
    let setup = Command::new("strace")
        .args([
            "-f",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={call}"),
            "-e",
            &inject,
        ])
        .args(["kak", "setup", "--allow", "alice"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the lock", || holds(lock));
    setup
}

/// Whether /proc/locks has a lock of this kind and range.
fn holds(lock: &str) -> bool {
    sh("cat /proc/locks").lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[1] == lock.split(' ').next().unwrap()
            && line.ends_with(lock.split_once(' ').unwrap().1)
    })
}

/// Kills the keeper, so that the jail ends and its state is left behind.
fn crash() {
    let init = init("USER");
    let keeper = process_field(init, "PPid").unwrap();
    sh(&format!("kill -KILL {keeper}"));
    until("the jail's end", || !alive(init));
}

sandboxed! {
    fn a_jail_that_is_down_stays_down() {
        move_in();
        let before = dump();
        refused(ALICE.program(&["nssh", "-c", "id"]).says("not up"));
        assert_same("without any jail", &before, &dump());
        sh("kak setup --allow alice");
        crash();
        let before = dump();
        refused(ALICE.program(&["nssh", "-c", "id"]).says("only root can bring it up"));
        refused(BOB.program(&["nssh", "-c", "id"]).says("may not join"));
        assert_same("without this one", &before, &dump());
        assert!(processes().is_empty(), "{:?}", processes());
        sh("nssh -c true");
        ALICE.program(&["nssh", "-c", "true"]).code(0);
        sh("kak teardown");
        refused(ALICE.program(&["nssh", "-c", "id"]).says("not up"));
        // A network of this name is no jail.
        sh("kak netns add --uplink USER 2>/dev/null || kak netns add USER");
        refused(ALICE.program(&["nssh", "-c", "id"]));
    }

    fn a_jail_that_is_coming_up_is_waited_for() {
        move_in();
        // While its init makes the root.
        let mut setup = slow_setup("pivot_root", "POSIX 0 0");
        assert_eq!(ALICE.program(&["nssh", "-c", "echo in"]).code(0).text(), "in\n");
        refused(BOB.program(&["nssh", "-c", "id"]).says("may not join"));
        sh("kak teardown");
        setup.wait().unwrap();
        // While there is no init yet, but a setup that is about to start it.
        let mut setup = slow_setup("clone3", "FLOCK 0 EOF");
        assert_eq!(ALICE.program(&["nssh", "-c", "echo in"]).code(0).text(), "in\n");
        sh("kak teardown");
        setup.wait().unwrap();
    }

    fn a_jail_that_does_not_come_up_is_not_waited_for_for_ever() {
        live_together();
        crash();
        let mut starting = Command::new("python3")
            .args(["-c", "import fcntl, time; lock = open('/run/kak/USER/lock', 'r+'); fcntl.lockf(lock, fcntl.LOCK_EX, 1); time.sleep(1000)"])
            .spawn()
            .unwrap();
        until("the lock", || holds("POSIX 0 0"));
        let ended = ALICE.program(&["nssh", "-c", "id"]).code(125).says("waiting for the jail").says("has not come up within");
        assert_eq!((ended.text().as_str(), ended.stderr.lines().count()), ("", 2), "{ended}");
        // The lock is released while a guest waits.
        let nssh = ALICE.command(&[], &["nssh", "-c", "id"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        until("the guest", || process_field(nssh.id().into(), "Name").as_deref() == Some("nssh"));
        starting.kill().unwrap();
        starting.wait().unwrap();
        let output = nssh.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        assert!(String::from_utf8_lossy(&output.stderr).contains("not up"));
    }

    fn a_jail_that_is_going_down_takes_nobody_in() {
        live_together();
        let mut nssh = Command::new("nssh").args(["-c", "trap '' HUP TERM; while :; do sleep 1000; done"]).stderr(Stdio::null()).spawn().unwrap();
        until("a session", || json("kak status --json")["sessions"].as_array().unwrap().len() == 1);
        let mut teardown = Command::new("kak").arg("teardown").spawn().unwrap();
        until("the end's beginning", || holds("POSIX 0 2"));
        refused(ALICE.program(&["nssh", "-c", "id"]).says("going down"));
        assert_eq!(teardown.wait().unwrap().code(), Some(0));
        nssh.wait().unwrap();
    }

    fn guests_and_setups_in_any_order() {
        move_in();
        // Each guest gets a complete jail, or one line about why not.
        let mut guests: Vec<Child> = Vec::new();
        for _ in 0..8 {
            let mut setup = Command::new("kak").args(["setup", "--allow", "alice"]).stdout(Stdio::null()).spawn().unwrap();
            guests.extend((0..6).map(|_| ALICE.command(&[], &["nssh", "-c", "test $$ != 1 && ls /run/kak"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()));
            setup.wait().unwrap();
            let mut teardown = Command::new("kak").arg("teardown").spawn().unwrap();
            guests.extend((0..6).map(|_| ALICE.command(&[], &["nssh", "-c", "test $$ != 1 && ls /run/kak"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()));
            assert_eq!(teardown.wait().unwrap().code(), Some(0));
        }
        for guest in guests {
            let output = guest.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            match output.status.code() {
                Some(0) => assert_eq!((output.stdout.as_slice(), said.as_str()), (&b"shell\n"[..], "")),
                Some(125) => assert!(output.stdout.is_empty() && said.starts_with("kak: nssh: ") && said.lines().count() == 1, "{said}"),
                // The jail ended under the session.
                Some(137) => assert!(said.contains("the jail is gone"), "{said}"),
                // Or the session was hung up, or its child was killed first.
                None => assert!(matches!(output.status.signal(), Some(1 | 9 | 15)), "{:?} {said}", output.status),
                Some(_) => panic!("{:?} {said}", output.status),
            }
        }
        assert!(!Path::new("/run/kak").exists());
    }

    fn what_others_could_have_written_is_not_believed() {
        live_together();
        let text = std::fs::read("/run/kak/USER/record").unwrap();
        // In each of these states bob could have written the record, or could write it now.
        for (hostile, honest) in [
            ("chown 1001 /run/kak", "chown 0 /run/kak"),
            ("chmod 777 /run/kak", "chmod 700 /run/kak"),
            ("chmod 720 /run/kak/USER", "chmod 700 /run/kak/USER"),
            ("chown 1001 /run/kak/USER", "chown 0 /run/kak/USER"),
            ("chown 1001 /run/kak/USER/record", "chown 0 /run/kak/USER/record"),
            ("chmod 602 /run/kak/USER/record", "chmod 600 /run/kak/USER/record"),
            ("chown 1001 /run/kak/USER/lock", "chown 0 /run/kak/USER/lock"),
            ("chmod 777 /run", "chmod 755 /run"),
            ("chown 1001 /run", "chown 0 /run"),
            ("mv /run/kak/USER /run/kak/real; ln -s real /run/kak/USER", "rm /run/kak/USER; mv /run/kak/real /run/kak/USER"),
            ("mv /run/kak /run/real; ln -s real /run/kak", "rm /run/kak; mv /run/real /run/kak"),
            ("cd /run/kak/USER; mv record real; ln -s real record", "cd /run/kak/USER; mv real record"),
            ("cd /run/kak/USER; mv record real; mkfifo record", "cd /run/kak/USER; mv real record"),
            ("cd /run/kak/USER; mv lock real; mkdir lock", "cd /run/kak/USER; rmdir lock; mv real lock"),
        ] {
            sh(hostile);
            for person in [ALICE, BOB] {
                refused(person.program(&["nssh", "-c", "id"]).says("not root's alone"));
            }
            sh(honest);
            ALICE.program(&["nssh", "-c", "true"]).code(0);
        }
        assert_eq!(std::fs::read("/run/kak/USER/record").unwrap(), text);
        for rubbish in ["", "x", "jail USER\\n", "allow bob\\n"] {
            sh(&format!("mv /run/kak/USER/record /run/kak/USER/real; printf '{rubbish}' >/run/kak/USER/record"));
            let ended = ALICE.program(&["nssh", "-c", "id"]).code(125);
            assert_eq!(ended.text(), "");
            sh("mv /run/kak/USER/real /run/kak/USER/record");
        }
    }

    fn a_jail_of_ones_own_is_no_jail() {
        move_in();
        // If /run is writable for all, a user can make what looks like a jail, from outside and from inside.
        sh("chmod 1777 /run; chown 0:0 /run");
        std::fs::write("/home/fake.py", "
import fcntl, os, time
os.makedirs('/run/kak/USER')
os.symlink('/bin/sh', '/run/kak/shell')
open('/run/kak/USER/record', 'w').write('jail USER\\n')
lock = open('/run/kak/USER/lock', 'w')
fcntl.lockf(lock, fcntl.LOCK_EX, 2)
open('/home/bob/ready', 'w')
time.sleep(1000)
").unwrap();
        let mut fake = BOB.command(&[], &["python3", "/home/fake.py"]).spawn().unwrap();
        until("the fake", || Path::new("/home/bob/ready").exists());
        for person in [ALICE, BOB] {
            refused(person.program(&["nssh", "-c", "echo outside"]).says("not root's alone"));
        }
        fake.kill().unwrap();
        fake.wait().unwrap();
        sh("rm -r /run/kak; chmod 755 /run; kak setup --allow alice");
        // In a user namespace of his own bob can mount anything, but the set-user-ID bit gives no rights there.
        let script = "mount -t tmpfs x /run; mkdir -p /run/kak/USER; touch /run/kak/USER/lock; nssh -c 'cat /proc/self/uid_map; cat /etc/secret'";
        sh("echo secret >/etc/secret; chmod 600 /etc/secret");
        let ended = BOB.program(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]);
        assert!(!ended.text().contains("secret") && ended.status.code() != Some(0), "{ended}");
        let ended = BOB.program(&["unshare", "--user", "--map-root-user", "nssh", "-c", "id"]).code(125);
        assert_eq!(ended.text(), "");
    }

    fn where_the_kernel_gives_no_rights_it_says_so() {
        live_together();
        sh("kak status >/dev/null; cp /bin/kak /opt/nssh; chmod 755 /opt/nssh; mkdir -m 755 /opt/nosuid");
        refused(ALICE.program(&["/opt/nssh", "-c", "id"]).says("--setuid-nssh"));
        refused(ALICE.program(&["kak", "nssh", "-c", "id"]).says("--setuid-nssh"));
        refused(end(&mut ALICE.command(&["--no-new-privs"], &["nssh", "-c", "id"])).says("no_new_privs"));
        // The copy is made before the mount is nosuid; afterwards the command refuses.
        sh("mount -t tmpfs -o mode=755 x /opt/nosuid; kak --install --setuid-nssh /opt/nosuid/nssh");
        ALICE.program(&["/opt/nosuid/nssh", "-c", "true"]).code(0);
        sh("mount -o remount,nosuid /opt/nosuid");
        refused(ALICE.program(&["/opt/nosuid/nssh", "-c", "id"]).says("mounted nosuid"));
        run("kak --install --setuid-nssh /opt/nosuid/nssh").code(1).says("mounted nosuid");
        refused(ALICE.program(&["unshare", "--user", "nssh", "-c", "id"]).says("user namespace"));
    }
}
