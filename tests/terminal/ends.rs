//! How a session ends: by itself, by a signal, with its terminal or with the jail.

use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

/// Sends a signal to one process.
fn kill(signal: &str, pid: i64) {
    sh(&format!("kill -{signal} {pid}"));
}

/// Waits until no process of a session is left, in the jail or outside.
#[track_caller]
fn nobody_is_left() {
    let of_the_jail = ["kak-init", "kak-keeper", "kak-dns"];
    until("only the jail's own are left", || {
        let all: Vec<String> = processes().into_values().collect();
        println!("{all:?}");
        all.iter().all(|name| of_the_jail.contains(&name.as_str()))
    });
}

sandboxed! {
    fn a_killed_nssh_takes_its_shell_along() {
        at_each_prompt(|terminal, _, inner| {
            terminal.line("nssh -c 'sleep 1000; true'");
            one("sleep 1000");
            kill("KILL", named("nssh")[0]);
            terminal.prompt(137);
            until("it is gone", || running("sleep 1000").is_empty());
            enter(terminal, "nssh");
            if inner == "/bin/bash" {
                terminal.line("trap 'echo hang''up >/tmp/hangup' EXIT");
                terminal.wait_for("<0> ");
            }
            terminal.line("sleep 1001 & sleep 1000");
            one("sleep 1000");
            one("sleep 1001");
            kill("KILL", one("nssh"));
            terminal.prompt(137);
            until("all of it is gone", || ["sleep", "kak-session", "kak-guard"].into_iter().all(|name| named(name).is_empty()));
            if inner == "/bin/bash" {
                assert_eq!(sh("cat /mnt/user/tmp/hangup; rm /mnt/user/tmp/hangup"), "hangup", "its shell could not run its EXIT trap");
            }
            // And the outer shell goes on reading, although the one in the jail took the terminal once more when it
            // ended.
            for _ in 0..3 {
                terminal.line("echo a''live");
                terminal.wait_for("alive");
                terminal.prompt(0);
            }
        });
    }

    fn a_killed_init_leaves_a_terminal_as_it_was() {
        at_each_prompt(|terminal, _, _| {
            let before = terminal.modes();
            let gone = |terminal: &mut Terminal| {
                one("sleep 1000");
                assert_ne!(terminal.modes(), before);
                kill("KILL", init("USER"));
                terminal.wait_for("the jail is gone");
                terminal.prompt(137);
                until("the modes are as before", || terminal.modes() == before);
                terminal.line("echo a''live");
                terminal.wait_for("alive");
                terminal.prompt(0);
            };
            terminal.line("nssh -c 'stty raw -echo; sleep 1000; true'");
            gone(terminal);
            // The same if a program of an interactive session has changed the modes.
            enter(terminal, "nssh");
            terminal.line("stty raw -echo; sleep 1000");
            gone(terminal);
        });
    }

    fn a_terminal_that_closes_takes_all_along() {
        for inner in SHELLS {
            sh(&format!("kak setup --shell {inner}"));
            for outer in SHELLS {
                println!("{outer} with {inner} in the jail");
                let mut terminal = Terminal::shell(outer);
                enter(&mut terminal, "nssh");
                terminal.line("sleep 1001 &");
                terminal.wait_for("<0> ");
                terminal.line("sleep 1000");
                one("sleep 1000");
                one("sleep 1001");
                terminal.close();
                nobody_is_left();

                let mut terminal = Terminal::shell(outer);
                terminal.line("nssh -c 'sleep 1000; true'");
                one("sleep 1000");
                terminal.close();
                nobody_is_left();
            }
            // nssh as the terminal's session leader, as under sshd and docker exec: at the prompt, and with a command
            // running.
            for line in ["", "sleep 1000"] {
                let mut terminal = Terminal::start(&["nssh"]);
                terminal.prompt(0);
                terminal.line("sleep 1001 &");
                terminal.prompt(0);
                one("sleep 1001");
                terminal.line(line);
                if !line.is_empty() {
                    one(line);
                }
                terminal.close();
                nobody_is_left();
            }
            let mut terminal = Terminal::start(&["nssh", "-c", "trap '' HUP; echo re''ady; sleep 1000; true"]);
            terminal.wait_for("ready");
            one("sleep 1000");
            terminal.close();
            until("nssh is gone", || named("nssh").is_empty());
            // A process that ignores SIGHUP stays, as it would outside.
            kill("KILL", one("sleep 1000"));
            sh("kak teardown");
        }
    }

    fn who_has_a_session_of_his_own_outlives_the_terminal() {
        sh("kak setup");
        let mut terminal = Terminal::start(&["nssh"]);
        terminal.prompt(0);
        terminal.line("setsid -f sleep 1001; nohup sleep 1002 >/dev/null 2>&1 & disown");
        let (own, nohup) = (one("sleep 1001"), one("sleep 1002"));
        terminal.close();
        until("the session is gone", || named("kak-session").is_empty());
        assert!(alive(own) && alive(nohup));
    }

    fn a_signal_to_nssh_is_for_its_command() {
        at_each_prompt(|terminal, _, _| {
            for (signal, untrapped) in [("TERM", 143), ("HUP", 129)] {
                terminal.line("nssh -c 'sleep 1000 & wait; true'");
                one("sleep 1000");
                kill(signal, named("nssh")[0]);
                terminal.prompt(untrapped);
                // A shell that SIGTERM ends leaves what it has started, as outside; with SIGHUP, that ends too.
                if signal == "TERM" {
                    kill("KILL", one("sleep 1000"));
                }
                until("sleep is gone", || running("sleep 1000").is_empty());
                terminal.line(&format!("nssh -c 'trap \"echo trap''ped; exit 3\" {signal}; echo re''ady; while :; do sleep 0.1; done'"));
                terminal.wait_for("ready");
                kill(signal, named("nssh")[0]);
                terminal.wait_for("trapped");
                terminal.prompt(3);
            }
        });
    }

    fn a_signal_to_nssh_is_for_its_shell() {
        at_each_prompt(|terminal, _, _| {
            enter(terminal, "nssh");
            // An interactive shell ignores SIGTERM, and ends by SIGHUP.
            kill("TERM", one("nssh"));
            terminal.line("echo still he''re");
            terminal.wait_for("still here");
            terminal.wait_for("<0> ");
            kill("HUP", one("nssh"));
            terminal.prompt(129);
        });
    }

    fn a_signal_to_the_whole_group_is_only_that_signal() {
        for inner in SHELLS {
            sh(&format!("kak setup --shell {inner}"));
            // A shell that traps SIGTERM does not get SIGHUP besides.
            let script = "trap 'echo trapped; exit 3' TERM; echo ready >/tmp/ready; while :; do sleep 0.1; done";
            let session = Command::new("setsid").args(["nssh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            until("it is ready", || Path::new("/mnt/user/tmp/ready").exists());
            sh(&format!("kill -TERM -{}; rm /mnt/user/tmp/ready", session.id()));
            let ended = session.wait_with_output().unwrap();
            assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(3), &b"trapped\n"[..]), "{inner}");
            sh("kak teardown");
        }
    }

    fn what_the_caller_ignores_does_not_end_it() {
        sh("kak setup");
        let ignoring = |signals: &str| {
            Command::new("env")
                .arg(signals)
                .args(["setsid", "nssh", "-c", "echo ready >/tmp/ready; read line </tmp/go; exit 5"])
                .spawn()
                .unwrap()
        };
        sh("mkfifo /mnt/user/tmp/go");
        for how in ["--ignore-signal=HUP,TERM", "--block-signal=HUP,TERM"] {
            let mut session = ignoring(how);
            until("it is ready", || Path::new("/mnt/user/tmp/ready").exists());
            sh(&format!("kill -HUP {0}; kill -TERM {0}; rm /mnt/user/tmp/ready", session.id()));
            sh("echo >/mnt/user/tmp/go");
            assert_eq!(session.wait().unwrap().code(), Some(5), "{how}");
        }
    }

    fn a_stop_that_nobody_took_notice_of_does_not_get_in_between() {
        at_each_prompt(|terminal, _, _| {
            terminal.line("nssh -c \"trap '' TSTP; echo re''ady; sleep 1000\"");
            terminal.wait_for("ready");
            one("sleep 1000");
            terminal.keys(SUSPEND);
            terminal.wait_for("^Z");
            terminal.keys(INTERRUPT);
            terminal.prompt(130);
        });
    }

    fn an_order_that_comes_too_late_costs_no_status() {
        sh("kak setup; mkfifo /mnt/user/tmp/go");
        let mut session = Command::new("nssh").args(["-c", "read line </tmp/go; exit 7"]).spawn().unwrap();
        until("there is a shell", || named("bash").len() == 1);
        let (monitor, shell, nssh) = (named("kak-session")[0], named("bash")[0], i64::from(session.id()));
        kill("STOP", monitor);
        until("the monitor is stopped", || is_stopped(monitor));
        // nssh passes the signal on to a monitor that will first find its shell dead.
        kill("TERM", nssh);
        let field = |name| process_field(nssh, name).unwrap();
        until("nssh has passed it on", || field("ShdPnd") == "0000000000000000" && field("State").starts_with('S'));
        sh("echo >/mnt/user/tmp/go");
        until("the shell has ended", || !alive(shell));
        kill("CONT", monitor);
        assert_eq!(session.wait().unwrap().code(), Some(7));
    }
}
