//! kak as the entrypoint of a container, as PID 1 or as the command of an init that is PID 1 (`docker run --init`):
//! brings the jail up, runs a first session on the container's terminal, reaps what the container leaves behind, and
//! ends the jail in time when the engine asks.
//!
//! The container ends with its first session, or with the last of the others that are open then; a jail whose init was
//! killed has none any more. Without a first session it outlives its jail, unlike any other keeper: `docker exec` still
//! works, and the next nssh brings a new jail up; unless the jail was switched off from inside by reboot(2).

use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitOptions, wait};

use super::build::{self, Teller, Wanted};
use super::session::{self, IfDown, Terminal};
use super::shell::{Called, Program};
use super::{Init, Life, dns, init, keeper, process};
use crate::error::{Error, Result, What as _, complain};
use crate::file;
use crate::sys::{self, Action, SignalSet};

/// Runs it: with a first session, if there is a command or somebody to talk to. Returns the container's exit status.
pub fn run(wanted: &Wanted, command: Option<Program>, teller: &mut Teller<'_>) -> Result<u8> {
    // The engine, or the program that executed us, may have left these in another state.
    sys::set_disposition(Signal::CHILD, Action::Default);
    let mask = sys::set_signal_mask(&SignalSet::all_but_faults());
    let jail = wanted.config.jail.as_str();
    let init = build::bring_up(wanted, teller, &mut |_| Ok(()))?;
    // Another kak may have brought it up: then it is no child of ours, and has its relay.
    let child = rustix::process::waitpid(Some(init.pid), WaitOptions::NOHANG);
    let is_ours = matches!(child, Ok(None));
    // The jail is of use without the relay, so its error is only printed.
    let told = |error: Error| complain(&error.lines("kak: setup"));
    let relay = is_ours.then(|| dns::Child::start(&init, jail).map_err(told).ok());
    let first = match command {
        None if is_nobody_there() => None,
        command => Some(start(jail, command, &mask)?),
    };
    // The command line stays what the container was made to run.
    rustix::thread::set_name(c"kak-keeper").ok();
    process::be_deaf().what(|| "exec </dev/null >/dev/null")?;
    let signals = sys::signalfd(&SignalSet::all_but_faults()).what(|| "signalfd")?;
    let mut container = Container {
        jail,
        init,
        is_ours,
        relay: relay.flatten(),
        first,
        status: None,
        is_off: false,
        others: None,
    };
    loop {
        let mut fds = vec![PollFd::new(&signals, PollFlags::IN)];
        if let Some(others) = &container.others {
            fds.push(PollFd::new(&others.fd, PollFlags::IN));
        }
        let timeout = container.relay.as_ref().and_then(dns::Child::timeout);
        poll(&mut fds, timeout.as_ref()).ok();
        drop(fds);
        while let Some(signal) = sys::read_signal(signals.as_fd()) {
            if keeper::ends(signal.number) {
                return container.end(u8::try_from(128 + signal.number).unwrap_or(143));
            }
        }
        container.reap();
        if let Some(relay) = &mut container.relay {
            relay.look(&container.init);
        }
        if let Some(status) = container.is_over()? {
            return container.end(status);
        }
    }
}

/// The state of the entrypoint.
struct Container<'a> {
    /// The jail.
    jail: &'a str,
    /// The jail's init.
    init: Init,
    /// It is our child, and not reaped yet.
    is_ours: bool,
    /// The process of the jail's resolvers.
    relay: Option<dns::Child>,
    /// The first session's nssh, while it lives.
    first: Option<Pid>,
    /// What the first session ended with.
    status: Option<u8>,
    /// Somebody in the jail has called reboot(2).
    is_off: bool,
    /// The init whose other sessions are still open after that.
    others: Option<Init>,
}

impl Container<'_> {
    /// Reaps every child that is dead.
    fn reap(&mut self) {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        while let Ok(Some((pid, status))) = retry_on_intr(|| wait(options)) {
            if status.stopped() {
                if Some(pid) == self.first {
                    // There is no shell outside that could continue it.
                    rustix::process::kill_process_group(pid, Signal::CONT).ok();
                }
                continue;
            }
            if self.is_ours && pid == self.init.pid {
                self.is_ours = false;
                self.is_off = init::is_off(status);
            }
            if let Some(relay) = &mut self.relay {
                relay.reaped(pid, &self.init);
            }
            if Some(pid) == self.first {
                self.first = None;
                self.status = Some(process::status_number(status));
            }
        }
    }

    /// The container's status, once the first session and all others have ended.
    fn is_over(&mut self) -> Result<Option<u8>> {
        if self.is_off {
            // Like a machine that is switched off or restarted: nothing has gone wrong. The first session, if there is
            // one, reports it.
            return Ok(self.first.is_none().then_some(0));
        }
        let Some(status) = self.status else {
            return Ok(None);
        };
        if let Some(others) = &self.others {
            return Ok(others.wait(std::time::Duration::ZERO).then_some(status));
        }
        let Life::Up(init) = Life::of(self.jail)? else {
            if self.is_ours {
                // It is not reaped yet, so how it ended is not known; or it lives, and somebody has removed its state.
                self.init.end_when_idle();
            }
            return Ok((!self.is_ours).then_some(status));
        };
        if init.tell_open() == 0 {
            return Ok(Some(status));
        }
        init.end_when_idle();
        self.others = Some(init);
        Ok(None)
    }

    /// Ends the jail and takes everything back.
    fn end(&self, status: u8) -> Result<u8> {
        // From here on the kernel reaps: the jail's end could wait for a zombie of ours.
        sys::set_disposition(Signal::CHILD, Action::Ignore);
        init::reap();
        build::take_down(self.jail, &mut build::quietly, &mut |_| Ok(()))?;
        Ok(status)
    }
}

/// Whether this process is the container's entrypoint: PID 1, or the command of a PID 1 that is an init, whose own
/// command line then ends in ours. A shell that is PID 1 would have more to do.
pub fn is_it() -> bool {
    let me = rustix::process::getpid();
    if me == Pid::INIT {
        return true;
    }
    let words = |pid: Pid| {
        file::read(Path::new(&format!(
            "/proc/{}/cmdline",
            pid.as_raw_nonzero()
        )))
        .unwrap_or_default()
    };
    let (ours, theirs) = (words(me), words(Pid::INIT));
    let before = theirs.strip_suffix(ours.as_slice());
    rustix::process::getppid() == Some(Pid::INIT)
        && !ours.is_empty()
        && before.is_some_and(|before| before.ends_with(&[0]))
}

/// Whether nobody is at standard input: it was closed, and is a directory now (see `fill_standard_descriptors`), or it
/// is /dev/null, as with `docker run -d`.
fn is_nobody_there() -> bool {
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::fstat(rustix::stdio::stdin()).map_or(true, |stat| {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => stat.st_rdev == null,
            kind => kind == FileType::Directory,
        }
    })
}

/// Starts the first session: an nssh of its own, in the foreground of the container's terminal if there is one.
fn start(jail: &str, command: Option<Program>, mask: &SignalSet) -> Result<Pid> {
    let program = command.unwrap_or(Program::Shell {
        called: Called::default(),
        args: Vec::new(),
    });
    if let Some(child) = sys::fork().what(|| "fork")? {
        return Ok(child);
    }
    // A process group of its own: signals typed at the terminal are not for us.
    rustix::process::setpgid(None, None).ok();
    rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid()).ok();
    sys::set_signal_mask(mask);
    sys::exit_now(session::follow(
        Terminal::Callers,
        jail,
        &program,
        IfDown::Refuse,
    ))
}
