//! PID 1 of a jail: builds the root, takes the lock that says so, then reaps and waits to be told to end. It is never a
//! user's command, and has no terminal, no pipe, and only the descriptors of /dev/null, its lock, signals and watches.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, WaitStatus, wait};
use rustix::thread::LinkNameSpaceType;

use super::sessions::Processes;
use super::{ENDING, GRACE, STARTING, UP, timespec};
use crate::error::{Error, Result, What as _};
use crate::facts::resolvers::{OUTER, SOCKETS};
use crate::file;
use crate::plan::{Plan, programs, socket_cover};
use crate::procfs;
use crate::record::{self, Record};
use crate::step::resolvers::Resolvers;
use crate::step::{Action as _, Machine};
use crate::sys::{self, SignalSet};
use crate::text::quote;
use crate::watch::TABLE;
use crate::watch::kept::{Kept, Place};

/// What init needs from the keeper that starts it.
pub struct Start<'a> {
    /// The jail.
    pub record: &'a Record,
    /// Its plan.
    pub plan: &'a Plan,
    /// Its network namespace.
    pub netns: OwnedFd,
    /// Its time namespace, if it has one of its own.
    pub time: Option<OwnedFd>,
    /// Where to say that the jail is up (an empty error) or why it is not.
    pub report: OwnedFd,
    /// The keeper's pidfd, to see whether it lives.
    pub keeper: OwnedFd,
}

/// Runs init, in a process that is PID 1 of new PID and mount namespaces. Signals are blocked already.
pub fn run(start: Start<'_>) -> ! {
    let Start {
        record,
        plan,
        netns,
        time,
        report,
        keeper,
    } = start;
    let entered = alone(&keeper).and_then(|()| enter(&netns, time.as_ref()));
    // Without the pipe there is no report; the keeper sees that we are gone.
    let Ok(report) = sys::keep_only(report) else {
        sys::exit_now(1)
    };
    let lock = entered.and_then(|()| build(record, plan));
    let text = lock.as_ref().err().map(Error::packed).unwrap_or_default();
    // All signals are blocked, SIGPIPE too.
    rustix::io::write(&report, text.as_bytes()).ok();
    drop(report);
    match lock {
        Ok((lock, signals)) => serve(&lock, &signals),
        Err(_) => sys::exit_now(1),
    }
}

/// Makes this process die with the keeper, even if that is dead already.
fn alone(keeper: &OwnedFd) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .what(|| "prctl PR_SET_PDEATHSIG")?;
    // getppid() would say 0 either way: the parent is in another PID namespace.
    if super::wait_readable(keeper.as_fd(), Duration::ZERO) {
        return Err(Error::text("", "the keeper is gone"));
    }
    Ok(())
}

/// Joins the jail's network and time namespaces, and leaves everything that belongs to the caller.
fn enter(netns: &OwnedFd, time: Option<&OwnedFd>) -> Result<()> {
    rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
        .what(|| "nsenter --net")?;
    if let Some(time) = time {
        rustix::thread::move_into_link_name_space(time.as_fd(), Some(LinkNameSpaceType::Time))
            .what(|| "nsenter --time")?;
    }
    leave()
}

/// Leaves the caller's session, terminal, pipes and umask.
fn leave() -> Result<()> {
    // Fails for a session leader, which then has nothing to leave.
    rustix::process::setsid().ok();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    super::process::silence().what(|| "exec <>/dev/null")
}

/// Takes the lock, makes the mounts, and locks the second byte when the jail can be joined. Returns the lock and a
/// signalfd.
fn build(record: &Record, plan: &Plan) -> Result<(OwnedFd, OwnedFd)> {
    let path = record::dir(&record.config.jail).join("lock");
    let what = || format!("lockf {}", path.display());
    let lock = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).what(what)?;
    sys::lock_bytes(lock.as_fd(), STARTING).what(what)?;
    let mut machine = Machine::new(&record.config.jail);
    for step in &plan.inner {
        step.act.apply(&mut machine)?;
    }
    // Checked before anybody logs in with it.
    let shell = &record.facts.shell;
    rustix::fs::access(shell, rustix::fs::Access::EXEC_OK).map_err(|errno| {
        Error::cure(
            format!("--shell {}", quote(shell)),
            format!("the jail does not have it: {}", Error::reason(errno)),
            "name another one; directories of the jail's own (/mnt, /opt, /tmp, --hide) are empty",
        )
    })?;
    // Once more: /dev/null as it is open now is of the outer /dev, and would keep that in use.
    super::process::silence().what(|| "exec <>/dev/null")?;
    let signals = ready(lock.as_fd(), &record.config.jail).what(what)?;
    Ok((lock, signals))
}

