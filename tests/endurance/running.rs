//! Commands that must end in time. One that does not is a deadlock, and the state of all processes is printed.

use std::fmt::Write as _;
use std::fs::File;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::figures::pids;
use crate::sandbox::process_field;

/// Less than kak itself waits for another kak, so that this does not end a deadlock unseen; and more than a teardown
/// takes that waits for several others and whose sessions do not end by themselves.
const LIMIT: Duration = Duration::from_secs(45);

/// How a command ended.
pub struct Ended {
    /// Its words.
    pub words: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            words,
            status,
            stdout,
            stderr,
        } = self;
        write!(f, "{words}: {status}\nstderr: {stderr}\nstdout: {stdout}")
    }
}

/// Runs a command, with a time limit; `number` is its own, and names its output files.
#[track_caller]
pub fn run(words: &[&str], number: usize) -> Ended {
    // Files, not pipes: a process that is left over and has one open does not hold up the reader.
    let path = |what: &str| format!("/var/said/{number}.{what}");
    let open = |what: &str| File::create(path(what)).unwrap();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(open("out"))
        .stderr(open("err"))
        .spawn()
        .unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(
            start.elapsed() < LIMIT,
            "{} does not end:\n{}",
            words.join(" "),
            standing()
        );
        std::thread::sleep(Duration::from_millis(2));
    };
    let read = |what: &str| {
        let text = std::fs::read(path(what)).unwrap();
        std::fs::remove_file(path(what)).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    };
    Ended {
        words: words.join(" "),
        status,
        stdout: read("out"),
        stderr: read("err"),
    }
}

/// Waits for a condition, with a command's time limit.
#[track_caller]
pub fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "still not: {what}\n{}", standing());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process has ended, is ending, or has a SIGKILL pending.
pub fn goes(pid: i64) -> bool {
    const KILL: u64 = 1 << (9 - 1);
    let pending = process_field(pid, "ShdPnd");
    let pending = pending.map_or(KILL, |mask| u64::from_str_radix(&mask, 16).unwrap());
    // A process that has released its memory has an empty command line.
    let words = std::fs::read(format!("/proc/{pid}/cmdline"));
    pending & KILL != 0 || words.is_ok_and(|words| words.is_empty())
}

/// All processes, each with its command line, state, system call and kernel stack; and all file locks.
pub fn standing() -> String {
    let mut text = String::new();
    for pid in pids() {
        let read = |file: &str| {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes)
                .replace('\0', " ")
                .trim()
                .to_owned()
        };
        let status = read("status");
        let field = |name: &str| {
            let mut lines = status.lines();
            lines
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))
                .unwrap_or("?")
        };
        let (name, state, parent) = (field("Name"), field("State"), field("PPid"));
        let (words, call, place) = (read("cmdline"), read("syscall"), read("wchan"));
        writeln!(
            text,
            "{pid} {name} ({words}), child of {parent}: {state}, in {place}, syscall {call}"
        )
        .unwrap();
        for line in read("stack").lines() {
            writeln!(text, "    {line}").unwrap();
        }
    }
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    text + "locks:\n" + &locks
}
