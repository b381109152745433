//! Asking the machine: commands, JSON, waiting for a condition, and a dump of all that a setup could have changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Ended {
    /// The command, for messages.
    command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Standard error as text.
    pub stderr: String,
    /// The same, byte for byte.
    pub stderr_bytes: Vec<u8>,
}

impl Ended {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts the exit status.
    #[track_caller]
    pub fn code(self, wanted: i32) -> Self {
        assert_eq!(self.status.code(), Some(wanted), "{self}");
        self
    }

    /// Asserts that a signal killed it.
    #[track_caller]
    pub fn signal(self, wanted: i32) -> Self {
        assert_eq!(self.status.signal(), Some(wanted), "{self}");
        self
    }

    /// Asserts that standard error has a text in it, whatever the letters' case.
    #[track_caller]
    pub fn says(self, wanted: &str) -> Self {
        let said = self.stderr.to_lowercase();
        assert!(
            said.contains(&wanted.to_lowercase()),
            "no {wanted:?} in {self}"
        );
        self
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            command, status, ..
        } = self;
        write!(
            f,
            "{command}: {status}\nstderr: {}\nstdout: {}",
            self.stderr,
            self.text()
        )
    }
}

/// Runs a command to its end. The standard library gives it an empty signal mask and SIGPIPE's default back.
pub fn end(command: &mut Command) -> Ended {
    let text = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|why| panic!("{text}: {why}"));
    Ended {
        command: text,
        status: output.status,
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        stderr_bytes: output.stderr,
    }
}

/// Runs a script with `sh`, whatever becomes of it.
pub fn run(script: &str) -> Ended {
    end(Command::new("sh").args(["-c", script]))
}

/// Runs a script with `sh -e`, asserts success and returns what it printed, trimmed.
#[track_caller]
pub fn sh(script: &str) -> String {
    let ended = end(Command::new("sh").args(["-ec", script]));
    ended.code(0).text().trim().to_owned()
}

/// Runs one program without a shell between.
pub fn program(argv: &[&str]) -> Ended {
    end(Command::new(argv[0]).args(&argv[1..]))
}

/// The prefix of a command that is to have a system call refused: `call` is the call's number, with `,ARGUMENT=VALUE`
/// after it to refuse only calls with these arguments. For calls that strace knows by name, strace is used.
pub fn refusing(call: &str, errno: i32) -> String {
    std::fs::write("/tmp/refuse.py", include_str!("../probe/refuse.py")).unwrap();
    format!("python3 /tmp/refuse.py {errno} {call}")
}

/// What a script printed, read as JSON; nothing printed is an empty list.
#[track_caller]
pub fn json(script: &str) -> Value {
    let text = sh(script);
    if text.is_empty() {
        return Value::Array(Vec::new());
    }
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{script}: {why} in {text}"))
}

/// Waits for a condition, five seconds at most.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "after 5 s still not: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether root here is the machine's root, and not a user who is root in a user namespace only.
pub fn is_root() -> bool {
    sh("tr -s ' ' </proc/self/uid_map").trim() == "0 0 4294967295"
}

/// The PID of a jail's init, as `kak status` has it.
#[track_caller]
pub fn init(jail: &str) -> i64 {
    let status: Value =
        serde_json::from_str(&run(&format!("kak status -n {jail} --json")).text()).unwrap();
    status["init"]
        .as_i64()
        .unwrap_or_else(|| panic!("no init: {status}"))
}

