//! Disturbs the commands and the jails during a round: kills some processes, and stops others for a while.

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// What is stopped besides monitors: commands of ours that wait for others, or a session's nssh; each is known by one
/// of these words in its command line.
const STOPPED: &[&[u8]] = &[b"nssh", b"setup", b"teardown", b"--uplink", b"delete"];

/// How many commands have to end before a stopped one is continued.
const ENDED_BESIDE: usize = 6;

/// Kills one process after the other until all callers are done.
pub fn kill(mut random: Random, names: &[&str], done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5 + random.below(60)));
        let victims = named(random.one_of(names));
        if !victims.is_empty() {
            let victim = random.one_of(&victims);
            if let Some(keeper) = parent(victim).filter(|pid| is_keeper(*pid)) {
                // A child without this name is the helper that starts a new keeper's relay: there may be no relay then.
                let is_relay = process_field(victim, "Name").is_some_and(|name| name == "kak-dns");
                *RELAYS.lock().unwrap().entry(keeper).or_default() +=
                    if is_relay { 1 } else { 1 + LIVES };
            }
            send(victim, Signal::KILL);
        }
    }
}

/// Sends a signal to a process, if it is still there.
fn send(pid: i64, signal: Signal) {
    let pid = i32::try_from(pid).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).ok();
}

/// Whether a process is a keeper.
fn is_keeper(pid: i64) -> bool {
    process_field(pid, "Name").is_some_and(|name| name == "kak-keeper")
}

/// Stops one process after the other, each for a while, until all callers are done: a monitor for some time, as its
/// jail's own processes may wait for it, and a command of ours until some other commands have ended.
pub fn stop(mut random: Random, done: &AtomicUsize) {
    let at_work = || u64::try_from(done.load(Ordering::Relaxed)).unwrap() < CALLERS;
    let mine = i64::from(std::process::id());
    let stopped = |pid: &i64| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = words.split(|byte| *byte == 0);
        words.any(|word| STOPPED.contains(&word))
    };
    while at_work() {
        std::thread::sleep(Duration::from_millis(5 + random.below(60)));
        let monitors = random.below(3) == 0;
        let victims: Vec<i64> = if monitors {
            // Not a process that is about to be a shell: nssh would stop with it, and only go on by a SIGCONT to
            // itself.
            let mut all = children(&named("kak-init"));
            all.retain(|pid| process_field(*pid, "Name").is_some_and(|name| name == "kak-session"));
            all
        } else {
            children(&[mine]).into_iter().filter(stopped).collect()
        };
        if victims.is_empty() {
            continue;
        }
        let victim = random.one_of(&victims);
        let (start, limit) = (Instant::now(), Duration::from_millis(random.below(200)));
        let ended = ENDED.load(Ordering::Relaxed) + ENDED_BESIDE;
        let over = || {
            if monitors {
                start.elapsed() >= limit
            } else {
                ENDED.load(Ordering::Relaxed) >= ended
            }
        };
        send(victim, Signal::STOP);
        // If one caller is left, its command may be the stopped one.
        while !over() && u64::try_from(done.load(Ordering::Relaxed)).unwrap() + 1 < CALLERS {
            std::thread::sleep(Duration::from_millis(2));
        }
        send(victim, Signal::CONT);
    }
}
