//! The process for a jail's resolvers. It relays those on loopback addresses, which only the outer network reaches,
//! such as Docker's 127.0.0.11 and systemd's 127.0.0.53 ([`relay`]); and if the jail's resolv.conf is a copy of the
//! outer one it follows changes of that ([`outer`]), in the file and in what is relayed.
//!
//! A socket stays in the network namespace that it was made in. So one process has sockets on both sides: it listens on
//! a resolver's own address and port in the jail and asks outside, and no address or firewall rule has to change. It is
//! the keeper's child, and ends with it or with init.

mod connection;
pub mod door;
mod earlier;
mod outer;
pub mod relay;

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::EventFlags;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, Signal, WaitOptions};

use super::{Init, Life, process, timespec};
use crate::error::{Result, What as _, complain};
use crate::facts::resolvers::loopbacks;
use crate::file;
use crate::netns;
use crate::plan::follows;
use crate::record::Record;
use crate::survey::resolvers::outer_text;
use crate::sys::{self, SignalSet};
use door::PORT;
use outer::{Look, Outer};
use relay::{DOORS, Relay};

/// How often a relay that was killed is restarted at once, and how long after its last start that count begins anew:
/// one that cannot live would keep the machine busy.
const LIVES: (u8, Duration) = (3, Duration::from_secs(10));

/// The process for a jail that is up, as the keeper sees it, its parent.
pub struct Child {
    /// The jail.
    jail: String,
    /// The process, if the jail needs one.
    pid: Option<Pid>,
    /// How many more times it is restarted at once.
    lives: u8,
    /// When it was last started.
    since: Instant,
    /// When it is restarted, if it is missing and that cannot be at once.
    again: Option<Instant>,
    /// Whether its last restart failed.
    has_failed: bool,
}

impl Child {
    /// Starts it.
    pub fn start(init: &Init, jail: &str) -> Result<Self> {
        Ok(Self {
            jail: jail.into(),
            pid: start(init, jail)?,
            lives: LIVES.0,
            since: Instant::now(),
            again: None,
            has_failed: false,
        })
    }

    /// Restarts it if it was killed: without it the jail may not resolve names.
    pub fn look(&mut self, init: &Init) {
        if let Some(pid) = self.pid
            && let Ok(Some(_)) = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG)
        {
            self.reaped(pid, init);
        }
        if self.again.is_some_and(|at| at <= Instant::now()) {
            self.start_again(init);
        }
    }

    /// In how long [`Self::look`] has something to do although nothing has happened, if ever.
    pub fn timeout(&self) -> Option<Timespec> {
        self.again
            .map(|at| timespec(at.saturating_duration_since(Instant::now())))
    }

    /// To be called when the keeper has reaped a child, of whichever kind.
    pub fn reaped(&mut self, pid: Pid, init: &Init) {
        if self.pid == Some(pid) {
            self.pid = None;
            self.start_again(init);
        }
    }

    /// Restarts it, now or when the count begins anew; not for a jail that has ended.
    fn start_again(&mut self, init: &Init) {
        self.again = None;
        if init.wait(Duration::ZERO) {
            return;
        }
        if self.since.elapsed() >= LIVES.1 {
            self.lives = LIVES.0;
        }
        if self.lives > 0 {
            self.lives -= 1;
            self.since = Instant::now();
            let started = start(init, &self.jail);
            let had_failed = std::mem::replace(&mut self.has_failed, started.is_err());
            match started {
                Ok(pid) => {
                    self.pid = pid;
                    return;
                }
                // Reported once, not every time.
                Err(error) if !had_failed => complain(&error.lines("kak: setup")),
                Err(_) => {}
            }
        }
        self.again = Some(self.since + LIVES.1);
    }
}