/// A field of /proc/PID/status.
pub fn process_field(pid: i64, field: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// Whether a process runs; a zombie does not.
pub fn alive(pid: i64) -> bool {
    process_field(pid, "State").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// The processes of this machine except its first one and the test: their names, by PID.
pub fn processes() -> BTreeMap<i64, String> {
    let mine = i64::from(std::process::id());
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != 1 && *pid != mine && alive(*pid))
        .filter_map(|pid| Some((pid, process_field(pid, "Name")?)))
        .collect()
}

/// Waits a moment for links that were set up just now: the kernel detects their carrier in its own time.
fn settle() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500)
        && sh("ip -o link")
            .lines()
            .any(|link| link.contains("<NO-CARRIER") && link.contains("kak"))
    {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All that a setup could have changed, as text: mounts, links, addresses, routes, rules, sysctls and files.
pub fn dump() -> String {
    settle();
    let mut text = String::new();
    let mut section = |title: &str, body: &str| write!(text, "== {title}\n{body}\n").unwrap();
    section("mounts", &mounts("/proc/self/mountinfo").join("\n"));
    for query in ["-d link", "addr", "-4 route", "-6 route", "rule"] {
        let script = format!("ip -j {query}");
        section(
            &script,
            &serde_json::to_string_pretty(&json(&script)).unwrap(),
        );
    }
    // Handles are new each time.
    section(
        "nft",
        &sh(r#"nft -j list ruleset | sed -E 's/"handle": [0-9]+(, )?//g'"#),
    );
    section("sysctl", &settings());
    let dirs = ["/etc", "/run", "/mnt", "/opt", "/root"];
    section("files", &contents(&dirs));
    text
}

/// The settings of this machine's network, a line each.
pub fn settings() -> String {
    let mut settings = String::new();
    for dir in ["ipv4/conf", "ipv6/conf", "ipv4/ip_forward"] {
        walk(
            Path::new("/proc/sys/net").join(dir).as_path(),
            &mut |path| {
                if path.is_file() {
                    let value = std::fs::read_to_string(path).unwrap_or_default();
                    writeln!(settings, "{}={}", path.display(), value.trim()).unwrap();
                }
            },
        );
    }
    settings
}

/// Directories with all that is in them, a line for each file.
pub fn contents(dirs: &[&str]) -> String {
    let mut files = String::new();
    for dir in dirs {
        walk(Path::new(dir), &mut |path| {
            if path.starts_with("/run/mount") {
                return; // mount(8)'s own notes
            }
            writeln!(files, "{}", describe(path)).unwrap();
        });
    }
    files
}

/// What of a dump lasts when objects are deleted and made again: all but the sections of `ip`, without handles.
pub fn lasting(dump: &str) -> String {
    let mounts = dump.split("== ip").next().unwrap();
    let rest = dump.split("== nft").nth(1).unwrap();
    let mut text = mounts.to_owned();
    for part in rest.split("\"handle\": ") {
        text += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    text
}

/// A mount table, a line per mount, without the IDs that are new each time. Empty for a process that is about to end.
pub fn mounts(mountinfo: &str) -> Vec<String> {
    let table = std::fs::read_to_string(mountinfo).unwrap_or_default();
    table
        .lines()
        .map(|line| {
            let words = line.split(' ').enumerate().skip(3).map(|(n, word)| {
                match word.split_once([':', '[']) {
                    Some((peers @ ("shared" | "master" | "propagate_from"), _)) if n > 5 => peers,
                    Some(("net", _)) => "net",
                    _ => word,
                }
            });
            words.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// Calls `visit` with a path and, in order, with everything below it. What is removed meanwhile is left out.
fn walk(path: &Path, visit: &mut dyn FnMut(&Path)) {
    visit(path);
    if !path.is_symlink() && path.is_dir() {
        let names = std::fs::read_dir(path).into_iter().flatten();
        let mut names: Vec<_> = names.map_while(|entry| Some(entry.ok()?.path())).collect();
        names.sort();
        for path in names {
            walk(&path, visit);
        }
    }
}

/// A file in one line: path, mode, owner, size, content; or why it cannot be looked at: it may have just gone.
fn describe(path: &Path) -> String {
    let about = match path.symlink_metadata() {
        Ok(about) => about,
        Err(why) => return format!("{} {why}", path.display()),
    };
    let mut hash = DefaultHasher::new();
    if about.is_symlink() {
        path.read_link().unwrap_or_default().hash(&mut hash);
    } else if about.is_file() {
        std::fs::read(path).unwrap_or_default().hash(&mut hash);
    }
    let size = if about.is_dir() { 0 } else { about.len() };
    let (mode, uid, gid) = (about.mode(), about.uid(), about.gid());
    format!(
        "{} {mode:o} {uid}:{gid} {size} {:016x}",
        path.display(),
        hash.finish()
    )
}

/// Asserts that two dumps are equal, and shows only the lines that are not.
#[track_caller]
pub fn assert_same(what: &str, before: &str, after: &str) {
    assert!(before == after, "{what}:\n{}", difference(before, after));
}

/// The lines in which two dumps differ.
pub fn difference(before: &str, after: &str) -> String {
    let count = |text: &str| -> BTreeMap<String, i32> {
        let mut lines = BTreeMap::new();
        for line in text.lines() {
            *lines.entry(line.to_owned()).or_default() += 1;
        }
        lines
    };
    let (old, new) = (count(before), count(after));
    let only = |some: &BTreeMap<String, i32>, other: &BTreeMap<String, i32>, mark: &str| {
        some.iter()
            .filter(|(line, times)| other.get(*line).unwrap_or(&0) < times)
            .fold(String::new(), |text, (line, _)| {
                format!("{text}{mark}{line}\n")
            })
    };
    only(&old, &new, "- ") + &only(&new, &old, "+ ")
}
