//! The process outside that is init's parent: brings a jail up, takes it down, and while it lives does nothing but wait.
//! Where kak is the entrypoint it is PID 1 of the container ([`crate::jail::entrypoint`]); else it is a process in a
//! session of its own that no terminal can stop.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use rustix::thread::{CapabilitySet, capabilities};

use super::{Init, Life, Lock, init};
use crate::applet::complain;
use crate::config::Config;
use crate::engine::{self, Tell};
use crate::error::{Error, Result, What as _};
use crate::facts;
use crate::netns;
use crate::plan::{self, Plan};
use crate::record::Record;
use crate::step::{Machine, Seen, Step, file};
use crate::sys::{self, SignalSet};

/// How long somebody waits for a jail to come up before he gives up. A teardown that is under way takes up to
/// [`super::GRACE`].
const LIMIT: Duration = Duration::from_mins(1);

/// What somebody wants to be up.
pub struct Wanted {
    /// The jail.
    pub config: Config,
    /// Whether its options were given. If not, a jail that is there already is good as it is.
    pub given: bool,
}

/// What a jail is made from that is not up.
pub enum Basis {
    /// The record of an earlier attempt or life, with which it goes on.
    Again(Record),
    /// Nothing but its options.
    Nothing(Config),
    /// Its options, after what another record tells of is taken back.
    Other(Record, Config),
}

impl Wanted {
    /// Decides from the record that is there. It goes on where the options and the machine are the same: then every
    /// step that is done is as good as one that would be made now. A container that was stopped is another machine when
    /// it is started again, as its network is new.
    pub fn basis(&self, old: Option<Record>) -> Result<Basis> {
        let Some(old) = old else {
            return Ok(Basis::Nothing(self.config.clone()));
        };
        let config = if self.given {
            self.config.clone()
        } else {
            old.config.clone()
        };
        if config == old.config && old.facts.cookie == facts::cookie()? {
            return Ok(Basis::Again(old));
        }
        Ok(Basis::Other(old, config))
    }
}

/// What a jail that comes up tells, and to whom.
pub struct Teller<'a> {
    /// Of each step.
    pub step: Tell<'a>,
    /// What the machine does not allow.
    pub note: &'a mut dyn FnMut(&str),
}

/// Brings a jail up, or mends one that is. The init is new if it is our own child.
pub fn bring_up(wanted: &Wanted, teller: &mut Teller<'_>) -> Result<Init> {
    check_capabilities()?;
    let jail = wanted.config.jail.as_str();
    let _lock = Lock::take()?;
    let old = Record::read(jail)?;
    let old = match (Life::of(jail)?, old) {
        (Life::Up(init), Some(record)) => return mend(wanted, &record, init, teller),
        (_, old) => {
            super::end(jail)?;
            old
        }
    };
    let record = match wanted.basis(old)? {
        Basis::Again(record) => record,
        Basis::Nothing(config) => Record::new(config)?,
        Basis::Other(old, config) => {
            let own = clear(old, &mut quietly)?;
            let mut record = Record::new(config)?;
            // What could not be taken back, since there is something in it, is still ours.
            record.found.retain(|text| !own.contains(text));
            record
        }
    };
    let plan = Plan::new(&record);
    plan.notes.iter().for_each(|note| (teller.note)(note));

    let mut machine = Machine::new(jail);
    engine::setup(&plan.outer, &mut machine, teller.step)?;
    match start(&record, &plan) {
        Ok(init) => {
            plan.inner.iter().for_each(|step| (teller.step)('+', step));
            Ok(init)
        }
        Err(error) => {
            let keep = |text: &str| record.found.contains(text);
            Err(error.and(engine::teardown(&plan.outer, &mut machine, keep, &mut quietly).err()))
        }
    }
}

