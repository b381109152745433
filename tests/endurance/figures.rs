//! Counts of what a machine, its processes and the kernel hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::fs::MetadataExt as _;

use crate::sandbox::*;

/// The slab caches of namespaces, processes, sockets and files. The kernel counts them for the whole machine, not for
/// the sandbox only.
const OBJECTS: &[&str] = &[
    "net_namespace",
    "pid_namespace",
    "uts_namespace",
    "nsproxy",
    "mnt_cache",
    "pid",
    "task_struct",
    "filp",
    "sock_inode_cache",
    "shmem_inode_cache",
];

/// Numbers by name.
#[derive(Clone, PartialEq, Eq)]
pub struct Figures(BTreeMap<String, usize>);

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0.iter().map(|(name, value)| format!("{name} {value}"));
        f.write_str(&all.collect::<Vec<_>>().join(", "))
    }
}

impl Figures {
    /// Counts in the sandbox, which must be the same before and after.
    pub fn of_machine() -> Self {
        let links = pids().into_iter().map(|pid| {
            let about = std::fs::metadata(format!("/proc/{pid}/ns/net")).ok();
            about.map(|about| about.ino())
        });
        let networks: BTreeSet<u64> = links.flatten().collect();
        let table = mounts("/proc/self/mountinfo");
        let named = table.iter().filter(|mount| mount.contains(" nsfs "));
        let files = |dir: &str| sh(&format!("find {dir} | wc -l")).parse().unwrap();
        Self(BTreeMap::from([
            ("processes".into(), pids().len()),
            ("mounts".into(), table.len()),
            ("networks of processes".into(), networks.len()),
            ("named networks".into(), named.count()),
            (
                "lines of rules".into(),
                sh("nft list ruleset | wc -l").parse().unwrap(),
            ),
            (
                "routes".into(),
                sh("ip route show table all | wc -l").parse().unwrap(),
            ),
            ("files of /run".into(), files("/run")),
            ("files of /tmp".into(), files("/tmp")),
        ]))
    }

    /// The number of a process's open file descriptors.
    pub fn descriptors(pid: i64) -> usize {
        let all = std::fs::read_dir(format!("/proc/{pid}/fd"));
        all.unwrap_or_else(|why| panic!("{pid}: {why}")).count()
    }

    /// A process's private memory in kB.
    pub fn memory(pid: i64) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let private = text.lines().filter(|line| line.starts_with("Private_"));
        private
            .map(|line| line.split_whitespace().nth(1).unwrap())
            .map(|kilobytes| kilobytes.parse::<usize>().unwrap())
            .sum()
    }

    /// How many objects of each kind are in use in the whole kernel.
    pub fn of_kernel() -> Self {
        let text = std::fs::read_to_string("/proc/slabinfo").unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let name = words.next().filter(|name| OBJECTS.contains(name))?;
            Some((name.to_owned(), words.next()?.parse().ok()?))
        };
        let all: BTreeMap<String, usize> = text.lines().filter_map(line).collect();
        assert!(!all.is_empty(), "/proc/slabinfo: {text}");
        Self(all)
    }
}

/// The PIDs of all processes.
pub fn pids() -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap();
    let mut pids: Vec<i32> = all
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids
}

/// The PIDs of the processes of this name.
pub fn named(name: &str) -> Vec<i64> {
    let all = processes().into_iter();
    all.filter(|(_, other)| other == name)
        .map(|(pid, _)| pid)
        .collect()
}

/// The PID of the only process of this name.
#[track_caller]
pub fn one(name: &str) -> i64 {
    let all = named(name);
    assert_eq!(all.len(), 1, "{name}: {:?}", processes());
    all[0]
}

/// A jail's keeper, init and relay at one time: name, PID, open descriptors and private memory.
pub struct Standing(Vec<(&'static str, i64, usize, usize)>);

impl Standing {
    /// Reads them.
    pub fn now() -> Self {
        let all = ["kak-keeper", "kak-init", "kak-dns"].map(|name| {
            let pid = one(name);
            (name, pid, Figures::descriptors(pid), Figures::memory(pid))
        });
        Self(all.into())
    }

    /// Asserts that after this many calls each is still the same process with as many descriptors and no more memory.
    /// The smallest allocation takes 16 bytes, so a leak of one per call takes 16 times `calls`. A quarter of that is
    /// allowed, or one page, as the kernel counts in pages.
    #[track_caller]
    pub fn assert_flat(&self, calls: usize) {
        let allowed = (16 * calls / 1024 / 4).max(4);
        for ((name, pid, descriptors, memory), now) in self.0.iter().zip(Self::now().0) {
            println!(
                "{name}: descriptors {descriptors} -> {}, private memory {memory} kB -> {} kB",
                now.2, now.3
            );
            assert_eq!((*pid, *descriptors), (now.1, now.2), "{name}");
            assert!(
                now.3 <= memory + allowed,
                "{name}: {memory} kB -> {} kB",
                now.3
            );
        }
    }
}

/// The counts of the sandbox and of the kernel before many calls.
pub struct Before {
    /// The sandbox.
    machine: Figures,
    /// The kernel.
    kernel: Figures,
}

impl Before {
    /// Reads them, after a warm-up, as soon as no process is about to end.
    pub fn now() -> Self {
        let goes = |pid: i32| {
            let state = process_field(pid.into(), "State");
            state.is_none_or(|state| state.starts_with(['Z', 'X']))
        };
        // At the end a monitor changes its name to kak-over: its caller has the status by then.
        until("nobody is about to go", || {
            named("kak-session").is_empty()
                && named("kak-over").is_empty()
                && !pids().into_iter().any(goes)
        });
        Self {
            machine: Figures::of_machine(),
            kernel: Figures::of_kernel(),
        }
    }

    /// Asserts that the sandbox's counts are exactly as before.
    #[track_caller]
    pub fn assert_same(&self) {
        until(&format!("as many as before: {}", self.machine), || {
            Figures::of_machine() == self.machine
        });
        println!("the machine: {}", self.machine);
    }

    /// The same, and that after this many calls the kernel's counts have not grown by half of it. A leak of one per
    /// call would be `calls`, a thousand at least. The rest is tolerance: the kernel also counts some hundreds of free
    /// objects that each processor keeps in reserve, and other programs' objects. It destroys namespaces one after the
    /// other in the background, so this waits for up to a minute.
    #[track_caller]
    pub fn assert_flat(&self, calls: usize) {
        self.assert_same();
        let start = std::time::Instant::now();
        let mut now = Figures::of_kernel();
        let more = |now: &Figures| {
            let grown = |(name, value): (&String, &usize)| {
                let before = self.kernel.0.get(name).unwrap_or(&0);
                (*value > before + calls / 2).then(|| format!("{name} {before} -> {value}"))
            };
            now.0.iter().filter_map(grown).collect::<Vec<_>>()
        };
        while !more(&now).is_empty() && start.elapsed().as_secs() < 60 {
            std::thread::sleep(std::time::Duration::from_millis(100));
            now = Figures::of_kernel();
        }
        println!("the kernel before: {}", self.kernel);
        println!("the kernel after:  {now}");
        assert!(
            more(&now).is_empty(),
            "after {calls} calls: {:?}",
            more(&now)
        );
    }
}
