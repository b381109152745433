//! What ends or stops a session with a terminal of its own, and the state of the caller's terminal then.

use super::*;

sandboxed! {
    fn statuses_and_signals_come_out() {
        sh("kak setup");
        for code in [0, 1, 7, 125, 126, 127, 255] {
            let ended = piped(&["-c", &format!("exit {code}")], Stdio::null()).wait_with_output().unwrap();
            assert_eq!(ended.status.code(), Some(code), "{ended:?}");
            assert_eq!(Terminal::new(&watched(&format!("-c 'exit {code}'"))).ended(), code);
        }
        for (name, number) in [("HUP", 1), ("INT", 2), ("QUIT", 3), ("KILL", 9), ("USR1", 10), ("TERM", 15), ("SEGV", 11), ("PIPE", 13)] {
            let script = format!("exec sh -c 'kill -{name} $$; sleep 5'");
            let ended = piped(&["-c", &script], Stdio::null()).wait_with_output().unwrap();
            assert_eq!(ended.status.signal(), Some(number), "{ended:?}");
        }
        // A shell that cannot be executed is reported on the caller's terminal, whose modes are restored.
        sh("kak teardown; cp /bin/sh /var/shell; kak setup --shell /var/shell; rm /var/shell");
        let mut terminal = Terminal::new(&watched("-c true"));
        terminal.shows("kak: nssh: exec ");
        terminal.shows("\r\n");
        assert_eq!(terminal.ended(), 127);
        assert_eq!(sh("ls /root"), "", "a core was dumped");
    }

    fn the_modes_come_back_whatever_ends_it() {
        sh("kak setup");
        // An interactive shell ignores SIGTERM and most of the others, so nssh hangs it up.
        for (name, number) in [("HUP", 1), ("INT", 2), ("QUIT", 3), ("USR1", 10), ("ALRM", 14), ("TERM", 15)] {
            let terminal = Terminal::inside();
            assert!(terminal.is_raw());
            sh(&format!("kill -{name} {}", nssh()));
            assert_eq!(terminal.ended(), 128 + number, "{name}");
            nobody_inside();
        }
        // A session that handles the signal has its own status.
        let mut terminal = Terminal::new(&watched("-c \"trap 'exit 7' TERM; echo tra''ps; while :; do sleep 0.05; done\""));
        terminal.shows("traps");
        sh(&format!("kill -TERM {}", nssh()));
        assert_eq!(terminal.ended(), 7);
        // The jail goes away.
        let mut terminal = Terminal::inside();
        sh(&format!("kill -KILL {}", init("USER")));
        terminal.shows("kak: nssh: the jail is gone");
        assert_eq!(terminal.ended(), 137);
        let mut terminal = Terminal::inside();
        terminal.types("trap '' HUP TERM; echo tra''ps");
        terminal.shows("traps");
        sh("kak teardown");
        assert_eq!(terminal.ended(), 137);
        // The session cannot begin.
        let mut terminal = Terminal::new("exec setpriv --bounding-set -sys_admin --inh-caps -sys_admin kak nssh --pty");
        terminal.shows("CAP_SYS_ADMIN");
        assert_eq!(terminal.ended(), 125);
        sh("rm /dev/ptmx; kak setup");
        let mut terminal = Command::new("kak");
        terminal.args(["nssh", "--pty"]);
        end(&mut terminal).code(125).says("kak: nssh: open /dev/ptmx: No such file");
    }

    fn it_stops_with_the_terminal_as_it_was_and_goes_on() {
        sh("kak setup");
        let mut terminal = Terminal::outside();
        for how in ["from outside", "from inside"] {
            terminal.types("PS1='in''> ' kak nssh --pty -- --norc");
            terminal.prompt("in> ");
            until("it is raw", || terminal.is_raw());
            for round in 0..3 {
                if how == "from outside" {
                    sh(&format!("kill -TSTP {}", nssh()));
                } else {
                    terminal.types("kill -STOP $$");
                }
                terminal.shows("Stopped");
                terminal.prompt("out> ");
                until("it is stopped", is_stopped);
                terminal.types(&format!("stty -a | grep -o ' icanon'; stty rows {} cols 70; echo o''ut", 30 + round));
                terminal.shows(" icanon");
                terminal.shows("out\r\n");
                terminal.prompt("out> ");
                // In the background nssh stops at once, as it must not use the terminal.
                terminal.types("bg");
                terminal.prompt("out> ");
                terminal.lists_it_as_stopped();
                terminal.types("fg");
                until("it is raw again", || terminal.is_raw());
                terminal.types("");
                terminal.prompt("in> ");
                terminal.line("stty size", &format!("{} 70", 30 + round));
            }
            terminal.types("exit 5");
            terminal.prompt("out> ");
            terminal.types("echo status=$?");
            terminal.shows("status=5");
            terminal.prompt("out> ");
        }
        // SIGSTOP, which cannot be handled, and an end while it is stopped.
        terminal.types("PS1='in''> ' kak nssh --pty -- --norc");
        terminal.prompt("in> ");
        sh(&format!("kill -STOP {}", nssh()));
        terminal.shows("Stopped");
        terminal.prompt("out> ");
        terminal.types("fg");
        terminal.types("");
        terminal.prompt("in> ");
        terminal.line("echo still $((1 + 1))", "still 2");
        until("it is raw again", || terminal.is_raw());
        sh(&format!("kill -TSTP {}", nssh()));
        terminal.shows("Stopped");
        terminal.prompt("out> ");
        let stopped = nssh();
        terminal.types("kill %1");
        terminal.prompt("out> ");
        until("it is gone", || !alive(stopped));
        terminal.types("wait %1; echo status=$?");
        terminal.shows("status=143");
        nobody_inside();
        // It does not start in the background.
        terminal.types("kak nssh --pty -- -c 'echo be''gun' &");
        terminal.prompt("out> ");
        terminal.lists_it_as_stopped();
        terminal.types("fg");
        terminal.shows("begun");
        terminal.types("exit 0");
        assert_eq!(terminal.ended(), 0);
    }

    fn who_stays_behind_does_not_hold_it_up() {
        sh("kak setup");
        for stay in ["(trap '' HUP; exec yes) &", "(trap '' HUP; exec sleep 1000) &", "sleep 1000 & disown -a"] {
            // The output is read all the time, as it may be more than a pipe holds.
            let child = piped(&["-c", &format!("{stay} echo there; exit 3")], Stdio::null());
            let ended = child.wait_with_output().unwrap();
            assert_eq!(ended.status.code(), Some(3));
            let text = String::from_utf8_lossy(&ended.stdout).into_owned();
            assert!(text.contains("there"), "{text:?}");
        }
        // A shell that closes its terminal for a while is not at its end.
        let script = "exec </dev/null >/dev/null 2>&1; sleep 0.1; exec >/dev/tty; echo back; exit 4";
        let ended = piped(&["-c", script], Stdio::null()).wait_with_output().unwrap();
        assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stdout).trim()), (Some(4), "back"));
    }

    fn a_terminal_that_goes_away_takes_the_session_along() {
        sh("kak setup");
        let busy = "sleep 1000 & sleep 1000 | cat";
        for script in [
            // nssh is the terminal's session leader, or a job of a shell with job control, or a child of one without.
            &format!("exec kak nssh --pty -- -c '{busy}'"),
            &format!("exec kak nssh --pty -- --norc -ic '{busy}'"),
            &format!("exec bash --norc -ic \"kak nssh --pty -- -c '{busy}'; true\""),
            &format!("kak nssh --pty -- -c '{busy}'; true"),
            // In another session: nssh gets no SIGHUP.
            &format!("setsid -w kak nssh --pty -- -c '{busy}'"),
        ] {
            // Only script has the master end of the terminal.
            let mut emulator = Command::new("script").args(["-qec", script, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            until("the session runs", || sessions() == 1 && processes().values().filter(|name| *name == "sleep").count() == 2);
            let nssh = nssh();
            emulator.kill().unwrap();
            emulator.wait().unwrap();
            until("nssh is gone", || !alive(nssh));
            nobody_inside();
        }
        // nssh is killed, and cannot end the session itself.
        let _terminal = Terminal::new(&format!("exec kak nssh --pty -- -c '{busy}'"));
        until("the session runs", || sessions() == 1 && processes().values().any(|name| name == "sleep"));
        sh(&format!("kill -KILL {}", nssh()));
        nobody_inside();
    }

    fn a_first_process_that_does_not_reap_keeps_no_jail() {
        // As in a container that runs `sleep infinity`.
        Command::new("unshare").args(["--pid", "--mount-proc", "--fork", "--kill-child", "sleep", "1000"]).spawn().unwrap();
        until("it runs", || processes().values().any(|name| name == "sleep"));
        let pid = processes().into_iter().find(|(_, name)| name == "sleep").map(|(pid, _)| pid).unwrap();
        let there = |script: &str| sh(&format!("nsenter -t {pid} -p -m sh -ec '{script}'"));
        for _ in 0..5 {
            there("kak setup >/dev/null");
            for _ in 0..5 {
                assert_eq!(there("kak nssh --pty -- -c \"echo in\" </dev/null").trim(), "in");
            }
            there("kak teardown");
        }
    }
}
