//! What a session gets from its caller, which may have no terminal, or one for some descriptors only.

use super::*;

/// A command that prints the lines of /proc/self/status about signals.
const SIGNALS: &str = "exec grep -E '^(Sig[PBIC]|Shd)' /proc/self/status";

sandboxed! {
    fn statuses_are_the_commands() {
        at_each_prompt(|terminal, _, inner| {
            for (command, status) in [
                ("exit 7", 7),
                ("/no/such/program", 127),
                ("no-such-program", 127),
                ("/etc/passwd", 126),
                ("kill -TERM $$", 143),
                ("kill -KILL $$", 137),
                ("exec sh -c \"kill -SEGV \\$\\$\"", 139),
                ("exit 255", 255),
            ] {
                for caller in [inner, "nssh"] {
                    terminal.line(&format!("{caller} -c '{command}'"));
                    terminal.prompt(status);
                }
            }
        });
    }

    fn masks_and_dispositions_are_the_callers() {
        for inner in SHELLS {
            sh(&format!("kak setup --shell {inner}"));
            for how in [
                &[][..],
                &["--ignore-signal=INT"],
                &["--ignore-signal=QUIT,PIPE,CHLD"],
                &["--ignore-signal=HUP,TERM,TSTP,TTIN,TTOU,CONT,ALRM"],
                &["--block-signal=INT,CHLD,PIPE,HUP,TERM,USR2"],
                &["--block-signal=TSTP,TTIN,TTOU", "--ignore-signal=TSTP,WINCH"],
                &["nohup"],
            ] {
                let said = |shell: &str| {
                    let words = [&["env"], how, &[shell, "-c", SIGNALS]].concat();
                    program(&words).code(0).text()
                };
                assert_eq!(said("nssh"), said(inner), "{inner} {how:?}");
            }
            sh("kak teardown");
        }
    }

    fn masks_and_dispositions_are_the_callers_on_a_terminal() {
        at_each_prompt(|terminal, _, inner| {
            let said = |terminal: &mut Terminal, shell: &str| {
                terminal.line(&format!("{shell} -c \"{SIGNALS}\" | sort"));
                terminal.wait_for("ShdPnd:");
                terminal.prompt(0)
            };
            let (outside, inside) = (said(terminal, inner), said(terminal, "nssh"));
            assert_eq!(inside, outside);
            // For what an interactive shell starts, too.
            terminal.line(inner);
            terminal.prompt(0);
            terminal.line("grep ^Sig /proc/self/status");
            terminal.wait_for("SigQ");
            let outside = terminal.prompt(0);
            terminal.line("exit");
            terminal.prompt(0);
            terminal.line("nssh");
            terminal.prompt(0);
            terminal.line("grep ^Sig /proc/self/status");
            terminal.wait_for("SigQ");
            let inside = terminal.prompt(0);
            terminal.line("exit");
            terminal.prompt(0);
            assert_eq!(fields(&inside), fields(&outside));
        });
    }

    fn a_caller_that_ignores_its_children_learns_their_status() {
        let run = |words: &[&str]| program(&[&["env", "--ignore-signal=CHLD"], words].concat());
        // The jail is also brought up by such a caller.
        run(&["nssh", "-c", "exit 7"]).code(7);
        sh("nssh -c '(sleep 0.05 &)'");
        until("no zombie", || sh("grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l") == "0");
        run(&["kak", "setup"]).code(0);
        run(&["kak", "teardown"]).code(0);
        run(&["kak", "setup", "--", "sh", "-c", "exit 4"]).code(4);
        run(&["kak", "setup", "--", "sh", "-c", "kill -TERM $$"]).signal(15);
        until("nobody is left", || processes().is_empty());
    }

    fn without_a_terminal_nothing_is_said() {
        for inner in SHELLS {
            sh(&format!("kak setup --shell {inner}"));
            for how in ["", "setsid -w"] {
                let wanted = sh("id");
                let ended = run(&format!("{how} nssh -c id </dev/null 2>&1 | cat"));
                assert_eq!(ended.text(), format!("{wanted}\n"), "{inner} {how}");
                let ended = run(&format!("echo 'id; exit 3' | {how} nssh"));
                assert_eq!((ended.text(), ended.stderr.as_str()), (format!("{wanted}\n"), ""), "{inner} {how}");
                // The shell's own messages come once.
                let words = |shell: &str| run(&format!("echo 'id -u; exit 3' | {how} {shell} -i 2>&1 >/dev/null | tr -d '0-9-'")).text();
                let name = inner.rsplit('/').next().unwrap();
                assert_eq!(words("nssh"), words(name), "{inner} {how}");
            }
            sh("kak teardown");
        }
    }

    fn half_a_terminal_is_as_good_as_outside() {
        at_each_prompt(|terminal, _, _| {
            // Standard input, output or error is not the terminal.
            for line in ["echo 'tty; ec''ho do''ne' | nssh", "nssh -c 'tty; ec''ho do''ne' | cat", "nssh -c 'tty; ec''ho do''ne' 2>/dev/null"] {
                terminal.line(line);
                terminal.wait_for("done");
                terminal.prompt(0);
            }
        });
    }

    fn without_an_outer_shell_it_is_one() {
        for inner in SHELLS {
            sh(&format!("kak setup --shell {inner}"));
            let stop = if inner == "/bin/bash" { "suspend" } else { "kill -STOP $$" };
            for argv in [
                &["nssh"][..],
                &["script", "-qec", "nssh", "/dev/null"],
                &["sh", "-c", "nssh; exit $?"],
            ] {
                println!("{argv:?} with {inner} in the jail");
                let mut terminal = Terminal::start(argv);
                let said = terminal.prompt(0);
                assert!(!said.contains("job control") && !said.contains("annot"), "{said}");
                terminal.line("sleep 1000");
                one("sleep 1000");
                terminal.keys(INTERRUPT);
                terminal.prompt(130);
                terminal.line("sleep 1000");
                let sleep = one("sleep 1000");
                terminal.keys(SUSPEND);
                terminal.wait_for("Stopped");
                terminal.prompt(148);
                until("sleep is stopped", || is_stopped(sleep));
                terminal.line("fg");
                until("sleep goes on", || !is_stopped(sleep));
                terminal.keys(INTERRUPT);
                terminal.prompt(130);
                // No shell could continue it, so it does not stay stopped.
                if argv == ["nssh"] {
                    terminal.line(stop);
                    terminal.line("echo go''es on");
                    terminal.wait_for("goes on");
                    terminal.prompt(0);
                }
                terminal.line("exit 9");
                assert_eq!(terminal.end().0.code(), Some(9));
            }
            sh("kak teardown");
        }
    }

    fn the_terminal_goes_back_to_a_caller_without_job_control() {
        at_each_prompt(|terminal, _, _| {
            terminal.line("sh -c 'nssh; read line; echo re''ad $line'");
            terminal.prompt(0);
            terminal.line("exit");
            terminal.line("a line");
            terminal.wait_for("read a line");
            terminal.prompt(0);
        });
    }

    fn nobody_starts_a_shell_where_nobody_could_bring_it_to_the_front() {
        at_each_prompt(|terminal, _, _| {
            // Its parent has ended, so its process group is no shell's job, and another group has the terminal.
            terminal.line("(sh -c 'until set -- $(cat /proc/$$/stat); test $4 = 1 -a $5 != $8; do :; done; nssh -i; echo sta''tus=$?' </dev/tty &)");
            let said = terminal.wait_for("status=125");
            assert!(said.contains("another job has the terminal"), "{said}");
            terminal.line("");
            terminal.line("echo a''live");
            terminal.wait_for("alive");
            terminal.prompt(0);
        });
    }

    fn a_shell_that_nobody_could_bring_to_the_front_again_is_hung_up() {
        at_each_prompt(|terminal, _, _| {
            sh("mkfifo /mnt/user/tmp/go");
            terminal.line("(nssh -ic 'echo >/tmp/ready; read line </tmp/go; read line' </dev/tty & until test -e /mnt/user/tmp/ready; do :; done)");
            terminal.prompt(0);
            sh("echo >/mnt/user/tmp/go");
            until("it is gone", || ["nssh", "kak-session", "kak-guard"].into_iter().all(|name| named(name).is_empty()));
            sh("rm /mnt/user/tmp/*");
            terminal.line("echo a''live");
            terminal.wait_for("alive");
            terminal.prompt(0);
        });
    }

    fn a_shell_in_the_background_stops_even_if_its_caller_ignores_that() {
        at_each_prompt(|terminal, _, _| {
            for how in ["--ignore-signal=TTIN", "--block-signal=TTIN"] {
                terminal.line(&format!("env {how} nssh &"));
                terminal.prompt(0);
                until("it is stopped", || named("nssh").iter().any(|pid| is_stopped(*pid)));
                terminal.line("fg");
                terminal.wait_for("nssh");
                terminal.prompt(0);
                terminal.line("exit 3");
                terminal.prompt(3);
            }
        });
    }

    fn a_command_that_has_a_terminal_for_itself_can_be_a_shell() {
        for shell in SHELLS {
            let mut terminal = Terminal::start(&["kak", "setup", "--", shell]);
            terminal.prompt(0);
            terminal.line("exit 6");
            let (status, said) = terminal.end();
            assert_eq!(status.code(), Some(6), "{said}");
            assert!(!said.contains("annot"), "{said}");
        }
    }
}

/// The fields of a status about signals that are blocked, ignored or caught.
fn fields(said: &str) -> Vec<String> {
    said.lines()
        .filter(|line| {
            ["SigBlk", "SigIgn", "SigCgt"]
                .iter()
                .any(|field| line.starts_with(field))
        })
        .map(|line| line.trim().to_owned())
        .collect()
}
