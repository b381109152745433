//! Signals: masks, dispositions, signalfd, kill. Part of the one door, and unsafe as that is.

use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::Result;
use rustix::process::{Pid, Signal};

use super::check;

/// A set of signals.
#[derive(Clone, Copy)]
pub struct SignalSet(libc::sigset_t);

impl SignalSet {
    /// No signal.
    pub fn empty() -> Self {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset writes the whole set.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: written just above.
        Self(unsafe { set.assume_init() })
    }

    /// Exactly these signals.
    pub fn of(signals: &[Signal]) -> Self {
        let mut set = Self::empty();
        for signal in signals {
            // SAFETY: the set is initialised.
            unsafe { libc::sigaddset(&raw mut set.0, signal.as_raw()) };
        }
        set
    }

    /// Every signal.
    fn all() -> Self {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigfillset writes the whole set.
        unsafe { libc::sigfillset(set.as_mut_ptr()) };
        // SAFETY: written just above.
        Self(unsafe { set.assume_init() })
    }

    /// This set without these signals.
    fn without(mut self, numbers: &[libc::c_int]) -> Self {
        for number in numbers {
            // SAFETY: the set is initialised.
            unsafe { libc::sigdelset(&raw mut self.0, *number) };
        }
        self
    }

    /// Every signal but those that a fault of our own raises (signal(7)).
    pub fn all_but_faults() -> Self {
        Self::all().without(&[
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGILL,
            libc::SIGFPE,
            libc::SIGTRAP,
            libc::SIGSYS,
            libc::SIGABRT,
        ])
    }

    /// Whether a signal is in it.
    pub fn has(&self, signal: Signal) -> bool {
        // SAFETY: the set is initialised.
        unsafe { libc::sigismember(&raw const self.0, signal.as_raw()) == 1 }
    }
}

/// `sigprocmask(SIG_SETMASK, ...)`: the mask that was in force before.
pub fn set_signal_mask(set: &SignalSet) -> SignalSet {
    let mut old = SignalSet::empty();
    // SAFETY: both sets are initialised; the call cannot fail with SIG_SETMASK.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set.0, &raw mut old.0) };
    old
}

/// `sigprocmask(SIG_BLOCK, ...)`: the mask that was in force before.
pub fn block_signals(set: &SignalSet) -> SignalSet {
    let mut old = SignalSet::empty();
    // SAFETY: both sets are initialised; the call cannot fail with SIG_BLOCK.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set.0, &raw mut old.0) };
    old
}

/// `sigprocmask(SIG_UNBLOCK, ...)`: the mask that was in force before.
pub fn unblock_signals(set: &SignalSet) -> SignalSet {
    let mut old = SignalSet::empty();
    // SAFETY: both sets are initialised; the call cannot fail with SIG_UNBLOCK.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set.0, &raw mut old.0) };
    old
}

/// What a process does on a signal; kept so that a child can get it back.
#[derive(Clone, Copy)]
pub struct Disposition(libc::sigaction);

/// What [`set_disposition`] can ask for.
#[derive(Clone, Copy)]
pub enum Action {
    /// `SIG_DFL`.
    Default,
    /// `SIG_IGN`.
    Ignore,
}

/// `sigaction(signal, SIG_DFL or SIG_IGN)`: the disposition that was in force before.
pub fn set_disposition(signal: Signal, action: Action) -> Disposition {
    // SAFETY: sigaction is plain data, for which zeroes are SIG_DFL, no flags and an empty mask.
    let (mut new, mut old): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    new.sa_sigaction = match action {
        Action::Default => libc::SIG_DFL,
        Action::Ignore => libc::SIG_IGN,
    };
    // SAFETY: both point to whole structures.
    unsafe { libc::sigaction(signal.as_raw(), &raw const new, &raw mut old) };
    Disposition(old)
}

/// Whether this process ignores a signal.
pub fn is_ignored(signal: Signal) -> bool {
    // SAFETY: sigaction is plain data, for which zeroes are valid.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is changed, and `old` is a whole structure.
    unsafe { libc::sigaction(signal.as_raw(), std::ptr::null(), &raw mut old) };
    old.sa_sigaction == libc::SIG_IGN
}

