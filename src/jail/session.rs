//! Joining a jail: what nssh does between being called and dying the way its shell died.
//!
//! Theory of operation. Everything that needs the outer namespaces is done first: finding init, the environment, the
//! directory's name. One setns on init's pidfd then joins all of the jail's namespaces or none. Only a child is in the
//! new PID namespace, and all that it does is to fork, so that the [`super::monitor`] is init's child, not ours
//! ([`sys::orphan`]): a stopped or killed nssh leaves no zombie that the jail's end would have to wait for. If that
//! child is stopped within the microseconds of its life, nssh waits for it. What is left is to wait, to stop when the
//! shell stops, and to die as it died.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::thread::move_into_thread_name_spaces;

use super::end::{End, HANG_UP};
use super::guest::{self, Guest};
use super::line::{self, Heard, Inner, Outer};
use super::monitor::{self, News, Order};
use super::pty::relay::Relay;
use super::shell::{Caller, Environment, Program, Shell};
use super::terminal::shared::{Guard, Shared};
use super::{Init, Life, build, keeper, namespaces, network, process, pty, terminal};
use crate::config::Config;
use crate::error::{Error, Result, What as _, complain};
use crate::record::Record;
use crate::record::state::State;
use crate::sys::{self, Action, SignalSet};

/// What to do if the jail of a session is not up.
#[derive(Clone, Copy)]
pub enum IfDown<'a> {
    /// Bring it up, and leave it so. Only root can.
    BringUp,
    /// Wait if it is coming up anyway, else fail: a guest makes nothing.
    Wait(&'a Guest),
    /// Fail: the caller made a jail for this session, takes that one back, and would not know of another.
    Refuse,
}

impl<'a> IfDown<'a> {
    /// The guest, if it is not for root.
    fn guest(self) -> Option<&'a Guest> {
        match self {
            Self::Wait(guest) => Some(guest),
            _ => None,
        }
    }
}

/// Whose terminal a session is on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// The caller's, if he has one.
    Callers,
    /// A pty of the jail's; the caller's terminal only shows it.
    Own,
}

/// Runs a program in a jail and ends as it ended: dies of the same signal, or returns the status to exit with. Errors
/// are printed.
pub fn follow(terminal: Terminal, jail: &str, program: &Program, if_down: IfDown<'_>) -> u8 {
    match run(terminal, jail, program, if_down) {
        Ok(end) => end.follow("kak: nssh"),
        Err(error) => {
            complain(&error.lines("kak: nssh"));
            125
        }
    }
}

