//! The duties of a first process: of a jail's init, of the keeper outside, and of kak as a container's entrypoint.

use std::process::{Child, Command, Stdio};

use crate::sandbox::terminal::Terminal;
use crate::sandbox::*;

/// A Perl program that calls reboot(2), to power off or to restart. In a PID namespace that kills the namespace's init
/// and ends the caller at once, so a child makes the call, and the session lasts until init's end.
const REBOOT: &str = r#"
    readlink "/run/kak/shell" or die "not in a jail";
    my %call = (x86_64 => 169, aarch64 => 142);
    chomp(my $machine = `uname -m`);
    fork or syscall($call{$machine}, 0xfee1dead, 672274793, $ARGV[0] eq "off" ? 0x4321fedc : 0x01234567, 0);
    sleep 1000"#;

/// The PID of the keeper, init's parent, as seen outside the jail.
fn keeper() -> i64 {
    process_field(init("USER"), "PPid")
        .unwrap()
        .parse()
        .unwrap()
}

/// A command that runs kak as PID 1 of a PID namespace, as an engine does in a container, or as a child of this `init`.
fn container(init: &[&str], command: &[&str]) -> Command {
    let mut container = Command::new("unshare");
    container.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    container
        .args(init)
        .args(["kak", "setup"])
        .args(command)
        .stdin(Stdio::null());
    container
}

/// An init like that of `docker run --init`: it runs one command, passes signals on, and ends with its status.
const INIT: &[&str] = &["timeout", "--foreground", "1000"];

/// Waits until a container's jail is up; the PID of its keeper, as seen outside the container.
#[track_caller]
fn keeper_of(container: &Child) -> i64 {
    let mut found = None;
    until("the jail is up", || {
        let all = processes();
        found = all
            .iter()
            .find(|(_, name)| *name == "kak-keeper")
            .map(|(pid, _)| *pid);
        all.values().any(|name| name == "kak-init") && found.is_some() && container.id() > 0
    });
    found.unwrap()
}

