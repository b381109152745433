//! The programs that call shells: with nssh as the shell they must see no difference.
//!
//! Each is called twice, once with bash as the shell and once with nssh, and the shell reports how it was called: its
//! arguments, flags, directory, terminals, limits, signals, rights, and its whole environment. The two must be equal,
//! and so must the caller's output and exit status. Called outside, nssh's session is in the jail and bash's is not;
//! called in the jail, both are in it.

use std::process::Command;

use rexpect::process::WaitStatus;
use rexpect::session::spawn_command;

use crate::logins::{self, Place, Place::Inside, Place::Outside};
use crate::sandbox::*;

/// A script by which the shell writes down its state. It exits with a status that nothing else uses.
const REPORT: &str = "
    terminals=
    for fd in 0 1 2; do test ! -t $fd || terminals=$terminals$fd; done
    {
        printf '%s\\n' \"name $0\" \"flags $-\" \"$(shopt login_shell)\" \"cwd $(/bin/pwd)\" \"umask $(umask)\"
        echo terminals $terminals
        tr '\\0' '|' </proc/$$/cmdline; echo
        ulimit -a
        grep -E '^(SigBlk|SigIgn|Cap|Uid|Gid|Groups|NoNewPrivs|Seccomp:)' /proc/self/status
        env | sort
        echo namespace $(readlink /proc/self/ns/pid)
    } >/var/said 2>&1
    exit 7";

/// Programs that give a shell a command, and how they must call it: its name, its directory, whether it is a login
/// shell.
const COMMANDS: &[(&str, &str)] = &[
    ("su -c '{C}' {USER}", "bash here off"),
    ("su -p -c '{C}' {USER}", "bash here off"),
    ("su -s $SHELL -c '{C}' {USER}", "bash here off"),
    ("su {USER} -- -lic '{C}'", "bash here on"),
    ("su - -c '{C}' {USER}", "-bash home on"),
    ("runuser -c '{C}' {USER}", "bash here off"),
    ("runuser -l -c '{C}' {USER}", "-bash home on"),
    ("sudo -u {USER} -i {C}", "-bash home on"),
    ("sudo -u {USER} -s {C}", "/bin/bash here off"),
    ("ssh {USER}@localhost '{C}'", "bash home off"),
    ("ssh -tt {USER}@localhost '{C}'", "bash home off"),
    ("echo '{C}' | ssh {USER}@localhost", "-bash home on"),
    ("echo '{C}' | su - {USER}", "-bash home on"),
    // ssh puts `exec` before the command: here that only makes the redirection, and the command follows.
    (
        "{AS} ssh -o ProxyCommand='<&0; {C}' localhost",
        "/bin/bash here off",
    ),
    ("{AS} script -qec '{C}' /dev/null", "bash here off"),
    (
        "{AS} vim.tiny -es -u NONE -c '!{C}' -c 'cq'",
        "/bin/bash here off",
    ),
    (
        "printf '!{C}\r\rq' | {AS} script -qec 'less /etc/hostname' /dev/null >/dev/null",
        "/bin/bash here off",
    ),
    (
        "{AS} tmux -f /dev/null new -d '{C}'; while {AS} tmux ls >/dev/null 2>&1; do sleep .01; done",
        "bash here off",
    ),
];

/// Programs that start an interactive shell, in the same form.
const DIALOGUES: &[(&str, &str)] = &[
    ("su {USER}", "bash here off"),
    ("su - {USER}", "-bash home on"),
    ("login -f {USER}", "-bash home on"),
    ("runuser -l {USER}", "-bash home on"),
    ("sudo -u {USER} -i", "-bash home on"),
    ("sudo -u {USER} -s", "/bin/bash here off"),
    ("ssh {USER}@localhost", "-bash home on"),
    ("{AS} script -qe /dev/null", "bash here off"),
    ("{AS} tmux -f /dev/null new", "-bash here on"),
    ("{AS} screen -c /var/screenrc", "/bin/bash here off"),
];

/// Those that only root can call.
const ROOTS: &[(&str, &str)] = &[
    ("chroot /", "/bin/bash / off"),
    // From the home directory: they start a login shell in the current directory, and nssh's logins start at home.
    ("cd; unshare --uts", "-bash home on"),
    ("cd; nsenter --uts=/proc/self/ns/uts", "-bash home on"),
];

