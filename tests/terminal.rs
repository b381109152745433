//! Terminals: on a real one, nssh behaves like the shell that it runs.

use crate::sandbox::terminal::{END, INTERRUPT, QUIT, SUSPEND, Terminal};
use crate::sandbox::*;

/// How a session ends: by itself, by a signal, with its terminal or with the jail.
mod ends;
/// What a session gets from its caller, which may have no terminal, or one for some descriptors only.
mod starts;

/// The shells that are tried, in the jail and outside, in all combinations.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/dash"];

/// Does something at the prompt of each outer shell, with each shell as the jail's.
fn at_each_prompt(mut act: impl FnMut(&mut Terminal, &str, &str)) {
    for inner in SHELLS {
        sh(&format!("kak setup --shell {inner}"));
        for outer in SHELLS {
            println!("{outer} with {inner} in the jail");
            let mut terminal = Terminal::shell(outer);
            act(&mut terminal, outer, inner);
            terminal.line("exit 0");
            assert!(terminal.end().0.success());
        }
        sh("kak teardown");
    }
}

/// The PIDs of the processes, in jails too, whose command line is exactly these words.
fn running(words: &str) -> Vec<i64> {
    let wanted: Vec<&str> = words.split(' ').collect();
    let is_wanted = |pid: i64| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
            line.trim_end_matches('\0')
                .split('\0')
                .eq(wanted.iter().copied())
        })
    };
    // Not nssh's own helpers, which are forks that have not executed anything.
    let all = processes().into_iter();
    all.filter(|(pid, name)| !name.starts_with("kak-") && is_wanted(*pid))
        .map(|(pid, _)| pid)
        .collect()
}

/// Waits until exactly one process has these words as its command line; its PID.
#[track_caller]
fn one(words: &str) -> i64 {
    until(&format!("one {words}"), || running(words).len() == 1);
    running(words)[0]
}

/// The PIDs of the processes of this name.
fn named(name: &str) -> Vec<i64> {
    processes()
        .into_iter()
        .filter(|(_, other)| other == name)
        .map(|(pid, _)| pid)
        .collect()
}

/// Whether a process is stopped.
fn is_stopped(pid: i64) -> bool {
    process_field(pid, "State").is_some_and(|state| state.starts_with('T'))
}

/// Enters the jail by nssh, and sets a prompt there that differs from the outer one.
#[track_caller]
fn enter(terminal: &mut Terminal, command: &str) {
    terminal.line(command);
    terminal.prompt(0);
    terminal.line("PS1='<$?> '");
    terminal.wait_for("<0> ");
}