sandboxed! {
    fn a_reboot_in_the_jail_ends_it_in_order() {
        sh("mkdir /srv; kak setup --hide srv");
        for how in ["off", "again"] {
            let before = (init("USER"), keeper());
            program(&["nssh", "-c", "exec perl -e \"$0\" $1", REBOOT, how]).code(137).says("the jail is gone");
            until("its keeper is gone", || !alive(before.1) && !alive(before.0));
            assert_eq!(sh("cat /run/kak/USER/log"), "");
            // What was set up outside is still there for the next init: no process in the jail can undo it.
            assert_eq!(sh("nssh -c 'ls -A /srv; echo again'"), "again");
            assert_ne!(init("USER"), before.0);
            assert!(sh("cat /run/kak/USER/record").contains("srv"));
        }
    }

    fn a_reboot_ends_a_jail_that_was_for_one_session() {
        uplink::plug();
        let before = dump();
        for how in ["off", "again"] {
            program(&["kak", "setup", "--", "perl", "-e", REBOOT, how]).code(0).says("the jail is gone");
            assert_same("a reboot", &lasting(&before), &lasting(&dump()));
        }
        // If init is killed from outside, the status is 137.
        let session = Command::new("kak").args(["setup", "--", "sleep", "1000"]).stderr(Stdio::piped()).spawn().unwrap();
        until("it runs", || processes().values().any(|name| name == "sleep"));
        sh(&format!("kill -KILL {}", init("USER")));
        let ended = session.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(137));
        until("nobody is left", || processes().is_empty());
    }

    fn a_reboot_ends_the_container() {
        for init in [&[][..], INIT] {
            for how in ["off", "again"] {
                let ended = container(init, &["--", "perl", "-e", REBOOT, how]).output().unwrap();
                assert_eq!(ended.status.code(), Some(0), "{ended:?}");
                assert!(String::from_utf8_lossy(&ended.stderr).contains("the jail is gone"), "{ended:?}");
            }
            // The same without a first session.
            let mut container = container(init, &[]).spawn().unwrap();
            let keeper = keeper_of(&container);
            let exec = ["--target", &keeper.to_string(), "--mount", "--pid", "nssh", "-c", "exec perl -e \"$0\" off", REBOOT];
            Command::new("nsenter").args(exec).stderr(Stdio::null()).status().unwrap();
            assert_eq!(container.wait().unwrap().code(), Some(0));
        }
    }

    fn an_init_of_the_containers_own_changes_nothing() {
        for init in [&[][..], INIT] {
            for (words, code) in [("exit 4", 4), ("kill -TERM $$", 143), ("exit 0", 0)] {
                let ended = container(init, &["--", "sh", "-c", &format!("echo $(readlink /proc/self/ns/pid); {words}")]).output().unwrap();
                assert_eq!(ended.status.code(), Some(code), "{init:?} {words}: {ended:?}");
                let said = String::from_utf8(ended.stdout).unwrap();
                assert!(said.starts_with("pid:") && said.trim() != sh("readlink /proc/self/ns/pid"), "{said}");
            }
            // Without a first session it stays up; a signal to the keeper ends it, also below an init.
            for (signal, code) in [("TERM", 143), ("INT", 130), ("QUIT", 131), ("HUP", 129)] {
                let mut container = container(init, &[]).spawn().unwrap();
                let keeper = keeper_of(&container);
                assert!(container.try_wait().unwrap().is_none());
                sh(&format!("kill -{signal} {keeper}"));
                assert_eq!(container.wait().unwrap().code(), Some(code), "{init:?} {signal}");
            }
        }
        // A shell as PID 1 goes on after setup and teardown.
        let script = "kak setup >/dev/null; echo $?; kak status >/dev/null; echo $?; kak teardown";
        let ended = end(Command::new("unshare").args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]));
        assert_eq!(ended.text(), "0\n0\n");
    }

    fn the_first_session_of_a_container_is_on_its_terminal() {
        let unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
        for init in [&[][..], INIT] {
            for shell in ["/bin/bash", "/bin/dash"] {
                println!("{shell} under {init:?}");
                let mut terminal = Terminal::start(&[&unshare[..], init, &["kak", "setup", "--shell", shell]].concat());
                terminal.prompt(0);
                terminal.line("echo $(( $$ > 1 )) $(ls /sys/class/net | tr '\\n' ' ')");
                terminal.wait_for("1 eth0 lo");
                terminal.prompt(0);
                terminal.line("sleep 1000");
                until("sleep runs", || processes().values().any(|name| name == "sleep"));
                terminal.keys("\x03");
                terminal.prompt(130);
                // A stopped shell is continued at once: there is no shell outside that could do so.
                terminal.line("kill -STOP $$; echo go''es on");
                terminal.wait_for("goes on");
                terminal.prompt(0);
                terminal.line("exit 9");
                assert_eq!(terminal.end().0.code(), Some(9));
            }
        }
    }

    fn signals_are_blocked_and_not_handled() {
        sh("kak setup");
        let mut session = Command::new("nssh").args(["-c", "exec sleep 1000"]).spawn().unwrap();
        until("the session is there", || processes().values().any(|name| name == "sleep"));
        // All but SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS, what cannot be blocked, and what is musl's own.
        let faults: u64 = [4, 5, 6, 7, 8, 11, 31, 9, 19, 32, 33, 34].map(|number| 1 << (number - 1)).iter().sum();
        for (pid, name) in processes() {
            let mask = |field| u64::from_str_radix(&process_field(pid, field).unwrap(), 16).unwrap();
            if ["kak-init", "kak-keeper", "kak-session"].contains(&name.as_str()) {
                assert_eq!(mask("SigBlk") | faults, u64::MAX, "{name}");
                assert_eq!(mask("SigCgt"), 0, "{name}");
            }
        }
        // So no signal that is sent to init from within the jail has any effect.
        for signal in ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "TSTP", "STOP", "KILL", "SEGV"] {
            sh(&format!("nssh -c 'kill -{signal} 1'"));
        }
        assert_eq!(sh("nssh -c 'echo still'"), "still");
        session.kill().unwrap();
        session.wait().unwrap();
    }

    fn what_the_caller_has_done_to_his_signals_is_not_for_init() {
        uplink::plug();
        let before = dump();
        for how in [&["--ignore-signal"][..], &["--block-signal"], &["--ignore-signal", "--block-signal"]] {
            for first in [&["kak", "setup"][..], &["nssh", "-c", "exit 0"]] {
                end(Command::new("env").args(how).args(first)).code(0);
                sh("nssh -c '(sleep 0.05 &) ; (true &)'");
                until("no zombie", || sh("grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l") == "0");
                let mut session = Command::new("nssh").args(["-c", "exec sleep 1000"]).spawn().unwrap();
                until("the session is there", || processes().values().any(|name| name == "sleep"));
                // Teardown ends init by a signal, and that ends the session by one.
                end(Command::new("env").args(how).args(["kak", "teardown"])).code(0);
                assert!(!session.wait().unwrap().success());
                assert_same("a life", &lasting(&before), &lasting(&dump()));
            }
        }
        until("nobody is left", || processes().is_empty());
    }

    fn a_keeper_that_is_told_to_end_takes_everything_back() {
        uplink::plug();
        let before = dump();
        for signal in ["TERM", "INT", "HUP", "QUIT"] {
            sh("kak setup");
            let keeper = keeper();
            for other in ["USR1", "USR2", "WINCH", "TSTP", "TTIN", "TTOU", "CONT", "ALRM"] {
                sh(&format!("kill -{other} {keeper}"));
            }
            assert_eq!(sh("nssh -c 'echo still'"), "still");
            sh(&format!("kill -{signal} {keeper}"));
            until("the keeper is gone", || !alive(keeper));
            assert_same(signal, &lasting(&before), &lasting(&dump()));
        }
    }

    fn the_end_of_input_ends_a_shell_and_changes_nothing() {
        sh("kak setup; echo 'IGNOREEOF=3; echo mine' >/root/.bashrc; cp /root/.bashrc /var/before");
        program(&["nssh"]).code(0);
        assert_eq!(sh("printf 'echo a; exit 3' | nssh || echo $?"), "a\n3");
        let mut terminal = Terminal::start(&["nssh"]);
        let said = terminal.prompt(0);
        assert!(said.contains("mine"), "{said}");
        // The user's IGNOREEOF holds: the first three are ignored.
        for _ in 0..3 {
            terminal.keys("\x04");
            terminal.wait_for("exit");
            terminal.prompt(0);
        }
        terminal.keys("\x04");
        assert_eq!(terminal.end().0.code(), Some(0));
        sh("cmp /root/.bashrc /var/before");
    }

    fn a_relay_that_was_killed_is_started_again() {
        sh("umount /etc/resolv.conf; echo nameserver 127.0.0.53 >/etc/resolv.conf");
        let relays = || {
            let all = processes().into_iter();
            all.filter(|(_, name)| name == "kak-dns").map(|(pid, _)| pid).collect::<Vec<_>>()
        };
        let check = |keeper: i64| {
            let mut killed = Vec::new();
            let lives = |killed: &[i64]| matches!(relays()[..], [pid] if !killed.contains(&pid));
            for nth in 0..4 {
                until(&format!("it lives, {nth} times before"), || lives(&killed));
                killed.push(relays()[0]);
                sh(&format!("kill -KILL {}", killed[nth]));
            }
            // After three restarts it is no longer restarted at once: the relay may be unable to run.
            until("it is reaped", || process_field(killed[3], "State").is_none());
            std::thread::sleep(std::time::Duration::from_millis(200));
            assert!(relays().is_empty() && alive(keeper));
            std::thread::sleep(std::time::Duration::from_secs(8));
            until("it lives again", || lives(&killed));
        };
        for init in [&[][..], INIT] {
            let mut container = container(init, &[]).spawn().unwrap();
            let keeper = keeper_of(&container);
            check(keeper);
            sh(&format!("kill {keeper}"));
            assert_eq!(container.wait().unwrap().code(), Some(143));
        }
        sh("kak setup");
        check(keeper());
    }

    fn a_container_whose_jail_has_lost_its_state_ends_with_its_last_session() {
        let mut container = container(&[], &["--", "sh", "-c", "cat; exit 4"])
            .stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let keeper = keeper_of(&container);
        let cats = || processes().values().filter(|name| *name == "cat").count();
        until("the first session is there", || cats() == 1);
        let mut other = Command::new("nsenter")
            .args(["--target", &keeper.to_string(), "--mount", "--pid", "nssh", "-c", "exec cat"])
            .stdin(Stdio::piped()).spawn().unwrap();
        until("the other session is there", || cats() == 2);
        sh("rm -r /run/kak");
        drop(container.stdin.take());
        until("the first is over", || cats() == 1);
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(container.try_wait().unwrap().is_none() && cats() == 1, "the container ended other sessions");
        drop(other.stdin.take());
        assert!(other.wait().unwrap().success());
        until("the container has ended", || container.try_wait().unwrap().is_some());
        // Without the record it cannot know what to take back, and says so.
        let ended = container.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(1) && said.contains("but no record of it"), "{said}");
    }

    fn nobody_in_the_jail_passes_for_somebody_outside() {
        sh("kak setup");
        let first = init("USER");
        let mut session = Command::new("nssh").args(["-c", "exec sleep 1000"]).spawn().unwrap();
        until("the session is there", || processes().values().any(|name| name == "sleep"));
        // Forged signals to init and to both sessions' monitors, its own among them.
        let forge = r#"
import ctypes, fcntl, os, platform, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
SIGQUEUEINFO = {"x86_64": 129, "aarch64": 138}[platform.machine()]
monitors = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and open(f"/proc/{pid}/comm").read() == "kak-session\n"]
assert len(monitors) == 2
for pid in [1, *monitors]:
    for number in signal.SIGTERM, signal.SIGUSR1:
        for sender in 0, 1:
            # si_signo, si_errno, si_code (SI_QUEUE), nothing, si_pid, si_uid
            info = (ctypes.c_int * 32)(number, 0, -1, 0, sender, 0)
            assert libc.syscall(SIGQUEUEINFO, pid, number, info) == 0, os.strerror(ctypes.get_errno())
        # A signal by the kernel itself, for input on a pipe.
        reader, writer = os.pipe()
        fcntl.fcntl(reader, fcntl.F_SETOWN, pid)
        fcntl.fcntl(reader, fcntl.F_SETSIG, number)
        fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
        os.write(writer, b"x")
"#;
        program(&["nssh", "-c", "exec python3 -c \"$0\"", forge]).code(0);
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(alive(first) && session.try_wait().unwrap().is_none());
        session.kill().unwrap();
        session.wait().unwrap();
        // Without a session, init would now end if it had taken one of them for a request to.
        sh("nssh -c true");
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(init("USER"), first);
        // SIGTERM from outside ends it at once; SIGHUP, which is blocked, would not.
        sh(&format!("kill {first}"));
        until("it has ended", || !alive(first));
    }
}