/// Says that the jail can be joined, when nothing can go wrong any more; returns a signalfd.
fn ready(lock: BorrowedFd<'_>, jail: &str) -> rustix::io::Result<OwnedFd> {
    sys::set_title(c"kak-init", jail);
    let signals = sys::signalfd(&SignalSet::all_but_faults())?;
    // It stays dumpable: joining by pidfd would otherwise take CAP_SYS_PTRACE. Its memory holds nothing from outside.
    sys::lock_bytes(lock, UP).map(|()| signals)
}

/// Runs init in a process that a script has started as PID 1 of a jail that it has built: `lock` is the open lock file.
pub fn adopt(lock: &OwnedFd) -> Result<u8> {
    if rustix::process::getpid() != rustix::process::Pid::INIT {
        return Err(Error::text(
            "",
            "is for PID 1 of a jail that a script of `kak setup --explain` makes",
        ));
    }
    sys::set_signal_mask(&SignalSet::all_but_faults());
    leave()?;
    let signals = ready(lock.as_fd(), "").what(|| "lockf")?;
    serve(lock, &signals)
}

/// The mounts to keep although others may replace what they are on: the jail's resolv.conf, the covers of directories
/// with name service sockets (also for services that start later), and the read-only mounts of kak's own programs.
fn keep() -> Kept {
    let mounts = procfs::mounts(&file::read(Path::new(TABLE)).unwrap_or_default());
    let mut places = Vec::new();
    let jail = mounts.iter().rev().find_map(|mount| {
        let dir = mount.root.parent()?;
        let ours = mount.root.ends_with("resolv.conf") && dir.parent()?.ends_with("netns");
        ours.then(|| dir.file_name())?
    });
    let conf = jail.map(|jail| Path::new("/etc/netns").join(jail).join("resolv.conf"));
    if let Some(conf) = &conf {
        let resolvers = Resolvers {
            source: conf.clone(),
            root: "/".into(),
        };
        let place = Place::new(Path::new(OUTER), conf, move || {
            resolvers.apply(&mut Machine::new("")).is_ok()
        });
        places.push(place.following());
    }
    for dir in SOCKETS.map(Path::new) {
        let cover = socket_cover(Path::new("/"), dir, conf.as_deref());
        places.push(Place::cover(dir, move || {
            cover.apply(&mut Machine::new("")).is_ok()
        }));
    }
    for path in programs::of_table(&mounts) {
        let kept = programs::kept(Path::new("/"), path.into());
        places.push(Place::cover(path, move || {
            kept.apply(&mut Machine::new("")).is_ok()
        }));
    }
    Kept::new(places)
}

/// Reaps children, and ends on a signal from outside: SIGTERM now, SIGUSR1 as soon as no session is left.
fn serve(lock: &OwnedFd, signals: &OwnedFd) -> ! {
    let mut kept = keep();
    let mut deadline: Option<Instant> = None;
    let mut when_idle = false;
    loop {
        let ending = deadline.map(|end| timespec(end.saturating_duration_since(Instant::now())));
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        fds.extend(kept.fds());
        // Interrupted or not, everything is checked below.
        poll(&mut fds, ending.or_else(|| kept.limit()).as_ref()).ok();
        let told = fds.iter().skip(1).any(|fd| !fd.revents().is_empty());
        drop(fds);
        kept.look(told);
        let mut now = false;
        while let Some(signal) = sys::read_signal(signals.as_fd()) {
            // A sender in the jail has a PID here; one outside reads as 0.
            let outside = signal.sender == Some(0);
            now |= outside && signal.number == Signal::TERM.as_raw();
            when_idle |= outside && signal.number == Signal::USR1.as_raw();
        }
        let empty = !reap();
        if when_idle && deadline.is_none() {
            now |= empty
                || Processes::now()
                    .sessions(rustix::process::Pid::INIT)
                    .is_empty();
        }
        if now && deadline.is_none() {
            deadline = Some(Instant::now() + GRACE);
            sys::lock_bytes(lock.as_fd(), ENDING).ok();
            // Monitors turn this into a hang-up of their shells: an interactive shell ignores SIGTERM.
            sys::kill_all(Signal::TERM);
            sys::kill_all(Signal::CONT);
        }
        if deadline.is_some_and(|deadline| empty || Instant::now() >= deadline) {
            // The kernel kills what is left.
            sys::exit_now(0);
        }
    }
}

/// Whether this is how an init ends when reboot(2) is called in its jail: by SIGHUP for a restart, by SIGINT for
/// anything else (pid_namespaces(7)). No other SIGHUP or SIGINT can end it: init blocks both.
pub fn is_off(status: WaitStatus) -> bool {
    let off = [Signal::HUP, Signal::INT].map(Signal::as_raw);
    status
        .terminating_signal()
        .is_some_and(|number| off.contains(&number))
}

/// Reaps every dead child: pending SIGCHLDs merge, so there may be many. Returns whether any child is left.
pub fn reap() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}
