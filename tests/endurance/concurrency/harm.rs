//! What is done to the commands and to the jails meanwhile: processes are killed, and others stopped for a while.

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// What is stopped beside monitors: whoever was started by us, and either waits for others or is a session's nssh. By a
/// word of theirs.
const STOPPED: &[&[u8]] = &[b"nssh", b"setup", b"teardown", b"--uplink", b"delete"];

/// How many commands end before one that is stopped goes on.
const ENDED_BESIDE: usize = 6;

/// Kills one process after the other until everybody is done.
pub fn kill(mut random: Random, names: &[&str], done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5 + random.below(60)));
        let victims = named(random.one_of(names));
        if !victims.is_empty() {
            let victim = random.one_of(&victims);
            if let Some(keeper) = parent(victim).filter(|pid| is_keeper(*pid)) {
                // Who is not called so yet helps one that starts, which may then be without what that was to bring.
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

/// Stops one process after the other until everybody is done, each for a while: a monitor for some time, as its jail's
/// own processes may wait for it, and whoever we have started until so many commands of others have ended.
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
            // Not what is about to be a shell: nssh stops with its shell, and goes on when it is told so itself.
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
        // The last one at work may be the one that is stopped.
        while !over() && u64::try_from(done.load(Ordering::Relaxed)).unwrap() + 1 < CALLERS {
            std::thread::sleep(Duration::from_millis(2));
        }
        send(victim, Signal::CONT);
    }
}