/// How a program is called.
#[derive(Clone, Copy)]
enum Call<'a> {
    /// By a script, in which the program passes the command to the shell.
    Script(&'a str),
    /// On a terminal, where the command is typed at the shell's prompt.
    Typed(&'a str),
}
use Call::{Script, Typed};

/// Makes users, a jail, the shells' script, and an ssh server.
fn prepare(place: Place) {
    logins::prepare();
    logins::keys();
    std::fs::write("/var/report", REPORT).unwrap();
    sh(
        "touch /root/.hushlogin /home/alice/.hushlogin /var/said; chmod 666 /var/said
        echo startup_message off >/var/screenrc
        kak setup --allow alice",
    );
    logins::serve(place);
}

/// A call with a user's name, the prefix to become that user, and the command put in.
fn of(user: &str, call: &str) -> String {
    let prefix = match user {
        "root" => "",
        _ => {
            "setpriv --reuid=alice --regid=alice --init-groups env HOME=/home/alice USER=alice LOGNAME=alice"
        }
    };
    call.replace("{USER}", user)
        .replace("{AS}", prefix)
        .replace("{C}", ". /var/report")
}

/// The outcome of a call.
struct Outcome {
    /// The caller's status and output, and the shell's report.
    text: String,
    /// The shell's PID namespace.
    namespace: String,
}

/// Calls a program with this shell.
fn outcome(shell: &str, place: Place, call: Call<'_>) -> Outcome {
    logins::set_shell(shell);
    std::fs::write("/var/said", "").unwrap();
    let (Script(script) | Typed(script)) = call;
    let mut command = place.script(&format!(
        "export SHELL={shell} USER=root LOGNAME=root TERM=xterm; {script}"
    ));
    command.current_dir("/usr/share");
    let caller = match call {
        Script(_) => {
            let ended = end(&mut command);
            format!("{}\n{}{}", ended.status, ended.text(), ended.stderr)
        }
        Typed(_) => typed(command),
    };
    let said = std::fs::read_to_string("/var/said").unwrap();
    let (report, namespace) = said.split_once("namespace ").unwrap_or((&said, ""));
    let report = report.lines().map(|line| match line.split_once('=') {
        // These differ from one call to the next.
        Some((name @ ("SSH_CLIENT" | "SSH_CONNECTION" | "SSH_TTY" | "TMUX" | "STY"), _)) => {
            name.to_owned()
        }
        // This contains the login shell.
        Some(("SUDO_COMMAND", command)) => command.replace("nssh", "bash"),
        // sudo also gives bash the option --login, as it knows it.
        _ => line.replace("-bash|--login|", "-bash|"),
    });
    Outcome {
        text: [caller]
            .into_iter()
            .chain(report)
            .collect::<Vec<_>>()
            .join("\n"),
        namespace: namespace.trim().to_owned(),
    }
}

/// Starts a program on a terminal, and types the command at the shell's prompt; the status.
fn typed(command: Command) -> String {
    let text = format!("{command:?}");
    let mut session = spawn_command(command, Some(15_000)).unwrap();
    let mut talk = || {
        session.exp_regex("[#$] ")?;
        session.send_line(". /var/report")?;
        session.exp_eof()
    };
    talk().unwrap_or_else(|why| panic!("{text}: {why}"));
    match session.process().wait().unwrap() {
        WaitStatus::Exited(_, code) => format!("exit status: {code}"),
        other => format!("{other:?}"),
    }
}

/// Asserts that a program has the same outcome with nssh as with bash; both outcomes.
#[track_caller]
fn alike(place: Place, call: Call<'_>) -> [Outcome; 2] {
    let (Script(text) | Typed(text)) = call;
    let both = ["/bin/bash", "/bin/nssh"].map(|shell| outcome(shell, place, call));
    assert_same(text, &both[0].text, &both[1].text);
    both
}

/// Asserts that a program calls nssh as it calls bash, in the form that is wanted, and that nssh's shell is in the
/// jail.
#[track_caller]
fn called(place: Place, user: &str, call: Call<'_>, wanted: &str) {
    let (Script(script) | Typed(script)) = call;
    let script = of(user, script);
    let [bash, nssh] = alike(
        place,
        match call {
            Script(_) => Script(&script),
            Typed(_) => Typed(&script),
        },
    );
    let jail = sh(&format!("readlink /proc/{}/ns/pid", init("USER")));
    assert_eq!(nssh.namespace, jail, "{script}: not in the jail");
    assert_eq!(bash.namespace == jail, place == Inside, "{script}: bash");
    let field = |name: &str| {
        let line = nssh.text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{script}: no {name} in {}", nssh.text))
            .trim()
    };
    let home = if user == "root" {
        "/root"
    } else {
        "/home/alice"
    };
    let wanted = wanted.replace("home", home).replace("here", "/usr/share");
    let found = [field("name "), field("cwd "), field("login_shell")];
    assert_eq!(found.join(" "), wanted, "{script}");
    assert_eq!(field("SHELL="), "/bin/bash", "{script}");
    if matches!(call, Typed(_)) {
        assert_eq!(field("terminals "), "012", "{script}");
    }
}

/// Tries all commands and dialogues with a user.
fn all(place: Place, user: &str) {
    prepare(place);
    for (call, wanted) in COMMANDS {
        called(place, user, Script(call), wanted);
    }
    for (call, wanted) in DIALOGUES {
        called(place, user, Typed(call), wanted);
    }
}

sandboxed! {
    fn root_out_here() {
        all(Outside, "root");
    }

    fn alice_out_here() {
        // By a set-user-ID copy instead of the link to kak: it has root's rights only to enter the jail.
        sh("kak --install --setuid-nssh /bin/nssh");
        all(Outside, "alice");
    }

    fn root_in_the_jail() {
        all(Inside, "root");
    }

    fn alice_in_the_jail() {
        all(Inside, "alice");
    }

    fn what_only_root_may_call() {
        prepare(Outside);
        for place in [Outside, Inside] {
            for (call, wanted) in ROOTS {
                called(place, "root", Typed(call), wanted);
            }
        }
    }

    fn a_status_comes_through_all_of_them() {
        prepare(Outside);
        sh("kak --install --setuid-nssh /bin/nssh");
        for end in ["exit 0", "exit 255", "kill -TERM $$", "kill -KILL $$", "/no/such", "/etc/hostname"] {
            std::fs::write("/var/report", end).unwrap();
            for call in [
                "su -c '{C}' {USER}",
                "su - -c '{C}' {USER}",
                "runuser -l -c '{C}' {USER}",
                "sudo -u {USER} -i {C}",
                "sudo -u {USER} -s {C}",
                "ssh {USER}@localhost '{C}'",
                "{AS} script -qec '{C}' /dev/null",
            ] {
                for user in ["root", "alice"] {
                    alike(Outside, Script(&of(user, call)));
                }
            }
        }
    }

    fn who_may_not_enter_gets_no_other_shell() {
        prepare(Outside);
        logins::set_shell("/bin/nssh");
        std::fs::write("/var/report", "echo she is in").unwrap();
        for (state, change) in [
            ("without rights", ""),
            ("not allowed", "kak --install --setuid-nssh /bin/nssh; kak teardown; kak setup"),
            ("no jail", "kak teardown"),
        ] {
            sh(change);
            for (call, _) in COMMANDS.iter().filter(|(call, _)| !["{AS}", "$SHELL"].iter().any(|no| call.contains(no))) {
                let ended = run(&of("alice", call)).code(125);
                let text = ended.text() + &ended.stderr;
                assert!(text.contains("kak: nssh: "), "{state}: {ended}");
                assert!(!text.contains("she is in"), "{state}: {ended}");
            }
            // Nor is there a prompt on a terminal.
            for (call, _) in DIALOGUES.iter().filter(|(call, _)| !call.contains("{AS}")) {
                let mut command = Outside.script(&of("alice", call));
                command.env("TERM", "xterm");
                let mut session = spawn_command(command, Some(15_000)).unwrap();
                let said = session.exp_eof().unwrap();
                assert!(said.contains("kak: nssh: ") && !said.contains("alice@"), "{state}: {call}: {said}");
            }
        }
        // Root is not locked out: it has another way.
        assert_eq!(sh("su -s /bin/bash -c 'echo outside' root"), "outside");
    }

    fn it_is_given_and_taken_as_any_other_shell() {
        logins::prepare();
        sh("kak setup");
        let silently = |command: &str| {
            let ended = run(command).code(0);
            assert_eq!((ended.text().as_str(), ended.stderr.as_str()), ("", ""), "{command}");
        };
        for user in ["root", "alice"] {
            for command in ["chsh", "usermod"] {
                silently(&format!("{command} -s /bin/nssh {user}"));
                assert_eq!(sh(&format!("getent passwd {user} | cut -d : -f 7")), "/bin/nssh");
                // PAM checks that the present shell is listed in /etc/shells.
                silently(&format!("{command} -s /bin/bash {user}"));
            }
        }
        silently("useradd -M -s /bin/nssh carol");
        assert_eq!(sh("getent passwd carol | cut -d : -f 7"), "/bin/nssh");
    }

    fn words_come_through_byte_for_byte() {
        prepare(Outside);
        let words = r#"zero '' ' ' 'a b' -n --help $'new\nline' $'\xff\xfe' '"$`\*'"#;
        let print = r#"printf "<%s>" "$0" "$@" | od -c"#;
        for call in [
            format!("su root -- -c '{print}' {words}"),
            format!("su root -- --norc -c '{print}' {words}"),
            format!("su root -- -- /dev/stdin {words} <<<'{print}'"),
            format!("su - root -- -c '{print}' {words}"),
            format!("runuser root -- -c '{print}' {words}"),
            format!("sudo -i printf '<%s>' {words} | od -c"),
            format!("sudo -s printf '<%s>' {words} | od -c"),
            format!(r#"ssh localhost 'printf "<%s>" '"{}" | od -c"#, words.replace('"', r#"\""#).replace('`', r"\`").replace('$', r"\$")),
        ] {
            for place in [Outside, Inside] {
                if place == Outside || !call.starts_with("ssh") {
                    let [outcome, _] = alike(place, Script(&call));
                    assert!(outcome.text.contains("377"), "{call}: {}", outcome.text);
                }
            }
        }
    }
}