/// Puts back what [`set_disposition`] returned.
pub fn restore_disposition(signal: Signal, old: &Disposition) {
    // SAFETY: the structure is one that the kernel filled in.
    unsafe { libc::sigaction(signal.as_raw(), &raw const old.0, std::ptr::null_mut()) };
}

/// Does something, and interrupts its system call when this time is over: by SIGALRM (`setitimer(ITIMER_REAL, ...)`),
/// which is unblocked meanwhile. <https://man7.org/linux/man-pages/man2/setitimer.2.html>
pub fn alarmed<T>(limit: std::time::Duration, work: impl FnOnce() -> T) -> T {
    /// Exists so that the signal interrupts a system call, and does nothing else.
    extern "C" fn wake(_: libc::c_int) {}
    let arm = |after: std::time::Duration| {
        let time = libc::timeval {
            tv_sec: after.as_secs().try_into().unwrap_or(i64::MAX),
            tv_usec: after.subsec_micros().into(),
        };
        // Repeated, so that one which comes before the call began is not the last.
        let timer = libc::itimerval {
            it_interval: time,
            it_value: time,
        };
        // SAFETY: the structure is whole.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    };
    // SAFETY: sigaction is plain data, for which zeroes are SIG_DFL, no flags and an empty mask.
    let (mut new, mut old): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    new.sa_sigaction = wake as *const () as libc::sighandler_t;
    // SAFETY: both point to whole structures, and the function does nothing.
    unsafe { libc::sigaction(libc::SIGALRM, &raw const new, &raw mut old) };
    let (alarm, mut mask) = (SignalSet::of(&[Signal::ALARM]), SignalSet::empty());
    // SAFETY: both sets are initialised; the call cannot fail with SIG_UNBLOCK.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const alarm.0, &raw mut mask.0) };
    arm(limit);
    let result = work();
    arm(std::time::Duration::ZERO);
    set_signal_mask(&mask);
    restore_disposition(Signal::ALARM, &Disposition(old));
    result
}

/// `int signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK)`. <https://man7.org/linux/man-pages/man2/signalfd.2.html>
pub fn signalfd(set: &SignalSet) -> Result<OwnedFd> {
    // SAFETY: the set is initialised.
    let fd = check(unsafe {
        libc::signalfd(-1, &raw const set.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A signal read from a signalfd.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Its number; one that rustix has no name for stays a number.
    pub number: i32,
    /// The sender's PID, in the reader's PID namespace; 0 if the sender is outside of it. None if it was not sent by
    /// kill(2): with sigqueue(3) the sender writes that field itself, and a signal raised by a descriptor (`F_SETSIG`)
    /// has no sender.
    pub sender: Option<u32>,
}

/// The next pending signal of a signalfd (`struct signalfd_siginfo`), if there is one.
pub fn read_signal(fd: BorrowedFd<'_>) -> Option<Received> {
    let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
    rustix::io::read(fd, &mut bytes)
        .ok()
        .filter(|read| *read == bytes.len())?;
    let word = |at: usize| Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    Some(Received {
        number: word(0)?,
        sender: (word(8)? == libc::SI_USER).then_some(word(12)?.cast_unsigned()),
    })
}

/// `kill(-1, signal)`: to every process of this PID namespace but its init and the caller.
pub fn kill_all(signal: Signal) {
    // SAFETY: kill touches no memory. That there is nobody to kill is fine.
    unsafe { libc::kill(-1, signal.as_raw()) };
}

/// `kill(pid, number)` for a signal that came as a number.
pub fn kill_number(pid: Pid, number: i32) -> Result<()> {
    // SAFETY: kill touches no memory.
    check(unsafe { libc::kill(pid.as_raw_nonzero().get(), number) }).map(drop)
}

/// Dies of signal `number` as a child did: by its default disposition, without a core dump of ours, and before any
/// other pending signal. Returns only if that signal does not kill.
pub fn die_of(number: i32) {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).ok();
    if let Some(signal) = Signal::from_named_raw(number) {
        set_disposition(signal, Action::Default);
    }
    kill_number(rustix::process::getpid(), number).ok();
    set_signal_mask(&SignalSet::all().without(&[number]));
}
