//! Which users can join by a set-user-ID nssh, and what IDs, rights and view they have inside.

use std::process::{Child, Stdio};

use crate::people::*;
use crate::sandbox::terminal::Terminal;
use crate::sandbox::*;

/// Starts a session of alice's that stays; the client, and the PID of its shell as seen outside.
fn stay() -> (Child, i64) {
    let child = ALICE
        .command(&[], &["nssh", "-c", "echo in; exec sleep 1000"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let shell = || json("kak status --json")["sessions"][0]["pid"].as_i64();
    until("a session", || shell().is_some());
    (child, shell().unwrap())
}

sandboxed! {
    fn inside_he_is_who_he_is_outside() {
        live_together();
        for command in [
            "id",
            "id -G",
            "umask",
            "ulimit -a",
            "nice",
            "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Sig(Blk|Ign))' /proc/self/status",
        ] {
            let inside = ALICE.bash(&format!("nssh -c \"{command}\""));
            assert_eq!(inside, ALICE.bash(&format!("bash -c \"{command}\"")), "{command}");
        }
        let status = ALICE.bash("nssh -c 'cat /proc/self/status'");
        for line in ["Uid:\t1000\t1000\t1000\t1000", "Gid:\t1000\t1000\t1000\t1000", "Groups:\t50 2000 "] {
            assert!(status.contains(line), "{status}");
        }
        for set in ["Inh", "Prm", "Eff", "Amb"] {
            assert!(status.contains(&format!("Cap{set}:\t0000000000000000\n")), "{status}");
        }
        // What alice may not do outside she may not do inside.
        sh("echo secret >/etc/secret; chmod 600 /etc/secret");
        for deed in ["cat /etc/secret", "ls /root", "kill -0 1", "mount -t tmpfs x /mnt", "chroot / true", "ip link set lo down"] {
            let ended = ALICE.program(&["nssh", "-c", deed]);
            assert_ne!(ended.status.code(), Some(0), "{ended}");
        }
    }

    fn his_terminal_is_his_again_whatever_happens() {
        live_together();
        let mut terminal = Terminal::start(&["setpriv", "--reuid=1000", "--regid=1000", "--groups=50,2000", "bash", "--norc", "-i"]);
        terminal.prompt(0);
        let named = |name: &str| processes().into_iter().find(|(_, other)| other == name).map(|(pid, _)| pid);
        for end in ["exit 5", "sleep 1000"] {
            terminal.line("nssh");
            terminal.prompt(0);
            // The guard, which stays outside for the terminal, has no more rights than the user.
            let guard = named("kak-guard").unwrap();
            assert_eq!(process_field(guard, "Uid").as_deref(), Some("1000\t1000\t1000\t1000"));
            assert_eq!(process_field(guard, "CapPrm").as_deref(), Some("0000000000000000"));
            terminal.line(end);
            if end == "sleep 1000" {
                until("it runs", || named("sleep").is_some());
                ALICE.bash(&format!("kill -KILL {}", named("nssh").unwrap()));
                terminal.prompt(137);
                until("all of it is gone", || ["sleep", "kak-session", "kak-guard"].into_iter().all(|name| named(name).is_none()));
            } else {
                terminal.prompt(5);
                until("the guard is gone", || named("kak-guard").is_none());
            }
            terminal.line("echo a''live");
            terminal.wait_for("alive");
            terminal.prompt(0);
        }
    }

    fn he_is_in_all_that_the_jail_has_of_its_own() {
        move_in();
        sh("kak setup --allow alice --unshare ipc,cgroup,time --hostname inside");
        let links = "for kind in uts ipc cgroup time pid mnt net user; do readlink /proc/self/ns/$kind; done";
        assert_eq!(ALICE.bash(&format!("nssh -c '{links}'")), sh(&format!("kak nssh -- -c '{links}'")));
        assert_eq!(ALICE.bash("nssh -c 'hostname; head -n 1 /proc/self/cgroup | cut -d : -f 3'"), "inside\n/");
        assert_ne!(ALICE.run("nssh -c 'hostname other'").status.code(), Some(0));
        // --pty is not for guests: the set-user-ID nssh has no options of its own.
        assert_eq!(ALICE.bash("nssh --pty -c true 2>&1 || echo $?").lines().last(), Some("2"));
    }

    fn whoever_has_rights_to_inherit_has_none_inside() {
        live_together();
        // Inheritable and ambient capabilities survive an exec; the former even that of a set-user-ID program.
        let mut nssh = ALICE.command(
            &["--inh-caps=+net_raw,+chown", "--ambient-caps=+net_raw,+chown"],
            &["nssh", "-c", "grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status"],
        );
        let said = end(&mut nssh).code(0).text();
        assert_eq!(said.matches("\t0000000000000000\n").count(), 4, "{said}");
    }

    fn a_containers_capabilities_are_enough_for_a_join() {
        move_in();
        let links = "for name in mnt pid net uts ipc cgroup; do readlink /proc/self/ns/$name; done; hostname";
        // A container's default capabilities and the two that a jail needs: without CAP_SYS_PTRACE.
        let container = "--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,\
            +net_raw,+sys_chroot,+mknod,+audit_write,+setfcap,+sys_admin,+net_admin";
        sh(&format!("setpriv {container} --inh-caps=-all kak setup --allow alice --unshare uts,ipc,cgroup --hostname jailed"));
        let inside = sh(&format!("nssh -c '{links}'"));
        assert!(inside.ends_with("\njailed"), "{inside}");
        let mut nssh = ALICE.command(&[container], &["nssh", "-c", links]);
        assert_eq!(end(&mut nssh).code(0).text().trim(), inside);
        let ended = end(&mut ALICE.command(&["--bounding-set=-sys_admin"], &["nssh", "-c", links])).code(125).says("CAP_SYS_ADMIN");
        assert_eq!((ended.text().as_str(), ended.stderr.lines().count()), ("", 2), "{ended}");
    }

    fn only_those_are_let_in_who_are_named() {
        move_in();
        let mut expected = Vec::new();
        for (names, alice, bob) in [
            ("", false, false),
            ("alice", true, false),
            ("1000", true, false),
            // A group that alice is in, although /etc/group lists somebody else for it.
            ("staff", true, false),
            ("50", true, false),
            ("club", true, false),
            ("bob", false, true),
            ("bob staff", true, true),
            ("root", false, false),
            ("nogroup", false, false),
            ("daemon 65534", false, false),
        ] {
            let options: String = names.split_whitespace().map(|name| format!(" --allow {name}")).collect();
            sh(&format!("kak setup{options}"));
            for (person, admitted) in [(ALICE, alice), (BOB, bob)] {
                let ended = person.run("nssh -c 'id -u'");
                if admitted {
                    assert_eq!(ended.code(0).text(), format!("{}\n", person.user), "{options}");
                } else {
                    expected.push(refused(ended).stderr);
                }
            }
            // Root is let in in any case, by the copy too.
            assert_eq!(sh("nssh -c 'id -u'"), "0");
            sh("kak teardown");
        }
        assert!(expected.iter().all(|said| said.contains("--allow")), "{expected:?}");
        // Root's copy brings a jail up, as root's nssh does.
        assert_eq!(sh("/bin/nssh -c 'echo up'"), "up");
    }

    fn who_may_is_decided_when_he_comes() {
        move_in();
        sh("kak setup --allow club --allow alice");
        sh("sed -i 's/^alice:x:1000:/alice:x:1002:/' /etc/passwd /etc/group");
        ALICE.program(&["nssh", "-c", "true"]).code(0);
        sh("sed -i 's/^club:x:2000:/club:x:2001:/' /etc/group");
        refused(ALICE.program(&["nssh", "-c", "true"]));
        sh("sed -i 's/^club:x:2001:/club:x:50:/' /etc/group");
        ALICE.program(&["nssh", "-c", "true"]).code(0);
        sh("rm /etc/group /etc/passwd");
        refused(ALICE.program(&["nssh", "-c", "true"]));
    }

    fn nobody_is_named_who_is_nobody() {
        move_in();
        let before = dump();
        for name in ["carol", "1234567", "al", "x"] {
            run(&format!("kak setup --allow alice --allow {name}")).code(1).says(&format!("--allow {name}")).says("/etc/passwd");
        }
        for name in ["''", "-1", "'a b'", "4294967295", "a:b"] {
            run(&format!("kak setup --allow {name}")).code(2).says("--allow");
        }
        assert_same("refused", &before, &dump());
        // As with any other option, a jail that is up is not changed.
        sh("kak setup --allow alice");
        run("kak setup --allow alice --allow bob").code(1).says("other options");
        sh("kak setup --allow alice; kak setup");
        assert!(sh("kak setup --explain").contains("option allow alice"));
    }

    fn a_guests_status_is_the_commands() {
        live_together();
        for code in [0, 1, 7, 125, 255] {
            ALICE.program(&["nssh", "-c", &format!("exit {code}")]).code(code);
        }
        ALICE.program(&["nssh", "-c", "/no/such/program"]).code(127);
        ALICE.program(&["nssh", "-c", "/etc/passwd"]).code(126);
        assert_eq!(ALICE.bash("echo 'exit 5' | nssh || echo $?"), "5");
        for (name, number) in [("HUP", 1), ("INT", 2), ("QUIT", 3), ("KILL", 9), ("USR1", 10), ("TERM", 15), ("SEGV", 11)] {
            ALICE.program(&["nssh", "-c", &format!("exec sh -c 'kill -{name} $$; sleep 5'")]).signal(number);
        }
        assert_eq!(ALICE.bash("printf '%s\\n' 'a b' | nssh -c 'cat; printf %s \"$0|$1\"' '' 'c  d'"), "a b\n|c  d");
        sh("head -c 1048576 /dev/urandom >/tmp/in; chmod 644 /tmp/in");
        ALICE.bash("nssh -c cat </tmp/in >/tmp/out; cmp /tmp/in /tmp/out");
        // nssh itself prints nothing.
        let ended = ALICE.program(&["nssh", "-c", "true"]).code(0);
        assert_eq!((ended.text().as_str(), ended.stderr.as_str()), ("", ""));
    }

    fn he_sees_the_jail_and_nothing_else() {
        live_together();
        sh("mkdir -p /opt/outer; chmod 755 /opt/outer");
        let links = "for name in mnt pid net uts ipc user cgroup; do readlink /proc/self/ns/$name; done";
        assert_eq!(ALICE.bash(&format!("nssh -c '{links}'")), sh(&format!("nssh -c '{links}'")));
        assert_ne!(ALICE.bash(&format!("nssh -c '{links}'")), ALICE.bash(links));
        // It is not the outer directory by another name.
        assert_eq!(ALICE.bash("cd /opt/outer; nssh -c '/bin/pwd; readlink /proc/self/cwd; ls -A /opt'"), "/home/alice\n/home/alice");
        assert_eq!(ALICE.bash("nssh -c 'readlink /proc/self/root; ls -A /run/netns; ls /run/kak'"), "/\nshell");
        // ls opens the directory that it lists.
        assert_eq!(ALICE.bash("nssh -c 'ls /proc/self/fd | xargs' 9</ 200</etc 3</dev/null"), "0 1 2 3");
        assert_eq!(ALICE.bash("nssh -c 'ls -A /proc/$$/fd/0/; readlink /proc/$$/fd/0' </ 2>&1 | tail -n 1"), "/dev/null");
        let (mut nssh, shell) = stay();
        let open = sh(&format!("ls -l /proc/{shell}/fd | grep -o '[^ ]*$'"));
        assert!(!open.contains("socket:") && !open.contains("anon_inode") && !open.contains("net:"), "{open}");
        nssh.kill().unwrap();
        nssh.wait().unwrap();
    }

    fn root_is_not_seen_in_there_while_a_guest_comes() {
        live_together();
        // A session of root's in the jail looks at all processes again and again, and notes those with an ID 0 or a
        // capability, except init and that session itself.
        std::fs::write("/home/watch.py", r#"
import os, sys
seen, guests = set(), set()
mine = {1, os.getpid(), os.getppid()}
for line in open("/proc/%d/status" % os.getppid()):
    if line.startswith("PPid:"): mine.add(int(line.split()[1]))
while not os.path.exists("/home/alice/over"):
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in mine: continue
        try: text = open("/proc/%s/status" % name).read()
        except OSError: continue
        lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        ids = lines["Uid"].split() + lines["Gid"].split()
        rights = [lines["Cap" + kind].strip().strip("0") for kind in ("Inh", "Prm", "Eff", "Amb")]
        if "0" in ids or any(rights): seen.add((lines["Name"], tuple(ids), tuple(rights)))
        elif ids == ["1000"] * 8: guests.add(name)
print(len(guests), seen)
"#).unwrap();
        let watch = std::process::Command::new("nssh").args(["-c", "python3 /home/watch.py"]).stdout(Stdio::piped()).spawn().unwrap();
        until("the watch", || processes().values().any(|name| name == "python3"));
        ALICE.bash("for n in {1..300}; do nssh -c true; done; touch /home/alice/over");
        let said = String::from_utf8(watch.wait_with_output().unwrap().stdout).unwrap();
        let (guests, seen) = said.trim().split_once(' ').unwrap();
        assert_eq!(seen, "set()");
        assert!(guests.parse::<u32>().unwrap() > 30, "hardly any guest was seen: {said}");
    }

    fn a_login_shell_knows_its_user() {
        live_together();
        let login = |env: &str| ALICE.bash(&format!("env -i {env} bash -c 'exec -a -nssh nssh -c \"shopt -q login_shell && echo \\$0 \\$HOME \\$USER \\$LOGNAME \\$SHELL; pwd\"'"));
        assert_eq!(login("HOME=/root USER=root LOGNAME=root"), "-bash /home/alice alice alice /bin/bash\n/home/alice");
        assert_eq!(ALICE.bash("env -i nssh -c 'echo $HOME $USER $LOGNAME $SHELL'"), "/home/alice alice alice /bin/bash");
        // As from a login program, without a shell in between.
        let mut login = BOB.command(&[], &["nssh"]);
        sh("kak teardown; kak setup --allow bob");
        assert_eq!(end(login.args(["-c", "echo $USER"]).env_remove("USER").env_remove("LOGNAME")).text(), "bob\n");
    }

    fn in_the_jail_it_is_the_real_shell_of_whoever_calls_it() {
        live_together();
        let who = "nssh -c \"id -u; grep -E ^Cap.*[1-9a-f]$ /proc/self/status | grep -v Bnd; readlink /proc/\\$\\$/exe; true\"";
        let bash = sh("readlink -f /bin/bash");
        assert_eq!(ALICE.bash(&format!("nssh -c '{who}'")), format!("1000\n{bash}"));
        // Even for a user who could not join.
        refused(BOB.run("nssh -c id"));
        let said = sh(&format!("nssh -c 'setpriv --reuid=1001 --regid=1001 --clear-groups {who}'"));
        assert_eq!(said, format!("1001\n{bash}"));
        assert_eq!(ALICE.bash("nssh -c 'bash -c \"exec -a -nssh nssh -c \\\"shopt -q login_shell && echo \\\\\\$0\\\"\"'"), "-bash");
        assert_eq!(ALICE.bash("nssh -c 'ulimit -S -c 7; nssh -c \"ulimit -c\"'"), "7");
        // The set-user-ID copy refuses other names there, as outside.
        refused(ALICE.run("nssh -c 'bash -c \"exec -a kak nssh status\"'"));
    }

    fn his_terminal_and_his_jobs_are_his() {
        live_together();
        let said = ALICE.bash("printf 'tty; echo $-; id -u; stty size\nexit 3\n' | script -qec 'stty rows 33 cols 99; nssh --norc -i' /dev/null || echo status $?");
        assert!(!said.contains("job control") && !said.contains("cannot"), "{said}");
        for part in ["/dev/pts/", "him", "1000", "33 99", "status 3"] {
            assert!(said.contains(part), "no {part}: {said}");
        }
        // nssh stops when its shell stops, and continuing it continues the shell.
        assert_eq!(
            ALICE.bash("set -m; nssh -c 'kill -TSTP $$; exit 5' 2>/dev/null & until jobs -s | grep -q .; do :; done; kill -CONT %1; wait %1 || echo $?"),
            "5"
        );
        // nssh passes SIGTERM on to its shell.
        let script = "nssh -c 'trap \"exit 6\" TERM; touch $HOME/set; while :; do sleep 0.01; done' & until [ -e $HOME/set ]; do :; done; kill -TERM $!; wait $! || echo $?";
        assert_eq!(ALICE.bash(script), "6");
    }

    fn a_killed_monitor_takes_its_guest_along() {
        live_together();
        let (mut nssh, shell) = stay();
        let monitor: i64 = process_field(shell, "PPid").unwrap().parse().unwrap();
        assert_eq!(process_field(monitor, "Name").unwrap(), "kak-session");
        sh(&format!("kill -KILL {monitor}"));
        until("the shell's end", || !alive(shell));
        assert_eq!(nssh.wait().unwrap().code(), Some(137));
        // And a killed nssh takes its monitor and its shell along.
        let (mut nssh, shell) = stay();
        let monitor: i64 = process_field(shell, "PPid").unwrap().parse().unwrap();
        nssh.kill().unwrap();
        nssh.wait().unwrap();
        until("the shell's end", || !alive(shell) && !alive(monitor));
    }
}