/// Makes what is missing of a jail that is up. What only its init could make is told instead.
fn mend(wanted: &Wanted, record: &Record, init: Init, teller: &mut Teller<'_>) -> Result<Init> {
    let jail = &record.config.jail;
    if wanted.given && wanted.config != record.config {
        return Err(Error::cure(
            format!("kak setup -n {jail}"),
            "it is up with other options",
            format!("see 'kak status -n {jail}'; 'kak teardown -n {jail}' ends it"),
        ));
    }
    let plan = Plan::new(record);
    let mut machine = Machine::new(jail);
    engine::setup(&plan.outer, &mut machine, teller.step)?;
    machine.view = Some(init.view()?);
    let mut errors = Vec::new();
    for (step, seen) in engine::observe(&plan.inner, &mut machine) {
        if seen == Seen::Done {
            (teller.step)('=', step);
        } else {
            errors.push(Error::cure(
                step.act.to_string(),
                "is missing in the jail, which somebody has changed from inside",
                format!("'kak teardown -n {jail}' and a new setup bring it back"),
            ));
        }
    }
    Error::all(errors)?;
    Ok(init)
}

/// Starts init and waits until it says that the jail can be joined.
fn start(record: &Record, plan: &Plan) -> Result<Init> {
    let netns = netns::open(record.config.jail.as_ref())?;
    let (ours, report) = channel()?;
    let me = rustix::process::getpid();
    let keeper = rustix::process::pidfd_open(me, PidfdFlags::empty()).what(|| "pidfd_open")?;
    let before = sys::set_signal_mask(&SignalSet::all_but_faults());
    let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    let child = sys::clone(flags.unsigned_abs().into());
    let Some((pid, fd)) = child.what(|| "unshare --pid --mount --fork")? else {
        drop(ours);
        init::run(init::Start {
            record,
            plan,
            netns,
            report,
            keeper,
        });
    };
    sys::set_signal_mask(&before);
    drop(report);
    let mut text = [0; 4096];
    let said = loop {
        match rustix::net::recv(&ours, &mut text, RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.map_or(0, |(read, _)| read),
        }
    };
    if matches!(Life::of(&record.config.jail)?, Life::Up(_)) {
        return Ok(Init { pid, fd });
    }
    rustix::process::waitpid(Some(pid), WaitOptions::empty()).ok();
    Err(match said {
        0 => Error::text(
            "unshare --pid --mount --fork",
            "the jail's init ended before the jail was up",
        ),
        read => Error::unpacked(&String::from_utf8_lossy(
            text.get(..read).unwrap_or_default(),
        )),
    })
}

/// Takes back what a record tells of; the steps that were its own, as text.
fn clear(mut record: Record, tell: Tell<'_>) -> Result<BTreeSet<String>> {
    if record.facts.cookie != facts::cookie()? {
        record.forget_kernel();
    }
    let plan = Plan::new(&record);
    let shared = record.shared();
    let mut machine = Machine::new(&record.config.jail);
    let keep = |text: &str| record.found.contains(text) || shared.contains(text);
    let (state, rest) = plan.outer.split_at(plan::STATE);
    // The record goes last, and only if nothing is left that it is needed for.
    engine::teardown(rest, &mut machine, keep, tell)?;
    engine::teardown(state, &mut machine, |_| false, tell)?;
    let texts = plan.outer.iter().map(|step| step.act.to_string());
    Ok(texts.filter(|text| !record.found.contains(text)).collect())
}

/// Ends a jail and takes back all that it stood on. That there is none is no error.
pub fn take_down(jail: &str, tell: Tell<'_>) -> Result<()> {
    if file::lstat(Path::new(crate::record::DIR))?.is_none() {
        return Ok(());
    }
    // Even where this jail has no state: who was killed early may have left the directory, which goes with the lock.
    let _lock = Lock::take()?;
    super::end(jail)?;
    if let Some(record) = Record::read(jail)? {
        return clear(record, tell).map(drop);
    }
    // Whoever made the directory was killed before he could write down what for.
    let state = Plan::state(jail, Vec::new());
    engine::teardown(&state, &mut Machine::new(jail), |_| false, tell)
}

