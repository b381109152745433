//! Concurrency: random commands at the same time, by root and by a guest, while some of their processes are stopped for
//! a while, and jails' processes, and those that work on jails, are killed.
//!
//! In a round several callers run several commands each, chosen from random numbers that are seeded before it begins.
//! Each command must end in time and as [`crate::allowed`] says; one that is stopped must not hold up the others. After
//! the round, when everything is at rest, each jail is either down, or up, complete and usable; and after teardown the
//! machine is as it was before the first round. The seed is fixed, or KAK_SEED; a failure prints it and the round.

/// Kills and stops processes during a round.
mod harm;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::allowed::{Beside, COMMANDS, Command};
use crate::figures::{named, pids};
use crate::people::{ALICE, move_in};
use crate::random::Random;
use crate::running::{Ended, goes, run, standing, wait};
use crate::sandbox::resolver::{Resolver, address_of};
use crate::sandbox::*;

use harm::{kill, stop};

/// How many rounds there are.
const ROUNDS: u64 = 40;

/// How many callers there are at once, and how many commands each has in a round.
const CALLERS: u64 = 6;
const COMMANDS_EACH: u64 = 5;

/// The seed if none is given.
const SEED: u64 = 20_180_601;

/// The jails, the first of which is the one that guests join, and the names of networks without a jail.
const JAILS: &[&str] = &["USER", "two"];
const NAMES: &[&str] = &["blue", "green"];

/// The options that a jail may be brought up with. It keeps them until it is taken down.
const OPTIONS: &[&[&str]] = &[
    &[],
    &["--allow", "alice"],
    &["--allow", "club", "--unshare", "ipc"],
    &["--publish", "8001:80", "--ipv6"],
    &[
        "--unshare",
        "uts,ipc,cgroup",
        "--hostname",
        "jailed",
        "--login-shell",
        "nobody",
    ],
];

/// The names of the processes that are killed: a jail's own and its sessions', and in about half of such rounds also
/// those of commands that work on jails.
const KILLED: &[&str] = &["kak-keeper", "kak-init", "kak-session", "kak-dns"];
const AT_WORK: &[&str] = &[
    "kak-keeper",
    "kak-init",
    "kak-session",
    "kak-dns",
    "kak",
    "nssh",
];

/// How often in a row a keeper restarts a killed relay at once.
const LIVES: usize = 3;

/// The names of the processes that may exist while no command runs.
const AT_REST: &[&str] = &["kak-keeper", "kak-init", "kak-dns"];

/// The seed and the round, for messages about failures.
static WHERE: Mutex<String> = Mutex::new(String::new());

/// The number of the next command.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// How many of the callers' commands have ended.
static ENDED: AtomicUsize = AtomicUsize::new(0);

/// How many relays of each keeper were killed, by the keeper's PID.
static RELAYS: Mutex<BTreeMap<i64, usize>> = Mutex::new(BTreeMap::new());

