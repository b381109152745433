//! All that a command can change, as text that is equal for equal states: without what the kernel chooses anew each
//! time (link indexes, hardware addresses, and addresses that follow from these).

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::sandbox::*;

/// How long to wait for a state: a jail's processes have 5 s to end, and the kernel destroys network namespaces in the
/// background.
const PATIENCE: Duration = Duration::from_secs(8);

/// The state of this machine now.
pub fn now() -> String {
    let mut text = String::new();
    let mut section = |title: &str, body: &str| {
        for line in body.lines() {
            writeln!(text, "{title}: {line}").unwrap();
        }
    };
    section("mount", &mounts("/proc/self/mountinfo").join("\n"));
    section("net", &network(&[]));
    section("nft", &program(&["nft", "list", "ruleset"]).text());
    section("sysctl", &settings());
    section(
        "file",
        &contents(&["/etc", "/run", "/mnt", "/opt", "/root"]),
    );
    let processes = processes();
    let mut names: Vec<_> = processes.values().map(String::as_str).collect();
    names.sort_unstable();
    section("process", &names.join("\n"));
    let mut spaces: Vec<_> = std::fs::read_dir("/run/netns").map_or(Vec::new(), |names| {
        names
            .map(|name| name.unwrap().file_name().into_string().unwrap())
            .collect()
    });
    spaces.sort();
    for name in spaces {
        section(&format!("net {name}"), &network(&["-n", &name]));
    }
    for (pid, _) in processes.iter().filter(|(_, name)| *name == "kak-init") {
        section(
            "mount inside",
            &mounts(&format!("/proc/{pid}/mountinfo")).join("\n"),
        );
    }
    text
}

/// Links, addresses, routes and rules, here or in a namespace.
fn network(place: &[&str]) -> String {
    // `table all` shows the routes of both families.
    std::fs::write("/var/batch", "addr\nroute show table all\nrule\n").unwrap();
    let told = program(&[&["ip"], place, &["-d", "-o", "-batch", "/var/batch"]].concat());
    let mut text = told.stderr.clone();
    for line in told.text().lines() {
        // A line that depends on a hardware address.
        if line.contains("fe80:") || line.contains("ff00:") {
            continue;
        }
        let mut words = line.split_whitespace().peekable();
        if words
            .peek()
            .is_some_and(|word| word.trim_end_matches(':').parse::<u32>().is_ok())
        {
            words.next();
        }
        while let Some(word) = words.next() {
            let name = word.split('@').next().unwrap();
            write!(text, "{name} ").unwrap();
            if ["link/ether", "link-netnsid"].contains(&word) {
                words.next();
            }
        }
        text.push('\n');
    }
    text
}

/// Waits until the machine is in this state, or in the other one; else the difference.
pub fn expect(wanted: &str, or: Option<&str>) -> Result<(), String> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let now = now();
        if now == wanted || or == Some(now.as_str()) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(difference(wanted, &now));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// The machine's state, once it has not changed for 400 ms.
pub fn at_rest() -> String {
    let mut last = (now(), Instant::now());
    while last.1.elapsed() < Duration::from_millis(400) {
        std::thread::sleep(Duration::from_millis(20));
        let now = now();
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    last.0
}