/// Names the capabilities that are missing, before anything is changed.
fn check_capabilities() -> Result<()> {
    let have = capabilities(None).what(|| "capget")?.effective;
    let missing: Vec<&str> = [
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    ]
    .into_iter()
    .filter(|(capability, _)| !have.contains(*capability))
    .map(|(_, name)| name)
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::cure(
        "a jail",
        format!("needs {}", missing.join(" and ")),
        "run as root; in Docker use --privileged, or --cap-add SYS_ADMIN --cap-add NET_ADMIN \
         --security-opt apparmor=unconfined",
    ))
}

/// Whether the first session's process goes on as the keeper of what it brought up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// Until the jail's end, whoever brings that about; then what it stood on stays for the next.
    Background,
    /// As long as whoever asked lives and has a session; then everything is taken back.
    Attached,
}

/// A keeper that has a process of its own, seen by whoever asked for it.
pub struct Keeper {
    /// The process.
    pid: Pid,
    /// Closed by us, it ends an attached jail.
    channel: OwnedFd,
}

/// Brings a jail up in a process of its own that stays as its keeper. Returns when the jail is up; what does not work
/// is told on standard error by that process.
pub fn spawn(wanted: &Wanted, stay: Stay, teller: &mut Teller<'_>) -> Result<Keeper> {
    let (ours, theirs) = channel()?;
    let Some(pid) = sys::fork().what(|| "fork")? else {
        drop(ours);
        rustix::process::setsid().ok();
        sys::exit_now(keep(wanted, stay, &theirs, teller));
    };
    drop(theirs);
    if !super::wait_readable(ours.as_fd(), LIMIT) {
        rustix::process::kill_process(pid, Signal::KILL).ok();
        return Err(Error::cure(
            format!("kak setup -n {}", wanted.config.jail),
            format!("another kak has held the lock for {} s", LIMIT.as_secs()),
            format!("see 'fuser -v {}'", crate::record::DIR),
        ));
    }
    let mut byte = [0];
    match rustix::net::recv(&ours, &mut byte, RecvFlags::empty()) {
        Ok((1, _)) => Ok(Keeper { pid, channel: ours }),
        _ => Err(Error::told(wait_status(pid))),
    }
}

impl Keeper {
    /// Lets the jail end with its last session, and waits until everything is taken back; the keeper's exit status.
    pub fn release(self) -> u8 {
        drop(self.channel);
        wait_status(self.pid)
    }
}

/// The exit status of a child.
pub fn wait_status(pid: Pid) -> u8 {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(Some((_, status))) => return status_number(status),
            _ => return 1,
        }
    }
}

/// A wait status as a number: the exit status, or 128 and the signal.
pub fn status_number(status: rustix::process::WaitStatus) -> u8 {
    let number = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(number).unwrap_or(1)
}

/// The life of a keeper in a process of its own.
fn keep(wanted: &Wanted, stay: Stay, channel: &OwnedFd, teller: &mut Teller<'_>) -> u8 {
    let mine = match bring_up(wanted, teller) {
        Ok(init) => init,
        Err(error) => {
            complain(&error.lines("kak: setup"));
            return error.code();
        }
    };
    let jail = &wanted.config.jail;
    sys::set_signal_mask(&SignalSet::all_but_faults());
    rustix::thread::set_name(c"kak-keeper").ok();
    rustix::process::chdir("/").ok();
    let quiet = match stay {
        Stay::Background => silence().and_then(|()| log(jail)),
        // Whoever asked waits for us, and hears what goes wrong at the end.
        Stay::Attached => be_deaf(),
    };
    let Ok(signals) = quiet.and_then(|()| sys::signalfd(&SignalSet::all_but_faults())) else {
        return 1;
    };
    rustix::net::send(channel, &[0], SendFlags::NOSIGNAL).ok();
    if rustix::process::waitpid(Some(mine.pid), WaitOptions::NOHANG).is_err() {
        // It is not our child: somebody else brought it up, and keeps it.
        return 0;
    }
    watch(&mine, channel, &signals, stay);
    if stay == Stay::Background && is_gone(&mine) {
        return 0;
    }
    match take_down(jail, &mut quietly) {
        Ok(()) => 0,
        Err(error) => {
            complain(&error.lines("kak: teardown"));
            error.code()
        }
    }
}