/// Runs a command.
fn call(words: &[&str]) -> Ended {
    run(words, NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Runs a command, and asserts its exit status.
#[track_caller]
fn must(words: &[&str], status: i32) -> Ended {
    let ended = call(words);
    assert_eq!(ended.status.code(), Some(status), "{ended}");
    ended
}

/// Runs a command of the table, and asserts that it ends in an allowed way, with a message if it failed.
fn check(command: &Command, words: &[&str], beside: Beside) {
    let ended = call(words);
    ENDED.fetch_add(1, Ordering::Relaxed);
    assert!(command.may(beside, ended.status), "{beside:?}: {ended}");
    // ENOMEM, which fork(2) returns in a PID namespace whose init has ended, and the messages of unexpected errors.
    for never in [
        "Cannot allocate memory",
        "panicked",
        "os error",
        "Address already in use",
    ] {
        assert!(!ended.stderr.contains(never), "{ended}");
    }
    if let Some(1 | 125 | 137) = ended.status.code() {
        assert!(!ended.stderr.is_empty(), "no message: {ended}");
    }
}

/// A process's parent.
fn parent(pid: i64) -> Option<i64> {
    process_field(pid, "PPid")?.parse().ok()
}

/// The processes whose parent is one of these.
fn children(parents: &[i64]) -> Vec<i64> {
    let all = pids().into_iter().map(i64::from);
    all.filter(|pid| parent(*pid).is_some_and(|parent| parents.contains(&parent)))
        .collect()
}

/// The PID of a random session's shell, or 1 if there is no session.
fn some_session(random: &mut Random) -> String {
    let shells = children(&named("kak-session"));
    if shells.is_empty() {
        return "1".into();
    }
    random.one_of(&shells).to_string()
}

/// Runs one caller's commands of a round.
fn do_all(mut random: Random, beside: Beside) {
    for _ in 0..COMMANDS_EACH {
        let possible: Vec<&Command> = COMMANDS
            .iter()
            .filter(|command| beside >= command.from)
            .collect();
        let command = random.one_of(&possible);
        let (jail, name) = (random.one_of(JAILS), random.one_of(NAMES));
        std::thread::sleep(Duration::from_millis(random.below(20)));
        let session = some_session(&mut random);
        let words = command.words.iter().map(|word| match *word {
            "JAIL" => jail,
            "NAME" => name,
            "SESSION" => &session,
            word => word,
        });
        check(command, &words.collect::<Vec<_>>(), beside);
    }
}

/// Counts a caller as done when dropped, also by a panic.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs one round.
fn round(random: &mut Random, beside: Beside, killed: &[&str]) {
    let (done, callers_done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let callers: Vec<Random> = (0..CALLERS).map(|_| Random::new(random.number())).collect();
    let (killer, stopper) = (Random::new(random.number()), Random::new(random.number()));
    std::thread::scope(|scope| {
        let callers: Vec<_> = callers
            .into_iter()
            .map(|random| {
                let done = Done(&callers_done);
                scope.spawn(move || {
                    let _done = done;
                    do_all(random, beside);
                })
            })
            .collect();
        if beside == Beside::Kills {
            scope.spawn(|| kill(killer, killed, &done));
        }
        scope.spawn(|| stop(stopper, &callers_done));
        let ended: Vec<_> = callers.into_iter().map(ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "a caller failed");
    });
}

/// Waits until there are only the jails' own processes, and none of these is about to end.
#[track_caller]
fn rest() {
    let mine = i64::from(std::process::id());
    wait("rest", || {
        let all = pids().into_iter().map(i64::from);
        let mut all = all.filter(|pid| *pid != 1 && *pid != mine);
        let rests = |pid: i64| {
            let name = process_field(pid, "Name");
            name.is_some_and(|name| AT_REST.contains(&name.as_str())) && !goes(pid)
        };
        all.all(rests)
    });
}

/// Asserts that a jail's relay runs and answers, unless it was killed too often, and that there is no second one.
#[track_caller]
fn look_at_relay(jail: &str, init: i64) {
    let keeper = parent(init).unwrap();
    let relays = || {
        let mut all = children(&[keeper]);
        all.retain(|pid| *pid != init && alive(*pid));
        all
    };
    let killed = RELAYS.lock().unwrap().get(&keeper).copied();
    if killed.unwrap_or(0) <= LIVES {
        wait("the relay", || !relays().is_empty());
        let name = format!("{jail}.test");
        let ask = format!("getent ahostsv4 {name}");
        let said = call(&["kak", "nssh", "-n", jail, "--", "-c", &ask]);
        let wanted = address_of(&name).to_string();
        assert!(said.stdout.starts_with(&wanted), "{said}\n{}", standing());
    }
    assert!(relays().len() <= 1, "{}", standing());
}

/// Whether the jail that guests join is up and allows them.
fn is_open() -> bool {
    let jail = JAILS[0];
    let up = call(&["kak", "status", "-n", jail]).status.code() == Some(0);
    let plan = || call(&["kak", "setup", "-n", jail, "--explain"]).stdout;
    up && plan().lines().any(|line| {
        ["option allow alice", "option allow club"].contains(&line.trim_start_matches("# "))
    })
}

/// Asserts that a guest gets in if the jail allows it, and else gets a message.
#[track_caller]
fn look_at_guest() {
    let groups = format!("--groups={}", ALICE.beside);
    let guest = [
        "setpriv",
        "--reuid=1000",
        "--regid=1000",
        &groups,
        "nssh",
        "-c",
        "id -u; exit 7",
    ];
    if is_open() {
        assert_eq!(must(&guest, 7).stdout, "1000\n");
    } else {
        assert!(must(&guest, 125).stderr.starts_with("kak: nssh: "));
    }
}

/// Asserts that each jail is complete and usable, or down, and that there are no processes but the jails' own.
#[track_caller]
fn look() {
    rest();
    let mut inits = BTreeSet::new();
    for jail in JAILS {
        let ended = call(&["kak", "status", "-n", jail, "--json"]);
        let status: Value =
            serde_json::from_str(&ended.stdout).unwrap_or_else(|why| panic!("{why}: {ended}"));
        match (ended.status.code(), status["init"].as_i64()) {
            (Some(0), Some(init)) => {
                inits.insert(init);
                let inside = "test -z \"$(ls -A /run/netns)\" && ip -o addr show dev eth0 && readlink /proc/self/ns/net && echo whole";
                let said = must(&["kak", "nssh", "-n", jail, "--", "-c", inside], 0).stdout;
                let network = std::fs::metadata(format!("/run/netns/{jail}")).unwrap();
                let network = format!("net:[{}]", std::os::unix::fs::MetadataExt::ino(&network));
                for wanted in [" inet 10.", network.as_str(), "whole"] {
                    assert!(said.contains(wanted), "{jail}: no {wanted} in {said}");
                }
                look_at_relay(jail, init);
            }
            (Some(3), None) => {}
            _ => panic!(
                "a jail that is neither whole nor down: {ended}\n{}",
                call(&["kak", "status", "-n", jail])
            ),
        }
    }
    look_at_guest();
    rest();
    // Each jail has one init and one keeper, and none is without a jail.
    assert_eq!(
        inits,
        named("kak-init").into_iter().collect(),
        "{}",
        standing()
    );
    assert_eq!(inits.len(), named("kak-keeper").len(), "{}", standing());
}

/// Takes everything down.
fn clear() {
    for jail in JAILS {
        must(&["kak", "teardown", "-n", jail], 0);
    }
    for name in NAMES {
        // A command that was killed may have left only one of the two.
        let is_there = |dir: &str| Path::new(dir).join(name).exists();
        if is_there("/run/netns") || is_there("/run/kak") {
            must(&["kak", "netns", "delete", name], 0);
        }
    }
    wait("nobody is left", || processes().is_empty());
    // A namespace's nsid goes when the kernel has destroyed the namespace; the upstream namespace's stays.
    wait("no namespace is left", || {
        sh("ip netns list-id").lines().count() == 1
    });
}

/// The machine's state, including directories in which a jail leaves nothing.
fn everything() -> String {
    let more = sh("find /tmp /home /srv /var/said 2>/dev/null | sort; ls -A /");
    dump() + &more
}

sandboxed! {
    fn at_random_against_each_other() {
        let seed = std::env::var("KAK_SEED").map_or(SEED, |text| text.parse().expect("KAK_SEED is a number"));
        // A panic in any thread prints the seed and the round.
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            eprintln!("{}", WHERE.lock().unwrap());
            tell(panic);
        }));
        println!("\nKAK_SEED={seed}");
        let begun = Instant::now();
        uplink::plug();
        std::fs::create_dir("/var/said").unwrap();
        std::fs::write("/etc/resolv.conf", "nameserver 127.0.0.53\n").unwrap();
        let _resolver = Resolver::start("127.0.0.53:53");
        move_in();
        // /run/netns stays once a name was added.
        sh("kak netns add first; kak netns delete first");
        let before = everything();
        let mut random = Random::new(seed);
        for number in 0..ROUNDS {
            let beside = random.one_of(&[Beside::Peace, Beside::Ends, Beside::Kills, Beside::Kills]);
            let beside = if beside == Beside::Peace && !is_open() { Beside::Shut } else { beside };
            let killed = random.one_of(&[KILLED, AT_WORK]);
            *WHERE.lock().unwrap() = format!("KAK_SEED={seed}, round {number}, {beside:?}:");
            let keepers = named("kak-keeper");
            round(&mut random, beside, killed);
            if (beside, killed) == (Beside::Kills, AT_WORK) {
                // The helper with which a new keeper starts its first relay is called kak, too, and may have been
                // killed.
                let mut new = named("kak-keeper");
                new.retain(|keeper| !keepers.contains(keeper));
                RELAYS.lock().unwrap().extend(new.into_iter().map(|keeper| (keeper, 1 + LIVES)));
            }
            look();
            match random.below(4) {
                0 => {
                    // The next round begins in this state.
                }
                1 => {
                    for jail in JAILS {
                        must(&["kak", "setup", "-n", jail], 0);
                    }
                    look();
                }
                _ => {
                    clear();
                    assert_same("everything is taken down", &before, &everything());
                    let jail = random.one_of(JAILS);
                    let words = [&["kak", "setup", "-n", jail][..], random.one_of(OPTIONS)].concat();
                    must(&words, 0);
                }
            }
        }
        clear();
        assert_same("everything is taken down", &before, &everything());
        println!("{ROUNDS} rounds: {:.1} s", begun.elapsed().as_secs_f64());
    }
}