sandboxed! {
    fn a_trapped_interrupt_is_the_commands() {
        at_each_prompt(|terminal, _, _| {
            terminal.line("nssh -c \"exec bash -c 'trap \\\"echo cau''ght\\\" INT; echo re''ady; sleep 2; exit 5'\"");
            terminal.wait_for("ready");
            terminal.keys(INTERRUPT);
            terminal.wait_for("caught");
            terminal.prompt(5);
        });
    }

    fn an_interrupt_ends_the_command_before_the_prompt_is_back() {
        at_each_prompt(|terminal, _, _| {
            terminal.line("nssh -c 'sleep 1000'");
            one("sleep 1000");
            terminal.keys(INTERRUPT);
            terminal.prompt(130);
            assert!(running("sleep 1000").is_empty());
            // A command that takes its time to end.
            terminal.line("nssh -c \"exec bash -c 'trap \\\"sleep 0.3; echo la''st; trap - INT; kill -INT \\\\\\$\\\\\\$\\\" INT; echo re''ady; while :; do sleep 1; done'\"");
            terminal.wait_for("ready");
            terminal.keys(INTERRUPT);
            terminal.wait_for("last");
            terminal.prompt(130);
        });
    }

    fn an_interrupt_ends_the_whole_loop() {
        at_each_prompt(|terminal, _, _| {
            terminal.line("for i in 1 2 3; do echo round''$i; nssh -c 'sleep 1000'; done");
            terminal.wait_for("round1");
            one("sleep 1000");
            terminal.keys(INTERRUPT);
            let said = terminal.prompt(130);
            assert!(!said.contains("round2"), "{said}");
        });
    }

    fn a_quit_is_one() {
        at_each_prompt(|terminal, _, _| {
            terminal.line("ulimit -c unlimited; cd /var");
            terminal.prompt(0);
            terminal.line("nssh -c 'ulimit -c 0; sleep 1000'");
            one("sleep 1000");
            terminal.keys(QUIT);
            terminal.wait_for("Quit");
            terminal.prompt(131);
        });
        assert_eq!(sh("ls /var | grep core || true"), "", "a core of nssh's own");
    }

    fn one_stop_takes_one_fg() {
        at_each_prompt(|terminal, _, _| {
            terminal.line("nssh -c 'sleep 1; echo fin''ished'");
            let sleep = one("sleep 1");
            terminal.keys(SUSPEND);
            terminal.wait_for("Stopped");
            terminal.prompt(148);
            until("sleep is stopped", || is_stopped(sleep));
            terminal.line("jobs");
            terminal.wait_for("Stopped");
            terminal.prompt(0);
            assert!(is_stopped(sleep), "it goes on running");
            terminal.line("fg");
            terminal.wait_for("finished");
            terminal.prompt(0);
            terminal.line("jobs");
            assert!(!terminal.prompt(0).contains("nssh"));
        });
    }

    fn suspend_gives_the_outer_shell_back() {
        at_each_prompt(|terminal, _, inner| {
            enter(terminal, "nssh");
            terminal.line(if inner == "/bin/bash" { "suspend" } else { "kill -STOP $$" });
            terminal.wait_for("Stopped");
            terminal.prompt(147);
            for _ in 0..2 {
                terminal.line("echo out''side");
                terminal.wait_for("outside");
                terminal.prompt(0);
            }
            terminal.line("fg");
            terminal.wait_for("nssh");
            terminal.line("echo in''side");
            terminal.wait_for("inside");
            terminal.wait_for("<0> ");
            terminal.line("exit 4");
            terminal.prompt(4);
        });
    }

    fn a_shell_in_the_background_waits_for_fg() {
        at_each_prompt(|terminal, _, _| {
            terminal.line("nssh &");
            terminal.prompt(0);
            until("it is stopped", || running("nssh").iter().any(|pid| is_stopped(*pid)));
            until("it is listed as stopped", || {
                terminal.line("jobs");
                terminal.prompt(0).contains("Stopped")
            });
            terminal.line("fg");
            terminal.wait_for("nssh");
            terminal.prompt(0);
            terminal.line("PS1='<$?> '");
            terminal.wait_for("<0> ");
            terminal.line("exit 3");
            terminal.prompt(3);
        });
    }

    fn a_reader_in_the_background_stops() {
        at_each_prompt(|terminal, _, _| {
            terminal.line("nssh -c cat &");
            terminal.prompt(0);
            let cat = one("cat");
            let nssh = one("nssh -c cat");
            until("both are stopped", || is_stopped(cat) && is_stopped(nssh));
            // And none of the processes wakes up meanwhile.
            let monitor = named("kak-session")[0];
            let switches = || {
                let of = |pid| ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"].map(|field| process_field(pid, field));
                [cat, nssh, monitor].map(of)
            };
            let before = switches();
            terminal.line("nssh -c 'echo me''anwhile'");
            terminal.wait_for("meanwhile");
            terminal.prompt(0);
            assert_eq!(switches(), before);
            terminal.line("fg");
            until("both go on", || !is_stopped(cat) && !is_stopped(nssh));
            terminal.line("ec''ho");
            terminal.wait_for("ec''ho\r\nec''ho");
            terminal.keys(END);
            terminal.prompt(0);
        });
    }

    fn a_pager_reads_the_keys() {
        at_each_prompt(|terminal, _, _| {
            terminal.line("nssh -c 'seq 1 1000' | less");
            terminal.wait_for("\r\n23\r\n");
            terminal.keys("G");
            terminal.wait_for("\r\n1000\r\n");
            terminal.keys("q");
            terminal.prompt(0);
        });
    }

    fn the_windows_size_arrives() {
        at_each_prompt(|terminal, _, _| {
            terminal.resize(31, 101);
            terminal.line("nssh -c 'stty size'");
            terminal.wait_for("31 101");
            terminal.prompt(0);
            terminal.line("nssh -c \"trap 'stty size; exit 6' WINCH; echo re''ady; while :; do sleep 0.1; done\"");
            terminal.wait_for("ready");
            terminal.resize(32, 102);
            terminal.wait_for("32 102");
            terminal.prompt(6);
            enter(terminal, "nssh");
            terminal.resize(33, 103);
            terminal.line("stty size");
            terminal.wait_for("33 103");
            terminal.line("exit");
            terminal.prompt(0);
        });
    }
}
