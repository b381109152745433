//! `kak setup -- CMD`: the process that waits for the first session ends with its status or signal, whoever ends it.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::sandbox::*;

/// Starts a jail with a first session, and waits until that runs.
fn start(script: &str) -> Child {
    sh("rm -f /var/runs");
    let script = format!(">/var/runs; {script}");
    let child = Command::new("kak")
        .args(["setup", "--", "bash", "-c", &script])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the session runs", || {
        std::path::Path::new("/var/runs").exists()
    });
    child
}

/// Sends a signal to this process only, from outside the jail.
fn kill(signal: &str, child: &Child) {
    sh(&format!("kill -{signal} {}", child.id()));
}

/// Waits for the process, and asserts that by then everything has been taken back.
#[track_caller]
fn end(mut child: Child, machine: &str) -> ExitStatus {
    let status = child.wait().unwrap();
    assert_same("the first session and its jail", machine, &dump());
    until("nobody is left", || processes().is_empty());
    status
}

sandboxed! {
    fn it_dies_of_the_signal_that_its_session_died_of() {
        let before = dump();
        for (name, number) in [("TERM", 15), ("INT", 2), ("KILL", 9), ("SEGV", 11)] {
            program(&["kak", "setup", "--", "sh", "-c", &format!("kill -{name} $$; sleep 5")]).signal(number);
            assert_same(name, &before, &dump());
        }
        assert_eq!(sh("ls /root"), "", "a core was dumped");
    }

    fn what_is_to_end_it_ends_its_session() {
        uplink::plug();
        let before = dump();
        for (name, number) in [("TERM", 15), ("HUP", 1)] {
            let child = start("sleep 1000");
            kill(name, &child);
            assert_eq!(end(child, &before).signal(), Some(number), "{name}");
        }
        // If the session handles the signal, its exit status counts.
        let child = start("trap 'exit 5' TERM; >/var/trapped; while :; do sleep 0.05; done");
        until("it is trapped", || std::path::Path::new("/var/trapped").exists());
        kill("TERM", &child);
        assert_eq!(end(child, &before).code(), Some(5));
        program(&["timeout", "1", "kak", "setup", "--", "sleep", "1000"]).code(124);
        assert_same("timeout", &before, &dump());
        until("nobody is left", || processes().is_empty());
    }

    fn what_its_caller_ignores_does_not_end_it() {
        let before = dump();
        let child = Command::new("sh")
            .args(["-c", "trap '' HUP TERM; exec kak setup -- sh -c 'echo $$ >/var/pid; sleep 1000'"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the session runs", || !std::fs::read_to_string("/var/pid").unwrap_or_default().is_empty());
        for name in ["HUP", "TERM"] {
            kill(name, &child);
        }
        sh("nssh -c 'kill -0 $(cat /var/pid)'");
        kill("INT", &child);
        sh("nssh -c 'kill -0 $(cat /var/pid); kill -KILL $(cat /var/pid)'; rm /var/pid");
        assert_eq!(end(child, &before).signal(), Some(9));
    }

    fn who_does_not_want_to_wait_for_the_others_need_not() {
        let before = dump();
        let mut child = start("until [ -e /var/go ]; do sleep 0.05; done");
        let mut other = Command::new("nssh").args(["-c", "sleep 1000"]).spawn().unwrap();
        until("two sessions", || json("kak status --json")["sessions"].as_array().is_some_and(|all| all.len() == 2));
        sh("touch /var/go");
        until("one session", || json("kak status --json")["sessions"].as_array().is_some_and(|all| all.len() == 1));
        sh("rm /var/go /var/runs");
        until("it dies of an interrupt", || {
            kill("INT", &child);
            child.try_wait().unwrap().is_some_and(|status| status.signal() == Some(2))
        });
        // The jail stays up for the other session, until that ends.
        sh("kak status");
        sh("kak kill --all");
        other.wait().unwrap();
        until("nobody is left", || processes().is_empty());
        assert_same("the others", &before, &dump());
    }
}
