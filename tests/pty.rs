//! Sessions with a terminal of their own: `kak nssh --pty`, on a terminal and in pipes, and how they end.

/// How sessions end and stop.
mod ends;

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rexpect::session::{PtySession, spawn_command};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::sandbox::*;

/// An outer terminal, and the program that runs on it.
struct Terminal {
    /// Reads and types.
    session: PtySession,
    /// The master end of the pty.
    master: File,
    /// The terminal's name outside the jail.
    name: String,
}

impl Terminal {
    /// Runs a script by `sh` on a new terminal.
    fn new(script: &str) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("tty >/tmp/tty; {script}")])
            .env("TERM", "dumb")
            .env("PS1", "in> ");
        let session = spawn_command(command, Some(10_000)).unwrap();
        let master = session.process().get_file_handle().unwrap();
        until("the terminal has its name", || {
            std::fs::read_to_string("/tmp/tty").is_ok_and(|name| name.ends_with('\n'))
        });
        let name = sh("cat /tmp/tty; rm /tmp/tty");
        Self {
            session,
            master,
            name,
        }
    }

    /// Runs a session's shell, and waits for its prompt.
    fn inside() -> Self {
        let mut terminal = Self::new(&watched("--norc"));
        terminal.prompt("in> ");
        terminal
    }

    /// Runs a shell with job control outside, and waits for its prompt.
    fn outside() -> Self {
        let mut terminal = Self::new("PS1='out> ' exec bash --norc");
        terminal.prompt("out> ");
        terminal
    }

    /// Waits for a text on the terminal.
    #[track_caller]
    fn shows(&mut self, text: &str) {
        if let Err(why) = self.session.exp_string(text) {
            panic!("no {text:?}: {why}");
        }
    }

    /// Waits for a prompt.
    #[track_caller]
    fn prompt(&mut self, prompt: &str) {
        self.shows(prompt);
    }

    /// Types a line.
    fn types(&mut self, line: &str) {
        self.session.send_line(line).unwrap();
    }

    /// Types a line for the session's shell, and waits for a text that the line itself does not contain, and the
    /// prompt.
    #[track_caller]
    fn line(&mut self, line: &str, wanted: &str) {
        assert!(!line.contains(wanted));
        self.types(line);
        self.shows(wanted);
        self.prompt("in> ");
    }

    /// Waits until the session's nssh is stopped in the background, and the shell outside lists it so: the kernel tells it
    /// a moment later than /proc.
    #[track_caller]
    fn lists_it_as_stopped(&mut self) {
        until("it is stopped", is_stopped);
        until("it is listed as stopped", || {
            self.types("jobs");
            self.session
                .exp_string("out> ")
                .unwrap()
                .contains("Stopped")
        });
    }

    /// Whether the outer terminal is in raw mode now.
    fn is_raw(&self) -> bool {
        let modes = sh(&format!("stty -a -F {}", self.name));
        modes.contains("-icanon") && modes.contains("-isig") && modes.contains("-opost")
    }

    /// Waits for the program to end; its exit status.
    #[track_caller]
    fn ended(mut self) -> i32 {
        self.session.exp_eof().unwrap();
        match self.session.process().wait().unwrap() {
            rexpect::process::WaitStatus::Exited(_, code) => code,
            other => panic!("{other:?}"),
        }
    }
}

/// A script that runs a session with these words for its shell, exits with nssh's status, and reports if the terminal's
/// modes are not those before. It has no job control, as a shell with that would restore them itself.
fn watched(words: &str) -> String {
    format!(
        "before=$(stty -g); kak nssh --pty -- {words}; status=$?; after=$(stty -g)
        [ $before = $after ] || echo changed: $before $after
        exit $status"
    )
}

/// Whether the session's nssh is stopped.
fn is_stopped() -> bool {
    processes().iter().any(|(pid, name)| {
        name == "kak"
            && cmdline(*pid).contains("--pty")
            && process_field(*pid, "State").is_some_and(|state| state.starts_with('T'))
    })
}