/// Runs a program in a jail that is up, or that is brought up for it.
fn run(terminal: Terminal, jail: &str, program: &Program, if_down: IfDown<'_>) -> Result<End> {
    sys::close_from(3);
    process::keep_standard_descriptors().what(|| "open /dev/null")?;
    let own_terminal = terminal == Terminal::Own;
    if own_terminal
        || matches!(program, Program::Shell { args, .. } if terminal::is_interactive(args))
    {
        terminal::wait_for_foreground()?;
    }
    let (init, record) = find(jail, if_down)?;
    let guest = if_down.guest();
    let environment = guest.map_or_else(Environment::of_caller, Guest::environment);
    // Never freed: that would write to, and so copy, pages that are shared with the monitor.
    let shell = ManuallyDrop::new(Shell::prepare(record, program, environment)?);
    // For messages: the file that is run, which a shell's argv[0] need not name; else the name that is searched for.
    let name = match shell.paths.as_slice() {
        [path] => Some(path),
        _ => shell.argv.first(),
    };
    let name = name.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let shared = Shared::ours().filter(|_| !own_terminal);
    let takes_terminal = shell.takes_terminal && shared.is_some() && terminal::is_whole();

    let waits = [
        Signal::HUP,
        Signal::TERM,
        Signal::TSTP,
        Signal::TTIN,
        Signal::TTOU,
    ];
    // A relay has to restore the caller's terminal before a signal ends it.
    let waits = if own_terminal {
        SignalSet::all_but_faults()
    } else {
        SignalSet::of(&waits)
    };
    let mask = sys::block_signals(&waits);
    // Signals that the caller has ignored or blocked are not passed on: a shell ignores or blocks them too.
    let heard: Vec<Signal> = [Signal::HUP, Signal::TERM]
        .into_iter()
        .filter(|signal| !mask.has(*signal) && !sys::is_ignored(*signal))
        .collect();
    let dispositions = [
        (
            Signal::INT,
            sys::set_disposition(Signal::INT, Action::Ignore),
        ),
        (
            Signal::QUIT,
            sys::set_disposition(Signal::QUIT, Action::Ignore),
        ),
        // The process between us and the monitor is reaped by the kernel, even while we are stopped.
        (
            Signal::CHILD,
            sys::set_disposition(Signal::CHILD, Action::Ignore),
        ),
    ];
    let caller = Caller {
        mask,
        dispositions,
        core: guest.map(Guest::core),
        own_terminal,
        takes_terminal,
    };
    let rid = || guest.map_or(Ok(()), Guest::drop_rights);
    let join = move || {
        let joined = join(&init, jail, if_down);
        drop(init);
        joined.and_then(|()| rid())
    };
    if own_terminal {
        let ends = pty::start(join, |inner| leave_monitor(inner, &shell, &caller))?;
        rid()?;
        return Relay::new(ends, name)?.run();
    }
    let (outer, inner) = line::pair().what(|| "pipe")?;
    let _guard = shared
        .as_ref()
        .filter(|_| takes_terminal)
        .and_then(|shared| Guard::leave(shared, &outer, guest));
    join()?;
    leave_monitor(&inner, &shell, &caller).map_err(monitor::no_process)?;
    drop(inner);
    // Not before: the first process in the jail has nothing open but its standard descriptors and the pipes.
    let signals = sys::signalfd(&SignalSet::of(&heard)).what(|| "signalfd")?;
    let end = wait(&outer, &signals, &name, shared.as_ref())?;
    if let Some(shared) = &shared {
        shared.take_back(end == End::Gone);
    }
    Ok(end)
}

/// The init of a jail, which is brought up if need be, and the jail's record, read after init was pinned, so that it is
/// that init's and no other's.
fn find(jail: &str, if_down: IfDown<'_>) -> Result<(Init, Option<Record>)> {
    if let Some(guest) = if_down.guest() {
        return guest.find(jail);
    }
    let me_root = rustix::process::geteuid().is_root();
    for _ in 0..3 {
        let state = State::of(jail).and_then(|state| Ok((Life::by(&state)?, state)));
        let (life, state) = state.map_err(|error| match error.errno() {
            Some(Errno::ACCESS) if !me_root => guest::why_not(),
            _ => error,
        })?;
        match life {
            Life::Up(init) => return Ok((init, Record::of(&state)?)),
            // In a network without a jail the relay holds the lock (`RELAY`); that this is no jail is reported below.
            Life::Ending(_) if !network::is_ours(jail.as_ref())? => break,
            Life::Down | Life::Starting(_) | Life::Ending(_) => {}
        }
        if matches!(if_down, IfDown::Refuse) {
            return Err(Error::text(jail, "the jail is gone"));
        }
        if !me_root {
            return Err(Error::text(
                jail,
                "this jail is not up, and only root can bring it up",
            ));
        }
        let wanted = build::Wanted {
            config: Config::new(jail),
            given: false,
        };
        let mut teller = build::Teller {
            step: &mut build::quietly,
            note: &mut |_| {},
        };
        drop(keeper::spawn(
            &wanted,
            keeper::Stay::Background,
            &mut teller,
        )?);
    }
    Err(Error::text(jail, "the jail is going down"))
}

/// Joins the jail of this init, or the one that came after it.
fn join(init: &Init, jail: &str, if_down: IfDown<'_>) -> Result<()> {
    if let Some(guest) = if_down.guest() {
        guest.be_like_init();
    }
    // Init may have died since it was found, and nothing has happened yet: once more.
    if enter(init)? || enter(&find(jail, if_down)?.0)? {
        return Ok(());
    }
    Err(Error::text(jail, "the jail is going down"))
}

/// Leaves a monitor in the jail that we have joined, at the other end of the line.
fn leave_monitor(line: &Inner, shell: &Shell, caller: &Caller) -> rustix::io::Result<()> {
    sys::orphan(|| {
        // Of our descriptors only 0, 1, 2 and the inner end of the line get in there.
        sys::close_but(&line.both());
        monitor::run(line, shell, caller)
    })
}

