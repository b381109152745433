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
            // Through sh, as bash itself ignores SIGQUIT.
            program(&["nssh", "-c", &format!("exec sh -c 'kill -{name} $$; sleep 5'")]).signal(number);
        }
        assert_eq!(sh("nssh -c 'kill -TERM $$' || echo $?").lines().last(), Some("143"));
        assert_eq!(sh("ls /root"), "", "a core was dumped");
    }

    fn our_own_failure_is_125() {
        let cap = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"];
        let ended = program(&[&cap[..], &["nssh", "-c", "echo outside"]].concat()).code(125).says("CAP_SYS_ADMIN");
        assert_eq!(ended.text(), "", "a shell outside");
        sh("kak setup");
        let ended = program(&[&cap[..], &["nssh", "-c", "echo outside"]].concat()).code(125).says("CAP_SYS_ADMIN");
        assert_eq!(ended.text(), "", "a shell outside");
    }

    fn arguments_arrive_byte_for_byte() {
        sh("kak setup");
        let odd: [&[u8]; 8] = [b"", b" ", b"a b", b"new\nline", b"\xff\xfe", b"--help", b"-n", b"'\"$`\\*"];
        let ended = end(Command::new("nssh")
            .args(["-c", "printf '%s\\0' \"$0\" \"$@\"", "zero"])
            .args(odd.map(OsStr::from_bytes)));
        let wanted: Vec<u8> = [&b"zero"[..]].iter().chain(odd.iter()).flat_map(|word| [word, &b"\0"[..]].concat()).collect();
        assert_eq!(ended.code(0).stdout, wanted);
        // kak takes none of them as its own: they are all the shell's.
        assert_eq!(sh("nssh -c 'echo \"$0 $1\"' x y"), "x y");
        assert_eq!(sh("nssh --norc -c 'echo norc'"), "norc");
        assert_eq!(sh("nssh --help | head -n 1"), sh("bash --help | head -n 1"));
        assert_eq!(sh("nssh --version"), sh("bash --version"));
        assert_eq!(sh("kak nssh -- --version"), sh("bash --version"));
        assert_eq!(sh("kak nssh -n USER -- -c 'echo own'"), "own");
    }

    fn any_words_do_what_they_do_with_bash() {
        sh("kak setup; echo 'printf \"<%s>\" \"$0\" \"$@\" $-; exit 4' >/srv.sh; mv /srv.sh /var/script; chmod 755 /var/script");
        let show = "printf '<%s>' \"$0\" \"$@\" $-; shopt -q login_shell; exit $?";
        let lists: &[&[&str]] = &[
            &["-c", show],
            &["-c", show, "x", "y"],
            &["-c", "", "x"],
            &["-c"],
            &[""],
            &["", "-c", show],
            &["-lc", show],
            &["-lic", show],
            &["-ic", show, ""],
            &["--login", "-c", show],
            &["--norc", "-c", show],
            &["--norc", "--noprofile", "-i"],
            &["-i"],
            &["-s", "a", "-b"],
            &["-o", "posix", "-c", show],
            &["-O", "extglob", "+x", "-c", show],
            &["-euo", "pipefail", "-c", "false | true; echo no"],
            &["--", "-c", show],
            &["-"],
            &["/var/script", "--help", "-c"],
            &["/no/such/script"],
            &["--no-such-option"],
            &["-c", "echo 'a\nb'\n\nexit 9\n"],
        ];
        let call = |shell: &str, words: &[&str]| {
            let shown = |name: &str| format!("{name} <<'END'\nprintf '<%s>' \"$0\" \"$@\" $-; exit 5\nEND");
            let ended = end(Command::new("bash").args(["-c", &shown(&format!("{shell} \"$@\"")), "bash"]).args(words));
            (ended.status, ended.text(), ended.stderr)
        };
        for words in lists {
            assert_eq!(call("nssh", words), call("bash", words), "{words:?}");
            assert_eq!(call("/bin/nssh", words), call("/bin/bash", words), "{words:?}");
            assert_eq!(call("nssh -c 'exec nssh \"$@\"' x", words), call("bash", words), "{words:?}");
        }
    }

    fn a_dash_makes_a_login_shell() {
        sh("kak setup");
        assert_eq!(sh("bash -c 'exec -a -nssh nssh -c \"shopt -q login_shell && echo \\$0\"'"), "-bash");
        assert_eq!(sh("nssh -c 'shopt -q login_shell || echo no'"), "no");
        assert_eq!(sh("nssh -lc 'shopt -q login_shell && echo yes'"), "yes");
    }

    fn the_real_shell_is_called_as_nssh_is() {
        sh("kak setup");
        for (called, wanted) in [
            ("nssh", "bash"),
            ("/bin/nssh", "/bin/bash"),
            ("-nssh", "-bash"),
            ("-/bin/nssh", "-/bin/bash"),
        ] {
            // From outside, and from inside.
            let called = format!("bash -c 'exec -a {called} nssh -c \"echo \\$0\"'");
            assert_eq!(sh(&called), wanted);
            assert_eq!(program(&["nssh", "-c", &called]).code(0).text().trim(), wanted);
        }
        assert_eq!(sh("/bin/kak nssh -- -c 'echo $0'"), "bash");
        // So its messages begin with the same name.
        let said = |shell: &str| program(&[shell, "-c", "no-such-program"]).code(127).stderr;
        assert_eq!(said("/bin/nssh"), said("/bin/bash"));
    }

    fn the_shell_is_never_kak_itself() {
        sh("mkdir /srv; ln -s /bin/kak /srv/link; ln /usr/bin/kak /usr/bin/hard; cp /bin/kak /srv/bash; cp /bin/bash /srv/nssh");
        for shell in ["/bin/nssh", "/srv/link", "/usr/bin/hard", "/srv/bash"] {
            program(&["kak", "setup", "--shell", shell]).code(1).says("is kak itself");
        }
        // A kak that is put there later does not execute itself for ever; nor does a copy, which runs the jail's shell,
        // too.
        sh("kak setup --shell /srv/nssh");
        assert_eq!(sh("nssh -c 'echo $SHELL $0'"), "/srv/nssh nssh");
        for later in ["ln -sf /bin/kak /srv/nssh", "rm /srv/nssh; cp /bin/kak /srv/nssh; echo >>/srv/nssh"] {
            sh(later);
            let ended = program(&["timeout", "10", "nssh", "-c", "true"]).code(126).says("is kak itself");
            assert_eq!(ended.text(), "");
        }
        // The message names the missing file, not the login shell's argv[0].
        sh("rm /srv/nssh");
        run("bash -c 'exec -a -nssh nssh'").code(127).says("kak: nssh: exec /srv/nssh: no such file");
        // Nor is kak the shell by default, without --shell.
        sh("kak teardown; mount --bind /bin/kak /bin/bash; kak setup");
        assert_eq!(sh("nssh -c 'echo $0'"), "sh");
        sh("kak teardown; mount --bind /bin/kak $(readlink -f /bin/sh)");
        program(&["kak", "setup"]).code(1).says("no shell but kak itself");
    }

    fn it_is_silent() {
        // Also the first one, which makes the jail.
        for _ in 0..2 {
            let ended = program(&["nssh", "-c", "true"]).code(0);
            assert_eq!((ended.text().as_str(), ended.stderr.as_str()), ("", ""));
        }
        sh("head -c 1048576 /dev/urandom >/tmp/in; nssh -c cat </tmp/in >/tmp/out; cmp /tmp/in /tmp/out");
        sh("nssh -c 'cat >&2' </tmp/in 2>/tmp/err; cmp /tmp/in /tmp/err");
        sh("head -c 4194304 /dev/zero | nssh -c 'cat; cat' | nssh -c cat | cmp -n 4194304 - /dev/zero");
    }

    fn a_first_session_leaves_nothing_in_the_callers_pipe() {
        // If init or the keeper had the caller's pipe open, its reader would wait for ever.
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
        // It is not the outer directory by another name.
        assert_eq!(sh("cd /opt/only/outside; HOME=/root nssh -c 'pwd; /bin/pwd'"), "/root\n/root");
        assert_eq!(sh("cd /opt/only/outside; HOME=/no/where nssh -c /bin/pwd 2>/dev/null"), "/");
        // A login starts in the home directory. A shell in tmux looks like a login, but stays where tmux started it.
        assert_eq!(sh("cd /usr/share; bash -c 'exec -a -nssh nssh -c pwd'"), "/root");
        assert_eq!(sh("cd /usr/share; TMUX=/x,1,0 bash -c 'exec -a -nssh nssh -c pwd'"), "/usr/share");
    }

    fn a_home_that_is_not_there_is_told_to_a_person_only() {
        sh("sed -i '/^root:/s,:/root:,:/opt/home:,' /etc/passwd; mkdir -p /opt/home; kak setup");
        let login = "bash -c 'exec -a -nssh nssh -c /bin/pwd'";
        let ended = run(login).code(0);
        assert_eq!((ended.text().as_str(), ended.stderr.as_str()), ("/\n", ""));
        let said = sh(&format!("script -qec \"{login}\" /dev/null </dev/null"));
        assert_eq!(said, "kak: nssh: cd /opt/home: No such file or directory\r\n/");
        // A command that is no login falls back to the home directory without a message.
        let said = sh("cd /opt/home; script -qec 'nssh -c /bin/pwd' /dev/null </dev/null");
        assert_eq!(said, "/root");
    }

    fn the_environment_is_kept_and_completed() {
        sh("kak setup");
        assert_eq!(sh("MARK=1 SHELL=/bin/nssh nssh -c 'echo $MARK $SHELL'"), "1 /bin/bash");
        assert_eq!(sh("HOME=/srv USER=x LOGNAME=y nssh -c 'echo $HOME $USER $LOGNAME'"), "/srv x y");
        // As in docker exec.
        let bare = "env -i PATH=/usr/bin:/bin HOSTNAME=c HOME=/root TERM=xterm";
        let wanted = "HOME=/root HOSTNAME=c LOGNAME=root PATH=/usr/bin:/bin SHELL=/bin/bash TERM=xterm USER=root";
        let exported = "env | grep -vE \"^(PWD|SHLVL|_)=\" | sort | xargs";
        assert_eq!(sh(&format!("{bare} nssh -c '{exported}'")), wanted);
        assert_eq!(sh(&format!("{bare} nssh -c 'nssh -c \"echo \\$SHELL\"'")), "/bin/bash");
        // Variables that belong to file descriptors, or to another network, are removed.
        let left = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "KAK_NETNS"];
        let given = left.map(|name| format!("{name}=1")).join(" ");
        assert_eq!(sh(&format!("env {given} nssh -c 'env | grep -E \"{}\" || true'", left.join("|"))), "");
        assert_eq!(sh("umask 027; nssh -c umask"), "0027");
    }

    fn a_login_is_who_the_user_is() {
        sh("echo toor:x:0:0::/var:/bin/nssh >>/etc/passwd; kak setup");
        let login = |env: &str, script: &str| sh(&format!("env {env} bash -c 'exec -a -nssh nssh -c \"{script}\"'"));
        let who = "echo \\$HOME \\$USER \\$LOGNAME \\$SHELL";
        assert_eq!(login("HOME=/tmp USER=x LOGNAME=x SHELL=/bin/nssh", who), "/root root root /bin/bash");
        // Of several users with this UID, the one that the login program names; but none with another UID.
        assert_eq!(login("USER=toor LOGNAME=toor HOME=/", who), "/var toor toor /bin/bash");
        assert_eq!(login("USER=nobody LOGNAME=nobody HOME=/", who), "/root root root /bin/bash");
        // For a user who is not in /etc/passwd, what the login program has set counts.
        sh("sed -i /:0:0:/d /etc/passwd");
        assert_eq!(login("HOME=/srv USER=far LOGNAME=far", who), "/srv far far /bin/bash");
        // Other variables of the login program are kept.
        let kept = ["TERM", "COLORTERM", "NO_COLOR", "LANG", "LC_TIME", "SSH_CONNECTION", "SUDO_USER", "TZ"];
        let given = kept.map(|name| format!("{name}=1")).join(" ");
        let found = login(&given, &format!("env | grep -cE \\\"^({})=1\\\"", kept.join("|")));
        assert_eq!(found, kept.len().to_string());
        let bare = sh("/bin/bash -c 'unset PATH; exec -a -nssh /bin/nssh -c /usr/bin/env' | grep ^PATH=");
        assert_eq!(bare, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
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

    fn a_command_runs_in_the_background_of_a_terminal() {
        sh("kak setup");
        // But an interactive shell stops until it is in the foreground.
        for (words, status) in [("--norc -c true", "0"), ("-o posix -c true", "0"), ("-lc true", "0"), ("-i", "149"), ("", "149")] {
            let jobs = format!("nssh {words} & wait $!; echo status $?; kill -KILL $! || true");
            std::fs::write("/var/jobs", jobs).unwrap();
            let said = sh("script -qc 'bash --norc -im /var/jobs' /dev/null </dev/null 2>&1");
            assert!(said.contains(&format!("status {status}")), "{words}: {said}");
        }
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

    fn a_process_that_cannot_be_had_is_told_with_the_kernels_reason() {
        sh("kak setup");
        for call in ["fork", "clone"] {
            for nssh in ["nssh -c 'echo ran'", "kak nssh --pty -- -c 'echo ran'"] {
                let ended = run(&format!("strace -f -qq -o /tmp/trace -e trace={call} -e inject={call}:error=EAGAIN:when=1 {nssh}"));
                let ended = ended.code(125).says("kak: nssh: fork: Resource temporarily unavailable");
                assert_eq!((ended.text(), ended.stderr.lines().count()), (String::new(), 1), "{call} {nssh}");
                assert_eq!(sh("grep -c INJECTED /tmp/trace"), "1");
            }
        }
        sh("kak status");
    }

    fn a_jail_that_ends_while_it_is_joined_is_gone() {
        sh("kak setup");
        // Delayed before the fork that starts the monitor, when it is in the jail already.
        let slow = "strace -f -qq -o /tmp/trace -e trace=fork -e inject=fork:delay_enter=1500000:when=1 nssh -c 'echo ran'";
        let joining = Command::new("sh").args(["-c", slow]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        until("it is in the jail", || {
            let inits = init("USER");
            let inside = |pid: i64| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
            processes().iter().any(|(pid, name)| name == "nssh" && inside(*pid) == inside(inits))
        });
        sh(&format!("kill -KILL {}", init("USER")));
        let ended = joining.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(137), &b""[..]), "{said}");
        assert_eq!(said.lines().filter(|line| !line.starts_with("strace")).collect::<Vec<_>>(), ["kak: nssh: the jail is gone"]);
    }

    fn no_program_is_run_but_the_shell() {
        uplink::plug();
        // strace does not end before the keeper that a command leaves behind, so this waits for the command only.
        let traced = |command: &str| -> Vec<String> {
            Command::new("strace")
                .args(["-f", "-qq", "-e", "trace=execve,execveat", "-e", "signal=none", "-o", "/tmp/trace"])
                .args(["sh", "-c", &format!("{command} >/dev/null; touch /tmp/done")])
                .spawn()
                .unwrap();
            until(command, || std::path::Path::new("/tmp/done").exists());
            let execs = sh("rm /tmp/done; cat /tmp/trace");
            // An old strace also prints system calls that it does not know, whatever -e trace= says.
            execs.lines().filter(|line| line.contains("exec") && !line.contains("\"sh\"") && !line.contains("\"touch\"")).skip(1).map(str::to_owned).collect()
        };
        assert_eq!(traced("kak setup"), [""; 0]);
        let execs = traced("nssh -c 'exit 0'");
        assert!(execs.len() == 1 && execs[0].contains("\"/bin/bash\""), "{execs:?}");
        assert_eq!(traced("kak status"), [""; 0]);
        assert_eq!(traced("kak teardown"), [""; 0]);
    }
}