/// Starts the process for a jail that is up, if it needs one: as a child of the keeper, which calls this.
fn start(init: &Init, jail: &str) -> Result<Option<Pid>> {
    let Some(resolvers) = Resolvers::beside(init, jail)? else {
        return Ok(None);
    };
    if let Some(pid) = sys::fork().what(|| "fork")? {
        return Ok(Some(pid));
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).ok();
    resolvers.serve(&init.fd, None)
}

/// The same for a jail without a keeper, by a caller that exits after it: nothing restarts it.
pub fn start_unkept(init: &Init, jail: &str) -> Result<()> {
    let Some(resolvers) = Resolvers::beside(init, jail)? else {
        return Ok(());
    };
    match sys::fork().what(|| "fork")? {
        Some(_) => Ok(()),
        None => resolvers.serve(&init.fd, None),
    }
}

/// Starts the process for a network without a jail, if it needs one. It is no child of the caller's; it is found by the
/// lock when it is to be ended.
pub fn start_alone(name: &str) -> Result<()> {
    let Some(resolvers) = Resolvers::prepare(name)? else {
        return Ok(());
    };
    let (ours, theirs) = process::channel()?;
    let Some(between) = sys::fork().what(|| "fork")? else {
        drop(ours);
        if let Ok(None) = sys::fork() {
            resolvers.alone(name, theirs);
        }
        sys::exit_now(0);
    };
    drop(theirs);
    process::wait_for(between);
    let mut byte = [0];
    match rustix::net::recv(&ours, &mut byte, RecvFlags::empty()) {
        Ok((1, _)) => Ok(()),
        _ => Err(crate::error::Error::text(
            "kak-dns",
            "the relay for the resolvers did not start",
        )),
    }
}

/// Whether the process for a network without a jail runs; none if none is needed. Nothing restarts it.
pub fn alone(record: &Record) -> Result<Option<bool>> {
    let jail = &record.config.jail;
    if !record.config.bare || !follows(record) && loopbacks(&text(record)?).is_empty() {
        return Ok(None);
    }
    Ok(Some(!matches!(Life::of(jail)?, Life::Down)))
}

/// What a jail's resolv.conf says, or the outer one where it has none.
fn text(record: &Record) -> Result<Vec<u8>> {
    match file::read(&record.resolv_conf())? {
        text if text.is_empty() => outer_text(),
        text => Ok(text),
    }
}

/// The state of the process.
struct Resolvers {
    /// The jail.
    jail: String,
    /// The jail's network.
    namespace: OwnedFd,
    /// What is relayed.
    relay: Relay,
    /// What the jail's resolv.conf is a copy of.
    outer: Option<Outer>,
}

/// The number by which the relay reports the end.
const END: usize = 0;
/// The number for a resolv.conf that may have changed.
const NEWS: usize = 1;

impl Resolvers {
    /// Opens the doors of a jail's resolvers; none if nothing has to be done for it, now or later.
    fn prepare(jail: &str) -> Result<Option<Self>> {
        let Some(record) = Record::read(jail)? else {
            return Ok(None);
        };
        let text = text(&record)?;
        let resolvers = loopbacks(&text);
        let outer = follows(&record).then(|| Outer::new(jail, text));
        if resolvers.is_empty() && outer.is_none() {
            return Ok(None);
        }
        let mut made = Self {
            jail: jail.into(),
            namespace: netns::open(jail.as_ref())?,
            relay: Relay::new().what(|| "epoll_create")?,
            outer,
        };
        made.open(&resolvers);
        Ok(Some(made))
    }

    /// The same for a jail that is up, whose end it watches for. Done before there is a process for it, so that the
    /// caller gets the error if it fails.
    fn beside(init: &Init, jail: &str) -> Result<Option<Self>> {
        let made = Self::prepare(jail)?;
        if let Some(made) = &made {
            made.hear(&init.fd).what(|| "epoll_ctl")?;
        }
        Ok(made)
    }