/// Joins init's namespaces; false if it is gone.
fn enter(init: &Init) -> Result<bool> {
    // Nothing in the jail may look into a process that comes from outside (ptrace(2)).
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .what(|| "prctl PR_SET_DUMPABLE")?;
    // All kinds at once, as joining a namespace that we are in changes nothing. But that may be forbidden, or the
    // kernel may not have all kinds: then only those that differ.
    match move_into_thread_name_spaces(init.fd.as_fd(), namespaces::every()) {
        Ok(()) => return Ok(true),
        Err(Errno::SRCH) => return Ok(false),
        Err(_) => {}
    }
    let all = namespaces::to_join(init.pid)?;
    let what = || {
        let options: String = all.iter().map(|(name, _)| format!(" --{name}")).collect();
        format!("nsenter -t {}{options}", init.pid.as_raw_nonzero()).replace("--mnt", "--mount")
    };
    let kinds = all.iter().map(|(_, kind)| *kind);
    match move_into_thread_name_spaces(init.fd.as_fd(), kinds.collect()) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        // Before Linux 5.8 setns takes no pidfd. All files are opened first: after the mount namespace has changed
        // init's /proc is out of sight.
        Err(Errno::INVAL | Errno::BADF | Errno::NOSYS) => {
            let open = |(name, _): &(&str, _)| {
                let path = format!("/proc/{}/ns/{name}", init.pid.as_raw_nonzero());
                rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).what(what)
            };
            let files = all.iter().map(open).collect::<Result<Vec<_>>>();
            // If init is gone, its PID may have been reused.
            if init.wait(Duration::ZERO) {
                return Ok(false);
            }
            for file in files? {
                rustix::thread::move_into_link_name_space(file.as_fd(), None).what(what)?;
            }
            Ok(true)
        }
        Err(errno) => Err(errno).what(what),
    }
}

/// Waits for the shell's end, and stops whenever it stops.
fn wait(line: &Outer, signals: &OwnedFd, program: &str, shared: Option<&Shared>) -> Result<End> {
    let order = |order: Order| line.order(order.bytes());
    // After a hang-up: until when the shell's end is waited for.
    let mut deadline: Option<Instant> = None;
    // Why there was no shell: its process reports that, and the session is over when that process has ended.
    let mut not_run: Option<Errno> = None;
    loop {
        let mut fds = [
            PollFd::new(line, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        poll(&mut fds, rest.map(super::timespec).as_ref()).ok();
        while let Some(signal) = sys::read_signal(signals.as_fd()) {
            if signal.number == Signal::HUP.as_raw() {
                order(Order::HangUp);
                deadline.get_or_insert_with(|| Instant::now() + HANG_UP);
            } else {
                order(Order::Signal(signal.number));
            }
        }
        let news = match line.hear() {
            Heard::Nothing => {
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Ok(End::Signal(Signal::HUP.as_raw()));
                }
                continue;
            }
            Heard::Message(news) => News::parse(news),
            Heard::Gone => None,
        };
        match news {
            Some(News::NotRun(errno)) => not_run = Some(Errno::from_raw_os_error(errno)),
            None | Some(News::Exit(_) | News::Killed(_)) if let Some(errno) = not_run => {
                return Ok(End::NotRun(program.into(), errno));
            }
            None => return Ok(End::Gone),
            Some(News::Exit(status)) => return Ok(End::Exit(status)),
            Some(News::Killed(number)) => return Ok(End::Signal(number)),
            Some(News::NoProcess(errno)) => {
                return Err(monitor::no_process(Errno::from_raw_os_error(errno)));
            }
            Some(News::NoDescriptor(errno)) => {
                return Err(Errno::from_raw_os_error(errno)).what(|| "signalfd");
            }
            Some(News::Stopped(number)) => {
                let stopped = deadline.is_some() || terminal::stop(number);
                if shared.is_some_and(Shared::is_ours) {
                    order(Order::Foreground);
                } else if stopped || !terminal::is_of_terminal(number) {
                    order(Order::Continue);
                } else {
                    // It may not use the terminal, and nobody could ever change that.
                    order(Order::HangUp);
                    deadline = Some(Instant::now() + HANG_UP);
                }
            }
        }
    }
}
