//! Sessions: arguments, statuses, signals, descriptors, environment.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::sandbox::*;

sandboxed! {
    fn the_status_is_the_commands() {
        sh("kak setup");
        for code in [0, 1, 7, 125, 255] {
            program(&["nssh", "-c", &format!("exit {code}")]).code(code);
        }
        program(&["nssh", "-c", "/no/such/program"]).code(127);
        program(&["nssh", "-c", "/etc/passwd"]).code(126);
        assert_eq!(sh("echo 'exit 5' | nssh || echo $?"), "5");
    }

    fn a_command_that_cannot_start_has_its_status() {
        std::fs::write("/var/plain", "text").unwrap();
        std::fs::set_permissions("/var/plain", std::fs::Permissions::from_mode(0o644)).unwrap();
        program(&["kak", "setup", "--", "/no/such/program"]).code(127).says("/no/such/program");
        program(&["kak", "setup", "--", "no-such-program"]).code(127).says("no-such-program");
        program(&["kak", "setup", "--", "/var/plain"]).code(126).says("/var/plain");
        program(&["kak", "setup", "--", "/etc"]).code(126);
        program(&["kak", "setup", "--", "sh", "-c", "exit 3"]).code(3);
    }

    fn killed_by_a_signal_it_dies_of_the_same() {
        sh("kak setup");
        for (name, number) in [("HUP", 1), ("INT", 2), ("QUIT", 3), ("KILL", 9), ("USR1", 10), ("TERM", 15), ("SEGV", 11)] {
            // By way of sh: bash itself ignores SIGQUIT.
            program(&["nssh", "-c", &format!("exec sh -c 'kill -{name} $$; sleep 5'")]).signal(number);
        }
        assert_eq!(sh("nssh -c 'kill -TERM $$' || echo $?").lines().last(), Some("143"));
        assert_eq!(sh("ls /root"), "", "a core was dumped");
    }

    fn our_own_failure_is_125() {
        let cap = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"];
        let ended = program(&[&cap[..], &["nssh", "-c", "echo outside"]].concat()).code(125).says("CAP_SYS_ADMIN");
        assert_eq!(ended.text(), "", "a shell out here");
        sh("kak setup");
        let ended = program(&[&cap[..], &["nssh", "-c", "echo outside"]].concat()).code(125).says("CAP_SYS_ADMIN");
        assert_eq!(ended.text(), "", "a shell out here");
    }

    fn arguments_arrive_byte_for_byte() {
        sh("kak setup");
        let odd: [&[u8]; 8] = [b"", b" ", b"a b", b"new\nline", b"\xff\xfe", b"--help", b"-n", b"'\"$`\\*"];
        let ended = end(Command::new("nssh")
            .args(["-c", "printf '%s\\0' \"$0\" \"$@\"", "zero"])
            .args(odd.map(OsStr::from_bytes)));
        let wanted: Vec<u8> = [&b"zero"[..]].iter().chain(odd.iter()).flat_map(|word| [word, &b"\0"[..]].concat()).collect();
        assert_eq!(ended.code(0).stdout, wanted);
        // Not one of them is kak's: these are all the shell's.
        assert_eq!(sh("nssh -c 'echo \"$0 $1\"' x y"), "x y");
        assert_eq!(sh("nssh --norc -c 'echo norc'"), "norc");
        assert_eq!(sh("nssh --help | head -n 1"), sh("bash --help | head -n 1"));
        assert_eq!(sh("nssh --version"), sh("bash --version"));
        assert_eq!(sh("kak nssh -- --version"), sh("bash --version"));
        assert_eq!(sh("kak nssh -n USER -- -c 'echo own'"), "own");
    }

    fn a_dash_makes_a_login_shell() {
        sh("kak setup");
        assert_eq!(sh("bash -c 'exec -a -nssh nssh -c \"shopt -q login_shell && echo \\$0\"'"), "-bash");
        assert_eq!(sh("nssh -c 'shopt -q login_shell || echo no'"), "no");
        assert_eq!(sh("nssh -lc 'shopt -q login_shell && echo yes'"), "yes");
    }

    fn it_is_silent() {
        // The first one too, which makes the jail.
        for _ in 0..2 {
            let ended = program(&["nssh", "-c", "true"]).code(0);
            assert_eq!((ended.text().as_str(), ended.stderr.as_str()), ("", ""));
        }
        sh("head -c 1048576 /dev/urandom >/tmp/in; nssh -c cat </tmp/in >/tmp/out; cmp /tmp/in /tmp/out");
        sh("nssh -c 'cat >&2' </tmp/in 2>/tmp/err; cmp /tmp/in /tmp/err");
        sh("head -c 4194304 /dev/zero | nssh -c 'cat; cat' | nssh -c cat | cmp -n 4194304 - /dev/zero");
    }

    fn a_first_session_leaves_nothing_in_the_callers_pipe() {
        // Were the caller's pipe held by init or the keeper, its reader would wait for ever.
        assert_eq!(sh("nssh -c 'echo first' 2>&1 | cat"), "first");
    }

    fn broken_pipes_are_as_outside() {
        sh("kak setup");
        assert_eq!(sh("nssh -c 'yes | head -n 1; echo ${PIPESTATUS[0]}'"), "y\n141");
        assert_eq!(sh("bash -c 'nssh -c \"yes\" | head -n 1; echo ${PIPESTATUS[0]}'"), "y\n141");
    }

    fn signal_masks_and_dispositions_are_as_outside() {
        sh("kak setup");
        let fields = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
        assert_eq!(sh(&format!("nssh -c \"{fields}\"")), sh(&format!("bash -c \"{fields}\"")));
        let ignoring = |shell: &str| sh(&format!("trap '' HUP USR1 PIPE; {shell} -c \"{fields}\""));
        assert_eq!(ignoring("nssh"), ignoring("bash"));
        assert_ne!(ignoring("bash"), sh(&format!("bash -c \"{fields}\"")));
    }

    fn the_directory_is_kept_where_it_exists() {
        sh("mkdir -p /opt/only/outside /srv/both; chmod 750 /srv; kak setup");
        assert_eq!(sh("cd /usr/share; nssh -c pwd"), "/usr/share");
        assert_eq!(sh("cd /srv/both; nssh -c 'pwd; /bin/pwd'"), "/srv/both\n/srv/both");
        // Not the outer directory by another name.
        assert_eq!(sh("cd /opt/only/outside; HOME=/root nssh -c 'pwd; /bin/pwd'"), "/root\n/root");
        assert_eq!(sh("cd /opt/only/outside; HOME=/no/where nssh -c /bin/pwd 2>/dev/null"), "/");
        // A login begins at home.
        assert_eq!(sh("cd /usr/share; bash -c 'exec -a -nssh nssh -c pwd'"), "/root");
    }

    fn the_environment_is_kept_and_completed() {
        sh("kak setup");
        assert_eq!(sh("MARK=1 nssh -c 'echo $MARK $SHELL'"), "1 /bin/bash");
        assert_eq!(sh("env -i PATH=/bin:/usr/bin nssh -c 'echo $HOME $USER $LOGNAME'"), "/root root root");
        assert_eq!(sh("LISTEN_FDS=1 LISTEN_PID=1 NOTIFY_SOCKET=/x nssh -c 'echo $LISTEN_FDS$LISTEN_PID$NOTIFY_SOCKET'"), "");
        assert_eq!(sh("umask 027; nssh -c umask"), "0027");
    }

    fn closed_standard_descriptors_are_no_trouble() {
        sh("kak setup");
        run("nssh -c 'exit 3' <&- >&- 2>&-").code(3);
        run("nssh -c 'exit 3' <&-").code(3);
        assert_eq!(sh("nssh -c 'readlink /proc/self/fd/0' <&-"), "/dev/null");
        assert_eq!(run("nssh -c 'readlink /proc/$$/fd/0 /proc/$$/fd/1 >&2' <&- >&-").stderr, "/dev/null\n/dev/null\n");
    }

    fn a_terminal_is_the_same_inside() {
        sh("kak setup");
        let said = sh("script -qec 'stty rows 33 cols 99; nssh -c \"stty size; echo \\$-; test -t 0 && echo tty\"' /dev/null </dev/null");
        assert!(said.contains("33 99") && said.contains("tty"), "{said}");
        // An interactive shell has job control and does not complain about it.
        let said = sh("printf 'echo $-\\nexit\\n' | script -qec 'nssh --norc -i' /dev/null");
        assert!(!said.contains("job control") && !said.contains("cannot set terminal"), "{said}");
    }

    fn sessions_are_listed_and_ended() {
        sh("kak setup");
        let children: Vec<_> = (0..3)
            .map(|_| Command::new("nssh").args(["-c", "trap '' HUP TERM; while :; do sleep 1000; done"]).stderr(Stdio::null()).spawn().unwrap())
            .collect();
        let listed = || json("kak status --json")["sessions"].as_array().unwrap().clone();
        until("three sessions", || listed().len() == 3);
        let first = listed()[0].clone();
        let id = first["id"].as_i64().or_else(|| first["session"].as_i64()).or_else(|| first["pid"].as_i64()).unwrap_or_else(|| panic!("{first}"));
        sh(&format!("kak kill {id}"));
        until("two sessions", || listed().len() == 2);
        assert!(listed().iter().all(|session| *session != first), "the wrong one ended");
        sh("kak kill --all");
        until("no session", || listed().is_empty());
        for mut child in children {
            assert!(!child.wait().unwrap().success());
        }
        program(&["kak", "kill", "999999"]).code(1).says("999999");
        sh("nssh -c true");
    }

    fn no_program_is_run_but_the_shell() {
        uplink::plug();
        // strace stays with the keeper that a command leaves behind, so only the command itself is waited for.
        let traced = |command: &str| -> Vec<String> {
            Command::new("strace")
                .args(["-f", "-qq", "-e", "trace=execve,execveat", "-e", "signal=none", "-o", "/tmp/trace"])
                .args(["sh", "-c", &format!("{command} >/dev/null; touch /tmp/done")])
                .spawn()
                .unwrap();
            until(command, || std::path::Path::new("/tmp/done").exists());
            let execs = sh("rm /tmp/done; grep -v ENOENT /tmp/trace");
            execs.lines().filter(|line| !line.contains("\"sh\"") && !line.contains("\"touch\"")).skip(1).map(str::to_owned).collect()
        };
        assert_eq!(traced("kak setup"), [""; 0]);
        let execs = traced("nssh -c 'exit 0'");
        assert!(execs.len() == 1 && execs[0].contains("\"/bin/bash\""), "{execs:?}");
        assert_eq!(traced("kak status"), [""; 0]);
        assert_eq!(traced("kak teardown"), [""; 0]);
    }
}