/// The PID of the session's nssh, which is outside the jail.
fn nssh() -> i64 {
    let all = processes();
    let mut mine = all
        .iter()
        .filter(|(pid, name)| *name == "kak" && cmdline(**pid).contains("--pty"));
    let (pid, _) = mine.next().unwrap_or_else(|| panic!("no nssh in {all:?}"));
    *pid
}

/// A process's command line.
fn cmdline(pid: i64) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

/// How many sessions `kak status` lists.
fn sessions() -> usize {
    json("kak status --json")["sessions"]
        .as_array()
        .map_or(0, Vec::len)
}

/// Waits until init is the only process in the jail.
#[track_caller]
fn nobody_inside() {
    let pid = init("USER");
    let jail = sh(&format!("readlink /proc/{pid}/ns/pid"));
    until("nobody is in the jail", || {
        let inside = |other: &i64| {
            std::fs::read_link(format!("/proc/{other}/ns/pid"))
                .is_ok_and(|link| link == Path::new(&jail))
        };
        processes().keys().filter(|other| inside(other)).count() == 1
    });
}

/// Runs a session without an outer terminal, with this standard input.
fn piped(words: &[&str], input: Stdio) -> Child {
    Command::new("kak")
        .args(["nssh", "--pty", "--"])
        .args(words)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

sandboxed! {
    fn the_terminal_is_the_sessions_own() {
        sh("kak setup");
        let mut terminal = Terminal::inside();
        let outer = terminal.name.clone();
        assert!(terminal.is_raw());
        terminal.types("tty >/tmp/tty; ps -o sid=,pgid=,pid=,tpgid= $$ >/tmp/ids; echo ready");
        terminal.shows("ready\r\n");
        terminal.prompt("in> ");
        let inner = sh("cat /mnt/user/tmp/tty");
        assert!(inner.starts_with("/dev/pts/") && inner != outer, "{inner} in {outer}");
        // The shell is a session leader, and its terminal's foreground group is one of the jail's: one from outside
        // would be 0.
        let ids = sh("cat /mnt/user/tmp/ids");
        let ids: Vec<&str> = ids.split_whitespace().collect();
        assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[0] != "0" && ids[3] != "0", "{ids:?}");
        terminal.line("test -c /dev/tty && exec 3</dev/tty && readlink /proc/self/fd/3 >/dev/null; echo o${x}k", "ok");
        // No process in the jail has the outer terminal open, or as its controlling one, and nssh is not in the jail.
        let jail = sh(&format!("readlink /proc/{}/ns/pid", init("USER")));
        let device = sh(&format!("stat -c %Hr,%Lr {outer}"));
        let (major, minor) = device.split_once(',').map(|(a, b)| (a.parse::<i64>().unwrap(), b.parse::<i64>().unwrap())).unwrap();
        let mut seen = 0;
        for pid in processes().into_keys() {
            if sh(&format!("readlink /proc/{pid}/ns/pid")) != jail {
                continue;
            }
            seen += 1;
            let open = sh(&format!("cd /proc/{pid}/fd; for fd in *; do readlink $fd || true; done"));
            assert!(!open.lines().any(|link| link == outer), "{pid} has {open}");
            let controlled: i64 = sh(&format!("cut -d ' ' -f 7 /proc/{pid}/stat")).parse().unwrap();
            assert_ne!(controlled, major << 8 | minor, "{pid}");
        }
        assert!(seen >= 3, "init, a monitor and a shell");
        assert_eq!(sh(&format!("readlink /proc/{}/ns/mnt", nssh())), sh("readlink /proc/self/ns/mnt"));
        // It is listed, with its terminal.
        assert_eq!(json("kak status --json")["sessions"][0]["terminal"].as_str().map(|name| format!("/dev/{name}")), Some(inner));
        terminal.types("exit 9");
        assert_eq!(terminal.ended(), 9);
    }

    fn the_first_one_makes_the_jail() {
        let mut terminal = Terminal::inside();
        terminal.line("readlink /proc/self/ns/pid >/tmp/ns; echo o${x}k", "ok");
        assert_eq!(sh("cat /mnt/user/tmp/ns"), sh(&format!("readlink /proc/{}/ns/pid", init("USER"))));
        terminal.types("exit");
        assert_eq!(terminal.ended(), 0);
    }

    fn the_windows_size_is_passed_on() {
        sh("kak setup");
        let mut terminal = Terminal::new(&format!("stty rows 33 cols 99; {}", watched("--norc")));
        terminal.prompt("in> ");
        terminal.line("stty size", "33 99");
        terminal.types("trap 'echo resized $(stty size)' WINCH; echo tra''ps");
        terminal.shows("traps");
        terminal.prompt("in> ");
        for (rows, columns) in [(44, 111), (20, 50)] {
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(&terminal.master, size).unwrap();
            until("the size arrives", || sh("for tty in /dev/pts/[0-9]*; do stty size -F $tty; done").matches(&format!("{rows} {columns}")).count() == 2);
            terminal.types("");
            terminal.shows(&format!("resized {rows} {columns}"));
            terminal.prompt("in> ");
            terminal.line("stty size", &format!("{rows} {columns}"));
        }
        terminal.types("exit");
        assert_eq!(terminal.ended(), 0);
    }

    fn job_control_works_inside() {
        sh("kak setup");
        let mut terminal = Terminal::inside();
        let state = |wanted: &str| processes().keys().any(|pid| cmdline(*pid).starts_with("sleep 1000") && process_field(*pid, "State").is_some_and(|state| state.starts_with(wanted)));
        terminal.types("sleep 1000");
        until("sleep runs", || state("S"));
        terminal.session.send_control('c').unwrap();
        terminal.prompt("in> ");
        terminal.line("echo status=$?", "status=130");
        terminal.types("sleep 1000");
        until("sleep runs", || state("S"));
        terminal.session.send_control('z').unwrap();
        terminal.shows("Stopped");
        terminal.prompt("in> ");
        until("sleep is stopped", || state("T"));
        terminal.types("fg");
        until("sleep goes on", || state("S"));
        terminal.session.send_control('\\').unwrap();
        terminal.shows("Quit");
        terminal.prompt("in> ");
        terminal.types("sleep 1000 | cat");
        until("sleep runs", || state("S"));
        terminal.session.send_control('z').unwrap();
        terminal.shows("Stopped");
        terminal.prompt("in> ");
        terminal.line("bg >/dev/null; kill %1; wait; echo o${x}k", "ok");
        // None of these signals has reached nssh or its caller.
        terminal.session.send_control('d').unwrap();
        assert_eq!(terminal.ended(), 0);
        nobody_inside();
    }

    fn a_program_that_takes_every_key_gets_every_key() {
        sh("kak setup");
        let mut terminal = Terminal::inside();
        let keys: Vec<u8> = (1..=126).collect();
        terminal.types("stty raw -echo; echo raw''ready; head -c 126 >/tmp/keys; stty sane; echo back''again");
        terminal.shows("rawready");
        terminal.session.send(std::str::from_utf8(&keys).unwrap()).unwrap();
        terminal.session.flush().unwrap();
        terminal.shows("backagain");
        terminal.prompt("in> ");
        assert_eq!(std::fs::read("/mnt/user/tmp/keys").unwrap(), keys);
        terminal.types("exit");
        assert_eq!(terminal.ended(), 0);
    }

    fn the_callers_modes_are_the_sessions_first_ones() {
        sh("kak setup");
        let mut terminal = Terminal::new(&format!("stty erase ^H -echo; stty -g >/tmp/outer; {}", watched("-c 'stty -g >/tmp/inner; read line'")));
        until("it reads", || std::fs::read_to_string("/mnt/user/tmp/inner").is_ok_and(|modes| modes.ends_with('\n')) && terminal.is_raw());
        assert_eq!(sh("cat /mnt/user/tmp/inner"), sh("cat /tmp/outer"));
        terminal.types("");
        assert_eq!(terminal.ended(), 0);
    }

    fn nothing_is_lost_of_much_output() {
        sh("kak setup; head -c 6000000 /dev/urandom | base64 >/var/big");
        // To a terminal, to pipes, also with a slow reader, and to a file.
        sh("script -E never -qec \"kak nssh --pty -- -c 'cat /var/big'\" /dev/null </dev/null | tr -d '\\r' >/var/out; cmp /var/big /var/out");
        sh("kak nssh --pty -- -c 'cat /var/big' </dev/null | tr -d '\\r' | cmp - /var/big");
        sh("kak nssh --pty -- -c 'stty -opost; cat /var/big' </dev/null >/var/out; cmp /var/big /var/out");
        sh("kak nssh --pty -- -c 'stty -opost; head -c 60000 /var/big' </dev/null | (sleep 0.2; head -c 60000 /var/big | cmp - /dev/fd/3) 3<&0");
        // nssh does not end before the last byte is written.
        for n in [1, 4095, 4096, 4097, 16384, 65536, 70000] {
            sh(&format!("kak nssh --pty -- -c 'stty -opost; exec head -c {n} /var/big' </dev/null >/var/out; head -c {n} /var/big | cmp - /var/out"));
        }
    }

    fn nothing_is_lost_of_much_input() {
        sh("kak setup; head -c 3000000 /dev/urandom | base64 >/var/big");
        // The session reads only when the pty is full.
        sh("kak nssh --pty -- -c 'sleep 0.2; cat >/tmp/out' </var/big; cmp /var/big /mnt/user/tmp/out");
        sh("cat /var/big | kak nssh --pty -- -c 'cat >/tmp/out'; cmp /var/big /mnt/user/tmp/out");
        // Without a newline at the end, too; and every later reader also gets the end of input.
        assert_eq!(sh("printf 'a\\nb' | kak nssh --pty -- -c 'cat; echo; cat; cat; echo done' | tr -d '\\r'"), "a\nb\ndone");
    }

    fn it_works_without_a_terminal() {
        sh("kak setup");
        let ended = |script: &str| {
            let ended = run(script);
            (ended.status.code(), ended.text().replace('\r', ""), ended.stderr)
        };
        assert_eq!(ended("kak nssh --pty -- -c 'test -t 0 && test -t 1 && test -t 2 && echo yes; exit 5'"), (Some(5), "yes\n".into(), String::new()));
        // The terminal does not echo the input.
        assert_eq!(ended("echo word | kak nssh --pty -- -c 'read line; echo got $line'"), (Some(0), "got word\n".into(), String::new()));
        for script in ["exit 5", "true; exit 5", "cat; exit 5"] {
            assert_eq!(ended(&format!("echo '{script}' | TERM=dumb kak nssh --pty -- --norc")).0, Some(5));
        }
        // A shell that reads commands gets the end of input, too, whenever it reads.
        for _ in 0..5 {
            assert_eq!(ended("echo true | TERM=dumb kak nssh --pty -- --norc").0, Some(0));
            assert_eq!(ended("TERM=dumb kak nssh --pty -- --norc </dev/null").0, Some(0));
        }
        // Standard descriptors may be closed.
        assert_eq!(ended("kak nssh --pty -- -c 'exit 3' <&- >&- 2>&-").0, Some(3));
        assert_eq!(ended("kak nssh --pty -- -c 'cat; exit 3' 0>/dev/null"), (Some(3), String::new(), String::new()));
        assert_eq!(sh("kak nssh --pty -n USER -- -c 'echo $0 $1' zero one </dev/null | tr -d '\\r'"), "zero one");
        // Nothing else is open inside, whatever was outside.
        assert_eq!(sh("exec 3</ 9</opt 8</dev/null; kak nssh --pty -- -c 'echo $(ls /proc/self/fd)' | tr -d '\\r'"), "0 1 2 3");
        // A reader that goes away, and a file that takes no more.
        assert_eq!(sh("bash -c 'kak nssh --pty -- -c yes </dev/null | head -n 1 | tr -d \"\\r\"; echo ${PIPESTATUS[0]}'"), "y\n141");
        run("kak nssh --pty -- -c yes </dev/null >/dev/full").code(125).says("write to standard output: No space left");
        nobody_inside();
    }

    fn what_is_put_into_its_terminal_stays_there() {
        sh("kak setup");
        let mut terminal = Terminal::outside();
        // TIOCSTI (0x5412), byte by byte; without the right to it, it fails.
        let inject = "perl -e 'for (split //, \"touch /opt/injected\\n\") { ioctl(STDIN, 0x5412, $_) or warn $! }'; perl -e 'open(T, \"+</dev/tty\"); for (split //, \"touch /opt/injected\\n\") { ioctl(T, 0x5412, $_) }'";
        std::fs::write("/var/inject", inject).unwrap();
        terminal.types("kak nssh --pty -- -c 'sh /var/inject'; echo sta''tus=$?");
        terminal.shows("status=0");
        terminal.prompt("out> ");
        terminal.types("echo no''thing");
        terminal.shows("nothing");
        terminal.prompt("out> ");
        assert!(!Path::new("/opt/injected").exists());
        // Without --pty it does reach the outer shell, if the kernel allows TIOCSTI for all, or this is the initial
        // user namespace's root.
        let anybody = std::fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").map_or(true, |value| value.trim() != "0");
        terminal.types("nssh -c 'sh /var/inject'; echo no''thing");
        terminal.shows("nothing");
        terminal.types("echo no''thing");
        terminal.shows("nothing");
        terminal.prompt("out> ");
        assert_eq!(Path::new("/opt/injected").exists(), anybody || is_root());
        sh("rm -f /opt/injected");
        // Nor does anything reach the outer shell when nssh is killed meanwhile.
        terminal.types("PS1='in''> ' kak nssh --pty -- --norc");
        terminal.prompt("in> ");
        terminal.types("while echo lo''op; do sh /var/inject 2>/dev/null; done");
        terminal.shows("loop");
        sh(&format!("kill -KILL {}", nssh()));
        terminal.prompt("out> ");
        terminal.types("echo no''thing");
        terminal.shows("nothing");
        terminal.prompt("out> ");
        assert!(!Path::new("/opt/injected").exists());
        nobody_inside();
        terminal.types("exit 0");
        assert_eq!(terminal.ended(), 0);
    }

    fn who_does_not_read_makes_it_wait() {
        sh("kak setup");
        let mut child = piped(&["-c", "yes"], Stdio::null());
        let pid = i64::from(child.id());
        let state = |pid: i64| process_field(pid, "State").unwrap_or_default();
        let yes = || processes().into_iter().find(|(_, name)| name == "yes").map(|(pid, _)| pid);
        until("yes runs", || yes().is_some());
        let yes = yes().unwrap();
        // Once all buffers are full, both sleep, however often one looks.
        let mut asleep = 0;
        until("both sleep", || {
            asleep = if state(pid).starts_with('S') && state(yes).starts_with('S') { asleep + 1 } else { 0 };
            asleep >= 20
        });
        let size: i64 = process_field(pid, "VmRSS").unwrap().trim_end_matches(" kB").parse().unwrap();
        assert!(size < 8192, "{size} kB");
        // It still handles signals.
        sh(&format!("kill -TERM {pid}"));
        until("it has ended", || child.try_wait().unwrap().is_some());
        nobody_inside();
    }
}
