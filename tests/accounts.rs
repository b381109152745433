//! nssh as a login shell: one field of /etc/passwd, changed and restored under the locks that other programs take to
//! edit it. That the file stays whole whichever call fails, and wherever kak is killed, is tested by `tests/faults`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};

use crate::sandbox::*;

/// A user's login shell, as the C library sees it.
fn shell(user: &str) -> String {
    sh(&format!("getent passwd {user} | cut -d : -f 7"))
}

/// Asserts that an edit has left no temporary file and no lock file but lckpwdf(3)'s.
#[track_caller]
fn assert_clean() {
    let names = sh("cd /etc; echo passwd* .pwd.lock*");
    assert_eq!(names, "passwd passwd- .pwd.lock");
}

/// The contents of /etc/passwd, with these bytes before and after root's line.
fn passwd(before: &[u8], shell: &str, after: &[u8]) -> Vec<u8> {
    [before, b"root:x:0:0:root:/root:", shell.as_bytes(), after].concat()
}

/// A process that holds the lock of lckpwdf(3) until it is killed.
fn holder() -> Child {
    let hold = "import fcntl, time; f = open('/etc/.pwd.lock', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); \
        open('/tmp/held', 'w'); time.sleep(1000)";
    let child = Command::new("python3").args(["-c", hold]).spawn().unwrap();
    until("the lock is held", || fs::exists("/tmp/held").unwrap());
    sh("rm /tmp/held");
    child
}