/// Returns when init is gone, or somebody asks for the jail's end.
fn watch(init: &Init, channel: &OwnedFd, signals: &OwnedFd, stay: Stay) {
    let mut attached = stay == Stay::Attached;
    loop {
        let mut fds = vec![
            PollFd::new(&init.fd, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        if attached {
            fds.push(PollFd::new(channel, PollFlags::IN));
        }
        poll(&mut fds, None).ok();
        let left = fds.get(2).is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        if left {
            attached = false;
            init.end_when_idle();
        }
        if is_gone(init) {
            return;
        }
        while let Some(signal) = sys::read_signal(signals.as_fd()) {
            if ends(signal.number) {
                return;
            }
        }
    }
}

/// Whether a signal asks PID 1 or a keeper to end.
pub fn ends(number: i32) -> bool {
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT]
        .iter()
        .any(|signal| signal.as_raw() == number)
}

/// Whether init is dead.
fn is_gone(init: &Init) -> bool {
    super::wait_readable(init.fd.as_fd(), Duration::ZERO)
}

/// Does something that needs [`Lock`] in a process that no terminal can stop, and waits for it; its exit status. A
/// caller that is stopped or killed meanwhile holds nobody up.
pub fn apart(work: impl FnOnce() -> u8) -> Result<u8> {
    match sys::fork().what(|| "fork")? {
        None => {
            rustix::process::setsid().ok();
            sys::exit_now(work())
        }
        Some(pid) => Ok(wait_status(pid)),
    }
}

/// Runs a session in a child that is otherwise all that we are: stopped when it stops, continued with it; its exit
/// status, or 128 and the signal it died of.
pub fn in_place_of(session: impl FnOnce() -> u8) -> Result<u8> {
    let before = sys::block_signals(&SignalSet::of(&[Signal::TSTP, Signal::TTIN, Signal::TTOU]));
    let (int, quit) = (
        sys::set_disposition(Signal::INT, sys::Action::Ignore),
        sys::set_disposition(Signal::QUIT, sys::Action::Ignore),
    );
    let Some(pid) = sys::fork().what(|| "fork")? else {
        sys::restore_disposition(Signal::INT, &int);
        sys::restore_disposition(Signal::QUIT, &quit);
        sys::set_signal_mask(&before);
        sys::exit_now(session())
    };
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => {
                rustix::process::kill_process(rustix::process::getpid(), Signal::STOP).ok();
                rustix::process::kill_process(pid, Signal::CONT).ok();
            }
            Ok(Some((_, status))) => return Ok(status_number(status)),
            Err(rustix::io::Errno::INTR) => {}
            _ => return Ok(1),
        }
    }
}

/// Two ends that keep the borders of messages and say when the other one is gone.
pub fn channel() -> Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .what(|| "socketpair")
}

/// Standard input and output on /dev/null: whoever waits for an end of file gets it.
pub fn be_deaf() -> rustix::io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)
}

/// Standard error too.
pub fn silence() -> rustix::io::Result<()> {
    be_deaf()?;
    rustix::stdio::dup2_stderr(rustix::stdio::stdout())
}

/// Standard error into the jail's log.
fn log(jail: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
    let log = rustix::fs::open(crate::record::dir(jail).join("log"), flags, Mode::empty())?;
    rustix::stdio::dup2_stderr(&log)
}

/// Shows nothing.
pub fn quietly(_: char, _: &Step) {}
