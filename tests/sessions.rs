//! The sessions of a jail: how they are listed, and ended by `kak kill`.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::sandbox::terminal::Terminal;
use crate::sandbox::*;

/// The sessions that `kak status` lists.
fn listed() -> Vec<Value> {
    json("kak status --json || test $? = 3")["sessions"]
        .as_array()
        .unwrap()
        .clone()
}

/// Starts a session with no input and no standard error.
fn start(script: &str) -> Child {
    Command::new("nssh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// How many processes have this name.
fn named(name: &str) -> usize {
    processes().values().filter(|other| *other == name).count()
}

/// A Python program: gives the PID of a process that has ended to another one, which has nothing to do with kak.
const STRANGER: &str = r#"
import os, sys
wanted = int(sys.argv[1])
for attempt in range(1000):
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(wanted - 1))
    pid = os.fork()
    if pid == 0:
        if os.getpid() == wanted:
            os.setsid()
            # Else a reader of our output would wait for the end of this process, too.
            os.closerange(0, 3)
            os.execlp("sleep", "stranger", "1000")
        os._exit(0)
    if pid == wanted:
        sys.exit(0)
    os.waitpid(pid, 0)
sys.exit(f"{wanted} is taken")
"#;

sandboxed! {
    fn a_session_is_listed_with_all_that_tells_it_from_others() {
        sh("kak setup");
        assert!(listed().is_empty());
        let mut session = start("exec sleep 1000");
        until("it is listed", || listed().len() == 1 && listed()[0]["command"] == "sleep 1000");
        let one = listed()[0].clone();
        assert_eq!((one["uid"].as_u64(), one["user"].as_str()), (Some(0), Some("root")));
        assert_eq!(one["terminal"], "no terminal");
        let pid = one["pid"].as_i64().unwrap();
        assert_eq!(process_field(pid, "Name").as_deref(), Some("sleep"));
        let seconds = one["seconds"].as_u64().unwrap();
        until("it grows old", || listed()[0]["seconds"].as_u64().unwrap() > seconds);
        let text = sh("kak status");
        let line = text.lines().last().unwrap();
        assert!(line.starts_with(&format!("session {pid}  root  no terminal  ")) && line.ends_with(" s  sleep 1000"), "{line}");
        sh(&format!("kak kill {pid}"));
        assert!(!session.wait().unwrap().success());

        let mut terminal = Terminal::shell("/bin/bash");
        terminal.line("tty");
        let name = sh(&format!("readlink /proc/{}/fd/0", terminal.pid()));
        terminal.wait_for(&name);
        terminal.prompt(0);
        terminal.line("nssh");
        terminal.prompt(0);
        assert_eq!(listed()[0]["terminal"], name.trim_start_matches("/dev/"));
        // The user chose the words: control characters in them are not printed as such.
        terminal.line("exec bash -c 'read line' $'\\e[2J' $'\\n' end");
        until("it is another command", || listed()[0]["command"] == "bash -c read line ?[2J ? end");
        sh("kak kill --all");
        terminal.prompt(129);
        assert!(listed().is_empty());
        // Nor are the characters by which kak encodes bytes that are no text: these would become an escape and a quote.
        let mut session = start("exec bash -c 'sleep 1000; true' $'\\364\\217\\274\\233[2J' $'\\364\\217\\274\\242'");
        let command = "bash -c sleep 1000; true ?[2J ?";
        until("it is listed", || listed().first().is_some_and(|one| one["command"] == command));
        let text = String::from_utf8(run("kak status").stdout).unwrap();
        assert!(text.ends_with(&format!(" s  {command}\n")) && !text.contains('\u{1b}'), "{text:?}");
        sh("kak kill --all");
        session.wait().unwrap();
    }

    fn what_a_shell_has_left_behind_is_no_session() {
        sh("kak setup");
        let mut session = start("(sleep 1000 &); (setsid sleep 1001 &); exec sleep 1002");
        until("all run", || named("sleep") == 3);
        assert_eq!(listed().len(), 1);
        assert_eq!(listed()[0]["command"], "sleep 1002");
        sh("kak kill --all");
        assert!(!session.wait().unwrap().success());
        until("what has no session of its own is gone", || named("sleep") == 1);
        assert!(listed().is_empty());
    }

    fn a_session_is_ended_with_what_it_has_started() {
        sh("kak setup");
        // The sleeps have no process group of their own.
        let mut one = start("sleep 1000; true");
        let mut two = start("sh -c 'sleep 1000; true'; true");
        until("both run", || named("sleep") == 2 && listed().len() == 2);
        sh(&format!("kak kill {}", listed()[0]["pid"]));
        until("one is gone", || named("sleep") == 1);
        sh(&format!("kak kill {}", listed()[0]["pid"]));
        until("both are gone", || named("sleep") == 0);
        assert!(!one.wait().unwrap().success() && !two.wait().unwrap().success());
    }

    fn a_stopped_session_is_ended() {
        sh("kak setup");
        let mut session = start("kill -STOP $$");
        let stopped = |pid: i64| process_field(pid, "State").is_some_and(|state| state.starts_with('T'));
        until("it is stopped", || listed().first().is_some_and(|one| stopped(one["pid"].as_i64().unwrap())));
        sh("kak kill --all");
        until("it is not listed", || listed().is_empty());
        sh(&format!("kill -CONT {}", session.id()));
        assert!(!session.wait().unwrap().success());
    }
    fn a_session_is_over_as_soon_as_anybody_knows() {
        sh("kak setup");
        let mut session = start("exec sleep 1000");
        until("it is listed", || listed().first().is_some_and(|one| one["command"] == "sleep 1000"));
        let shell = listed()[0]["pid"].as_i64().unwrap();
        let monitor = process_field(shell, "PPid").unwrap();
        sh(&format!("kill -STOP {monitor}; kill -KILL {shell}"));
        until("the shell is dead", || process_field(shell, "State").unwrap().starts_with('Z'));
        assert!(listed().is_empty(), "a shell that nobody has reaped yet");
        sh(&format!("kill -CONT {monitor}"));
        assert!(!session.wait().unwrap().success());
        // A monitor that has passed on the status, and still exists: the process that its shell has left is no session.
        let mut session = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", "inject=exit_group:delay_enter=2000000", "nssh", "-c", "(setsid sleep 1000 &); exit 3"])
            .spawn()
            .unwrap();
        until("the session is over", || named("kak-over") == 1);
        assert!(listed().is_empty(), "{:?}", listed());
        // strace would wait for the process that is left, too.
        session.kill().unwrap();
        session.wait().unwrap();
    }

    fn whose_number_has_gone_to_another_is_not_ended() {
        sh("kak setup");
        for (nth, what) in [(3, "what a shell has started"), (2, "a shell")] {
            let mut session = start("sleep 1000; exec sleep 1001");
            until("it runs", || named("sleep") == 1 && listed().len() == 1);
            let shell = listed()[0]["pid"].as_i64().unwrap();
            let child: i64 = sh(&format!("cat /proc/{shell}/task/{shell}/children")).parse().unwrap();
            let victim = if nth == 2 { shell } else { child };
            // kak first calls pidfd_open(2) for init.
            let mut kill = Command::new("strace")
                .args(["-qq", "-o", "/dev/null", "-e", "trace=pidfd_open", "-e", &format!("inject=pidfd_open:delay_enter=3000000:when={nth}")])
                .args(["kak", "kill", "--all"])
                .spawn()
                .unwrap();
            let call = format!("434 {victim:#x} ");
            let calls = |pid: &i64| std::fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|text| text.starts_with(&call));
            until("it is about to be pinned", || processes().iter().any(|(pid, name)| name == "kak" && calls(pid)));
            sh(&format!("kill -KILL {victim}"));
            until("it is gone", || process_field(victim, "State").is_none());
            program(&["python3", "-c", STRANGER, &victim.to_string()]).code(0);
            until("a stranger has its number", || sh(&format!("tr '\\0' ' ' </proc/{victim}/cmdline")) == "stranger 1000");
            assert!(kill.wait().unwrap().success(), "{what}");
            session.wait().unwrap();
            assert!(alive(victim), "{what}");
            run(&format!("kill -KILL {victim} {child}"));
            until("nobody is left", || named("sleep") == 0);
        }
    }
}
