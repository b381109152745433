//! Commands that have to end. One that does not is a deadlock, and then it is told who stands where.

use std::fmt::Write as _;
use std::fs::File;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::figures::pids;
use crate::sandbox::process_field;

/// Less than kak itself waits for another kak, so that no deadlock is ended by that; and more than a teardown takes whose
/// sessions do not want to end, before which several others have their turn.
const LIMIT: Duration = Duration::from_secs(45);

/// How a command ended.
pub struct Ended {
    /// Its words.
    pub words: String,
    /// How.
    pub status: ExitStatus,
    /// What it said on standard output,
    pub stdout: String,
    /// and on standard error.
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

/// Runs a command until it ends, for as long as it may take; `number` is its own.
#[track_caller]
pub fn run(words: &[&str], number: usize) -> Ended {
    // Files, not pipes: who is left over and holds one holds up nobody.
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

/// Waits for a condition for as long as a command may take.
#[track_caller]
pub fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "still not: {what}\n{}", standing());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process is dead, or dies, or has been killed and does not know it yet.
pub fn goes(pid: i64) -> bool {
    const KILL: u64 = 1 << (9 - 1);
    let pending = process_field(pid, "ShdPnd");
    let pending = pending.map_or(KILL, |mask| u64::from_str_radix(&mask, 16).unwrap());
    // Who has no memory any more has no words.
    let words = std::fs::read(format!("/proc/{pid}/cmdline"));
    pending & KILL != 0 || words.is_ok_and(|words| words.is_empty())
}

/// All processes of the machine, each with what it is, and where in the kernel it is; and who holds which lock.
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