    /// Runs one that nobody keeps: reports that it can be found, and serves until a signal ends it.
    fn alone(self, name: &str, report: OwnedFd) {
        let path = crate::record::dir(name).join("lock");
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let lock = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
        let Ok(lock) =
            lock.and_then(|lock| sys::lock_bytes(lock.as_fd(), super::RELAY).map(|()| lock))
        else {
            return;
        };
        let me = rustix::process::pidfd_open(
            rustix::process::getpid(),
            rustix::process::PidfdFlags::empty(),
        );
        // A caller that gets no report takes the network back.
        if let Ok(me) = me
            && self.hear(&me).is_ok()
            && rustix::net::send(&report, &[0], SendFlags::NOSIGNAL).is_ok()
        {
            drop(report);
            self.serve(&me, Some(&lock));
        }
        drop(lock);
    }

    /// From now on it watches for the end, and for changes of resolv.conf.
    fn hear(&self, end: &OwnedFd) -> rustix::io::Result<()> {
        self.relay.tell_of(end, END, EventFlags::IN)?;
        for (fd, flags) in self.outer.iter().flat_map(Outer::fds) {
            // poll's flags have the same values in epoll.
            let flags = EventFlags::from_bits_retain(flags.bits().into());
            self.relay.tell_of(fd, NEWS, flags)?;
        }
        Ok(())
    }

    /// Leaves all that is the caller's but `lock`, and serves until this process is killed, or that of `end` ends.
    fn serve(mut self, end: &OwnedFd, lock: Option<&OwnedFd>) -> ! {
        let fds = [&self.namespace, end].into_iter().chain(lock);
        let fds = fds.chain(self.relay.fds());
        let fds = fds.chain(self.outer.iter().flat_map(Outer::fds).map(|(fd, _)| fd));
        sys::close_but(&fds.map(AsFd::as_fd).collect::<Vec<_>>());
        sys::set_title(c"kak-dns", &self.jail);
        rustix::process::setsid().ok();
        rustix::process::chdir("/").ok();
        process::silence().ok();
        if let Ok(log) = super::log(&self.jail) {
            rustix::stdio::dup2_stderr(log).ok();
        }
        Relay::raise_limit();
        sys::set_signal_mask(&SignalSet::empty());
        loop {
            let again = self.outer.as_ref().and_then(|outer| outer.again);
            let told = self.relay.turn(again);
            if told.contains(&END) {
                sys::exit_now(0);
            }
            if told.contains(&NEWS) || again.is_some_and(|when| when <= Instant::now()) {
                self.follow();
            }
        }
    }

    /// Checks whether the outer resolv.conf has changed, and gives the jail the new one.
    fn follow(&mut self) {
        match self.outer.as_mut().map(Outer::look) {
            Some(Look::Change(change)) => {
                // First: nobody is to read of a resolver that is not served yet.
                let resolvers = loopbacks(&change.text);
                self.open(&resolvers);
                if let Err(error) = change.make() {
                    complain(&error.lines("kak: setup"));
                }
                self.relay.keep(&resolvers);
            }
            Some(Look::Over) => self.outer = None,
            Some(Look::Same) | None => {}
        }
    }

    /// Opens the doors that are missing. If one cannot be opened that is reported, and the others serve. Those that are
    /// to be closed afterwards are not counted.
    fn open(&mut self, resolvers: &[IpAddr]) {
        let served: Vec<IpAddr> = self.relay.resolvers().collect();
        let (kept, mut missing): (Vec<IpAddr>, Vec<IpAddr>) = resolvers
            .iter()
            .partition(|resolver| served.contains(resolver));
        missing.truncate(DOORS.saturating_sub(kept.len()));
        if missing.is_empty() {
            return;
        }
        for (resolver, door) in missing.iter().zip(earlier::open(&self.namespace, &missing)) {
            let served = door.and_then(|door| self.relay.open(door));
            if let Err(error) = served.what(|| format!("listen on {resolver} port {PORT}")) {
                complain(&error.lines("kak: setup"));
            }
        }
    }
}