/// Starts `kak setup --login-shell root` and does not wait for it.
fn setup() -> Child {
    Command::new("kak")
        .args(["setup", "--login-shell", "root"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

sandboxed! {
    fn nssh_is_the_login_shell_until_teardown() {
        uplink::plug();
        sh("echo alice:x:0:0::/:/bin/sh >>/etc/passwd");
        let before = dump();
        let script = sh("kak setup --explain --login-shell alice --login-shell root");
        let commands: Vec<&str> = script.lines().filter(|line| !line.starts_with('#') && line.contains("/bin/nssh")).collect();
        assert_eq!(commands, [
            "printf '/bin/nssh\\n' >>/etc/shells",
            "usermod --shell /bin/nssh alice",
            "usermod --shell /bin/nssh root",
        ]);
        run("kak setup --login-shell alice --login-shell root --login-shell alice").code(0).says("can log in only if --allow names them");
        assert_eq!(sh("cut -d : -f 1,7 /etc/passwd"), "root:/bin/nssh\ndaemon:/usr/sbin/nologin\nnobody:/usr/sbin/nologin\nalice:/bin/nssh");
        assert_eq!(sh("kak status | grep usermod"), "ok  usermod --shell /bin/nssh alice\nok  usermod --shell /bin/nssh root");
        assert_eq!(sh("nssh -c 'getent passwd alice'"), "alice:x:0:0::/:/bin/nssh");
        assert_clean();
        let undone = sh("kak teardown -v");
        assert!(undone.starts_with("- usermod --shell /bin/nssh root\n- usermod --shell /bin/nssh alice\n- printf"), "{undone}");
        assert_same("setup and teardown", &before, &dump());
    }

    fn the_old_shell_is_saved_once() {
        let before = dump();
        sh("kak setup --login-shell root");
        let up = dump();
        let again = sh("kak setup --login-shell root; kak setup");
        assert!(again.lines().all(|line| line.starts_with("= ")), "{again}");
        assert_same("three setups", &up, &dump());
        // The keeper is killed, and the next setup has other options.
        sh(&format!("kill -KILL {}", process_field(init("USER"), "PPid").unwrap()));
        until("the jail is gone", || processes().is_empty());
        sh("kak setup --login-shell root --no-nat");
        assert_eq!(shell("root"), "/bin/nssh");
        sh("kak teardown");
        assert_same("setups and a teardown", &before, &dump());
    }

    fn what_the_user_chooses_is_told_and_mended_and_comes_back() {
        sh("kak setup --login-shell root; usermod --shell /bin/sh root");
        let said = run("kak status").code(3).text();
        assert!(said.contains("--  usermod --shell /bin/nssh root\n"), "{said}");
        let mended = sh("kak setup");
        assert_eq!(mended.lines().filter(|line| line.starts_with('+')).collect::<Vec<_>>(), ["+ usermod --shell /bin/nssh root"]);
        sh("kak status; kak setup; kak teardown");
        assert_eq!(shell("root"), "/bin/sh");
        // The same if the jail was already down.
        sh("kak setup --login-shell root; usermod --shell /bin/bash root");
        sh(&format!("kill -KILL {}", process_field(init("USER"), "PPid").unwrap()));
        until("the jail is gone", || processes().is_empty());
        sh("nssh -c true; kak status; kak teardown");
        assert_eq!(shell("root"), "/bin/bash");
        assert_clean();
    }

    fn a_saved_shell_that_is_lost_is_bash_or_sh() {
        for shells in [["/bin/nssh", "/bin/bash"], ["/bin/nssh", "/bin/sh"]] {
            fs::write("/etc/passwd", passwd(b"", shells[0], b"\n")).unwrap();
            if shells[1] == "/bin/sh" {
                sh("rm /bin/bash");
            }
            sh("kak setup --login-shell root; kak status");
            assert_eq!(shell("root"), "/bin/nssh");
            sh("kak teardown");
            assert_eq!(shell("root"), shells[1]);
        }
    }

    fn all_else_in_passwd_stays() {
        let nothing = &b""[..];
        let hostile = b"\n\n# root:x:0:0::/:/bin/sh\n+root::::::\n+\n-bad\nroot\nroot:x:0:0::/\n root:x:0:0::/:/bin/sh\n\
            root:x:0:0::/:/bin/sh:more\nroot:x::0::/:/bin/sh\n\xff\xfe:\0:1:1::/:/bin/sh\r\nrooty:x:0:0::/:/bin/sh\n\
            ::::::\n:::::::::::::\n\t\nx";
        let huge = [&b"x:x:1:1:"[..], "y".repeat(70_000).as_bytes(), b":/:/bin/sh\n"].concat();
        for before in [nothing, b"# first\n", &[hostile, &b"\n"[..]].concat(), &huge] {
            for after in [nothing, b"\n", b"\n\n", b"\n+::::::", &[b"\n", &hostile[..]].concat(), &[b"\n", &huge[..]].concat()] {
                for shell in ["/bin/bash", "/bin/sh", "/a/shell that is not there\r", ""] {
                    let text = passwd(before, shell, after);
                    fs::write("/etc/passwd", &text).unwrap();
                    sh("kak setup --login-shell root");
                    assert!(fs::read("/etc/passwd").unwrap() == passwd(before, "/bin/nssh", after), "{shell}");
                    sh("kak teardown");
                    assert!(fs::read("/etc/passwd").unwrap() == text, "{shell}");
                }
            }
        }
        assert_clean();
    }

    fn mode_and_attributes_stay() {
        let set = "import os; os.setxattr('/etc/passwd', 'security.kak', b'a value')";
        sh(&format!("rm /etc/.pwd.lock; chmod 640 /etc/passwd; python3 -c \"{set}\""));
        let about = "stat -c '%a %u %g' /etc/passwd; python3 -c \"import os; print(os.getxattr('/etc/passwd', 'security.kak'))\"";
        let before = sh(about);
        for command in ["kak setup --login-shell root", "kak teardown"] {
            sh(&format!("umask 077; {command}"));
            assert_eq!(sh(about), before);
        }
        // This lock file is not removed: other processes may be waiting for the lock.
        assert_eq!(sh("stat -c '%a %s' /etc/.pwd.lock"), "600 0");
        assert_clean();
    }

    fn who_cannot_have_it_is_told_before_anything_is_changed() {
        let before = dump();
        let refused = |option: &str, code: i32, word: &str| {
            let ended = program(&["kak", "setup", "--login-shell", option]).code(code).says(word);
            assert!(ended.stdout.is_empty(), "{ended}");
            assert_same(option, &before, &dump());
        };
        refused("alice", 1, "no such user in /etc/passwd");
        program(&["kak", "setup", "--login-shell", "root", "--login-shell", "alice"]).code(1).says("alice");
        for bad in ["", "-x", "+root", "a:b", "a b", "a/b", "#x"] {
            refused(bad, 2, "--login-shell");
        }
        sh("mv /bin/nssh /bin/hidden");
        refused("root", 1, "kak --install");
        sh("echo text >/bin/nssh");
        refused("root", 1, "/bin/nssh is not an executable file");
        sh("mv /bin/hidden /bin/nssh; mv /etc/passwd /etc/real; ln -s real /etc/passwd");
        let before = dump();
        program(&["kak", "setup", "--login-shell", "root"]).code(1).says("not a regular file");
        assert_same("a link", &before, &dump());
    }

    fn what_others_do_meanwhile_stays() {
        sh("useradd -M alice; useradd -M bob; useradd -M carol; rm -f /etc/group-");
        sh("kak setup --login-shell alice --login-shell bob --login-shell carol");
        sh("useradd -M dave; chsh -s /bin/sh alice; userdel bob; usermod -c 'Carol C.' carol");
        let ended = program(&["kak", "teardown"]).code(0);
        assert_eq!(ended.stderr, "");
        assert_eq!(sh("cut -d : -f 1,5,7 /etc/passwd | tail -n 3"), "alice::/bin/sh\ncarol:Carol C.:/bin/bash\ndave::/bin/bash");
    }

    fn a_user_who_is_gone_keeps_nobody_out() {
        sh("echo alice:x:0:0::/:/bin/sh >>/etc/passwd; kak setup --login-shell alice; sed -i /alice/d /etc/passwd; kak status; kak setup");
        sh(&format!("kill -KILL {}", process_field(init("USER"), "PPid").unwrap()));
        until("the jail is gone", || processes().is_empty());
        assert_eq!(sh("nssh -c 'echo in'"), "in");
        program(&["kak", "teardown"]).code(0);
    }

    fn an_etc_or_a_passwd_that_is_read_only_is_named_and_not_needed() {
        for place in ["/etc", "/etc/passwd"] {
            sh(&format!("mount --rbind {place} {place}; mount -o remount,bind,ro {place}; ! sh -c 'echo >>/etc/passwd'"));
            let before = dump();
            program(&["kak", "setup", "--login-shell", "root"]).code(0).says("the login shells stay as they are");
            assert_eq!(sh("nssh -c 'getent passwd root'"), "root:x:0:0:root:/root:/bin/bash");
            sh("kak status; kak setup");
            let ended = program(&["kak", "teardown"]).code(0);
            assert_eq!(ended.stderr, "");
            assert_same(place, &before, &dump());
            sh(&format!("umount {place} || umount -l {place}"));
        }
    }

    fn a_passwd_that_is_a_mount_is_changed_in_place() {
        sh("cp /etc/passwd /var/passwd; mount --bind /var/passwd /etc/passwd");
        let inode = || fs::metadata("/etc/passwd").unwrap().ino();
        let first = inode();
        for (shell, after) in [("/bin/bash", "\n"), ("/bin/sh", "\nx:x:1:1::/:\n"), ("/usr/bin/sh", ""), ("", "\n\n"), ("", "")] {
            let text = passwd(b"# x\n", shell, after.as_bytes());
            fs::write("/etc/passwd", &text).unwrap();
            let before = dump();
            sh("kak setup --login-shell root; kak status");
            assert_eq!(fs::read("/etc/passwd").unwrap(), passwd(b"# x\n", "/bin/nssh", after.as_bytes()));
            sh("kak teardown");
            assert_same(shell, &before, &dump());
            assert_eq!(fs::read("/var/passwd").unwrap(), text);
            assert_eq!(inode(), first);
        }
        assert_clean();
    }

    fn two_jails_share_a_login_shell() {
        uplink::plug();
        let before = dump();
        for (first, last) in [("one", "two"), ("two", "one")] {
            run("kak setup -n one --login-shell root").code(0).says("enters USER, and one only where KAK_JAIL says so");
            sh("kak setup -n two --login-shell root");
            assert_eq!(sh("grep old-login-shell /run/kak/two/record"), "old-login-shell /bin/bash");
            sh(&format!("kak teardown -n {first}"));
            assert_eq!(shell("root"), "/bin/nssh");
            sh(&format!("kak status -n {last}; kak teardown -n {last}"));
            assert_same("two jails", &before, &dump());
        }
        // Even if the shell before the first setup does not exist on this machine.
        sh("usermod --shell /opt/other root; kak setup -n one --login-shell root; kak setup -n two --login-shell root
            kak teardown -n one; kak teardown -n two");
        assert_eq!(shell("root"), "/opt/other");
    }

    fn a_jail_that_does_not_come_up_takes_nothing_from_another() {
        uplink::plug();
        let before = dump();
        sh("kak setup -n one --login-shell root");
        let up = dump();
        let inject = "strace -f -o /tmp/trace -e trace=mount_setattr -e inject=mount_setattr:error=EPERM";
        run(&format!("{inject} kak setup -n two --login-shell root --bind /root:/opt/root:ro")).code(1).says("/opt/root");
        sh("rm /tmp/trace; kak status -n one");
        assert_same("another that failed", &up, &dump());
        sh("kak teardown -n one");
        assert_same("both are gone", &before, &dump());
    }

    fn a_stale_lock_is_cleared() {
        let before = dump();
        let dead = sh("sh -c 'echo $$'");
        for lock in [
            format!("printf '{dead}\\0' >/etc/passwd.lock"),
            format!("echo {dead} >/etc/passwd.lock"),
            // Left by a kak that was killed, and whose PID is in use again: here 1.
            "printf '1\\0' >/etc/passwd.lock.kak-new; ln /etc/passwd.lock.kak-new /etc/passwd.lock".into(),
            "touch /etc/passwd.lock.kak-new".into(),
            "cp /etc/shells /etc/passwd.kak-new".into(),
        ] {
            sh(&lock);
            sh("kak setup --login-shell root; kak status");
            assert_clean();
            sh(&format!("{lock}; kak teardown"));
            assert_same(&lock, &before, &dump());
        }
    }

    fn a_live_lock_is_waited_for_and_its_holder_named() {
        // A process chooses its name: here one with an escape, and with the character by which kak encodes an escape.
        let path = "/tmp/a\u{1b}\u{10ff1b}";
        fs::copy("/bin/sleep", path).unwrap();
        let mut sleep = Command::new(path).arg("1000").spawn().unwrap();
        sh(&format!("printf '{}\\0' >/etc/passwd.lock", sleep.id()));
        let before = dump();
        let said = format!("a?? (process {}) has held /etc/passwd.lock", sleep.id());
        program(&["kak", "setup", "--login-shell", "root"]).code(1).says(&said);
        assert_same("a lock that is held", &before, &dump());
        let mut setup = setup();
        until("setup waits", || fs::exists("/etc/passwd.lock.kak-new").unwrap());
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        assert!(setup.wait().unwrap().success());
        assert_eq!(shell("root"), "/bin/nssh");
        assert_clean();
    }

    fn a_lock_that_names_nobody_is_left_to_people() {
        for text in ["", "nonsense", "0", "-1"] {
            sh(&format!("printf -- '{text}' >/etc/passwd.lock"));
            let mut setup = setup();
            until("setup waits", || fs::exists("/etc/passwd.lock.kak-new").unwrap());
            sh("rm /etc/passwd.lock");
            assert!(setup.wait().unwrap().success());
            sh("kak teardown");
        }
        sh("echo nonsense >/etc/passwd.lock");
        let before = dump();
        program(&["kak", "setup", "--login-shell", "root"]).code(1).says("names no process").says("rm /etc/passwd.lock");
        assert_same("a lock that names nobody", &before, &dump());
    }

    fn the_librarys_lock_is_waited_for_and_its_holder_named() {
        let before = dump();
        let mut first = holder();
        let said = format!("python3 (process {}) has held /etc/.pwd.lock", first.id());
        program(&["kak", "setup", "--login-shell", "root"]).code(1).says(&said);
        assert_same("a lock that is held", &before, &dump());
        let mut waiting = setup();
        until("setup waits", || sh("cat /proc/locks").lines().any(|line| line.contains("->")));
        first.kill().unwrap();
        first.wait().unwrap();
        assert!(waiting.wait().unwrap().success());
        let mut second = holder();
        // If nothing has to be changed, nobody waits for the lock, nor when the jail comes up again.
        sh("kak setup");
        sh(&format!("kill -KILL {}", process_field(init("USER"), "PPid").unwrap()));
        until("the jail is gone", || !run("kak status").status.success());
        sh("nssh -c true; kak status");
        // Teardown does need the lock: without it, it fails and keeps the record.
        let said = format!("python3 (process {}) has held /etc/.pwd.lock", second.id());
        program(&["kak", "teardown"]).code(1).says(&said);
        assert_eq!(sh("ls /run/kak"), "USER");
        second.kill().unwrap();
        second.wait().unwrap();
        sh("kak teardown");
        assert_same("in the end", &before, &dump());
    }

    fn a_file_size_limit_loses_no_line() {
        let before = dump();
        // The limit lets the file, which is a mount and written in place, grow, but by less than is needed.
        let text = passwd(&b"# x\n".repeat(2000), "/bin/sh", b"\nlast:x:1:1::/:\n");
        sh("cp /etc/passwd /var/passwd; mount --bind /var/passwd /etc/passwd");
        fs::write("/etc/passwd", &text).unwrap();
        let limit = text.len() + 1;
        let ended = program(&["prlimit", &format!("--fsize={limit}"), "kak", "setup", "--login-shell", "root"]).code(1);
        assert!(ended.stderr.contains("usermod --shell /bin/nssh root: File too large"), "{ended}");
        assert!(fs::read("/etc/passwd").unwrap() == text);
        assert_clean();
        sh("umount /etc/passwd; rm /var/passwd");
        assert_same("a limit", &before, &dump());
    }
}
