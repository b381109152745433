//! nssh as the terminal of a session: what is typed goes to the session's pty, what the session writes comes from
//! there, and the window's size and the caller's signals are passed on. The caller's terminal is raw meanwhile, and has
//! its old modes whenever nssh does not use it: at the end, however it ends, and while nssh is stopped.
//!
//! It blocks in one place only, holds a fixed number of bytes per direction, and reads no more until those are written.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{SpecialCodeIndex, isatty};

use super::Ends;
use super::flow::{Again, Flow, ROOM};
use crate::error::{Result, What as _};
use crate::jail::end::{End, HANG_UP};
use crate::jail::line::Heard;
use crate::jail::monitor::{News, Order, no_process};
use crate::jail::{terminal, timespec, wait_readable};
use crate::sys::{self, SignalSet};

/// How many bytes at most are in transit through a pty when its last writer has ended (tty_buffer.c, n_tty.c).
const ON_ITS_WAY: usize = 64 * 1024 + 4 * 1024;
/// How much is written at once to what may block: a pipe that has room has room for that much (pipe(7)).
const AT_ONCE: usize = 4096;
/// Where what is typed comes from.
#[derive(Clone, Copy)]
enum Input {
    /// Standard input.
    Open,
    /// It is at its end, and the session is told so again and again: every read of a file at its end says so, and a
    /// program that reads a pty may have taken the first EOF character for an ordinary one.
    AtEnd(Again),
    /// Nowhere: we are in the background, and nobody can bring us to the foreground.
    Nobody,
}

/// What poll has found.
struct Ready {
    /// Of standard input.
    input: PollFlags,
    /// Of the pty.
    pty: PollFlags,
    /// Of standard output.
    output: PollFlags,
}

/// How the relay ends.
enum Over {
    /// The session has ended.
    With(End),
    /// We leave the session because of this signal.
    Hangup(i32),
}

/// The relay.
pub struct Relay {
    /// The session.
    ends: Ends,
    /// The name of what is run, for messages.
    program: String,
    /// The signals that came.
    signals: OwnedFd,
    /// The caller's terminal, if standard input is one.
    caller: terminal::Raw,
    /// Standard output, opened again so that writing never blocks; none where that cannot be had.
    output: Option<OwnedFd>,
    /// Where what is typed comes from.
    input: Input,
    /// What was typed.
    typed: Flow,
    /// What the session has written.
    shown: Flow,
    /// Nobody has the pty open; when to look whether somebody has opened it again.
    unused: Option<Again>,
    /// The caller's terminal has to be made raw, for the first time or again.
    away: bool,
    /// A signal that we passed on to the shell, and how long the shell has to handle it.
    told: Option<(i32, Instant)>,
    /// How the shell ended, and how many bytes that were written before may still come.
    ended: Option<(End, usize)>,
}

impl Relay {
    /// Between the caller's terminal, or whatever standard input and output are, and a session.
    pub fn new(ends: Ends, program: String) -> Result<Self> {
        let signals = sys::signalfd(&SignalSet::all_but_faults()).what(|| "signalfd")?;
        Ok(Self {
            ends,
            program,
            signals,
            caller: terminal::Raw::new(),
            output: unwaiting_output(),
            input: Input::Open,
            typed: Flow::new(),
            shown: Flow::new(),
            unused: None,
            away: true,
            told: None,
            ended: None,
        })
    }

    /// Works until the session has ended, or is left. All signals are blocked.
    pub fn run(mut self) -> Result<End> {
        let over = self.work();
        self.caller.restore();
        if let Ok(Over::With(end)) = over {
            return Ok(end);
        }
        self.order(Order::HangUp);
        let Ends { master, line } = self.ends;
        drop(master);
        // The shell's end is all there is to wait for, whatever the message says; and not for ever.
        wait_readable(line.as_fd(), HANG_UP);
        match over? {
            Over::With(end) => Ok(end),
            Over::Hangup(number) => Ok(End::Signal(number)),
        }
    }

    /// Does whatever there is to do, and waits for more.
    fn work(&mut self) -> Result<Over> {
        loop {
            let ready = self.wait();
            if let Some(over) = self.hear_signals() {
                return Ok(over);
            }
            self.hear_news()?;
            self.read_session(ready.pty);
            if let Some(over) = self.write_output(ready.output)? {
                return Ok(over);
            }
            if let Some(over) = self.read_input(ready.input) {
                return Ok(over);
            }
            self.write_session();
            self.tell_end_of_input();
            match self.told {
                Some((number, until)) if until <= Instant::now() => {
                    return Ok(Over::Hangup(number));
                }
                _ => {}
            }
            if let Some((end, 0)) = &self.ended
                && self.shown.is_empty()
            {
                return Ok(Over::With(end.clone()));
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) -> Ready {
        let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let mut add = |wanted: bool, fd, events| {
            wanted.then(|| {
                fds.push(PollFd::from_borrowed_fd(fd, events));
                fds.len() - 1
            })
        };
        let running = self.ended.is_none();
        add(running, self.ends.line.as_fd(), PollFlags::IN);
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, !self.shown.is_full());
        events.set(PollFlags::OUT, running && !self.typed.is_empty());
        let more = self.ended.as_ref().is_none_or(|(_, more)| *more > 0);
        let used = more && self.unused.is_none() && !events.is_empty();
        let pty = add(used, self.ends.master.as_fd(), events);
        let out = self.output.as_ref().map_or(stdout, OwnedFd::as_fd);
        let output = add(!self.shown.is_empty(), out, PollFlags::OUT);
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, self.typed.is_empty());
        // A terminal is polled even then, to notice that it is gone; a closed pipe would be reported again and again.
        let wanted = running
            && matches!(self.input, Input::Open)
            && (self.caller.is_there() || !events.is_empty());
        let input = add(wanted, stdin, events);

        let again = match self.input {
            Input::AtEnd(again) if running && self.unused.is_none() => Some(again.at),
            _ => None,
        };
        let next = [
            self.away.then(Instant::now),
            again,
            self.unused.map(|unused| unused.at),
            self.told.map(|(_, until)| until),
        ];
        let limit = next.into_iter().flatten().min();
        let limit = limit.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        // Interrupted or not, everything is checked afterwards.
        poll(&mut fds, limit.as_ref()).ok();
        let found = |at: Option<usize>| {
            at.and_then(|at| fds.get(at))
                .map_or(PollFlags::empty(), PollFd::revents)
        };
        Ready {
            input: found(input),
            pty: found(pty),
            output: found(output),
        }
    }

    /// Does what signals ask for.
    fn hear_signals(&mut self) -> Option<Over> {
        while let Some(signal) = sys::read_signal(self.signals.as_fd()) {
            match Signal::from_named_raw(signal.number) {
                Some(Signal::HUP) => return Some(Over::Hangup(signal.number)),
                Some(Signal::TSTP | Signal::TTIN | Signal::TTOU) => self.stop(signal.number),
                Some(Signal::CONT) => self.away = true,
                Some(Signal::WINCH) => self.resize(),
                // What these report is noticed elsewhere.
                Some(Signal::CHILD | Signal::URG | Signal::PIPE) => {}
                // By default any other would end a program. The shell may handle it, if it is quick.
                _ if self.told.is_some() || self.ended.is_some() => {
                    return Some(Over::Hangup(signal.number));
                }
                _ => {
                    self.order(Order::Signal(signal.number));
                    self.told = Some((signal.number, Instant::now() + HANG_UP));
                }
            }
        }
        // After all of them: an nssh that is continued to be ended does not stop once more.
        if self.away {
            self.away = false;
            self.resume();
        }
        None
    }

    /// Reads the monitor's news.
    fn hear_news(&mut self) -> Result<()> {
        while self.ended.is_none() {
            let news = match self.ends.line.hear() {
                Heard::Nothing => return Ok(()),
                Heard::Message(news) => News::parse(news),
                Heard::Gone => None,
            };
            let end = match news {
                Some(News::Stopped(number)) => {
                    self.stop(number);
                    self.order(Order::Continue);
                    continue;
                }
                Some(News::Exit(status)) => End::Exit(status),
                Some(News::Killed(number)) => End::Signal(number),
                Some(News::NotRun(errno)) => {
                    End::NotRun(self.program.clone(), Errno::from_raw_os_error(errno))
                }
                Some(News::NoProcess(errno)) => {
                    return Err(no_process(Errno::from_raw_os_error(errno)));
                }
                Some(News::NoDescriptor(errno)) => {
                    return Err(Errno::from_raw_os_error(errno)).what(|| "signalfd");
                }
                None => End::Gone,
            };
            self.ended = Some((end, ON_ITS_WAY));
            self.unused = None;
        }
        Ok(())
    }

    /// Reads what the session has written, while there is room and more comes.
    fn read_session(&mut self, ready: PollFlags) {
        let due = self.unused.is_some_and(Again::is_due);
        if ready.is_empty() && !due && self.ended.is_none() {
            return;
        }
        while !self.shown.is_full() {
            let read = self.shown.fill(self.ends.master.as_fd());
            match (read, &mut self.ended) {
                (Ok(read), None) if read > 0 => self.unused = None,
                (Ok(read), Some((_, more))) if read > 0 && *more > 0 => {
                    *more = more.saturating_sub(read);
                }
                (Err(Errno::INTR), _) => {}
                // Nothing is in transit any more: the kernel has pushed all of it through before read(2) failed.
                (_, Some((_, more))) => {
                    *more = 0;
                    return;
                }
                (Err(Errno::AGAIN), None) => {
                    self.unused = None;
                    return;
                }
                (_, None) => {
                    self.unused = Some(self.unused.map_or_else(Again::soon, Again::later));
                    return;
                }
            }
        }
    }

    /// Writes what the session has written.
    fn write_output(&mut self, ready: PollFlags) -> Result<Option<Over>> {
        while !self.shown.is_empty() && (self.output.is_some() || !ready.is_empty()) {
            let written = match &self.output {
                Some(output) => self.shown.drain(output.as_fd(), ROOM),
                None => self.shown.drain(rustix::stdio::stdout(), AT_ONCE),
            };
            match written {
                Ok(()) if self.output.is_some() => {}
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
                // The reader has gone, or the terminal.
                Err(Errno::PIPE) => return Ok(Some(Over::Hangup(Signal::PIPE.as_raw()))),
                Err(Errno::IO) => return Ok(Some(Over::Hangup(Signal::HUP.as_raw()))),
                Err(errno) => return Err(errno).what(|| "write to standard output"),
            }
        }
        Ok(None)
    }

    /// Reads what was typed.
    fn read_input(&mut self, ready: PollFlags) -> Option<Over> {
        let gone = ready.intersects(PollFlags::HUP | PollFlags::ERR) && self.caller.is_there();
        if gone && !terminal::is_in_front() {
            return Some(Over::Hangup(Signal::HUP.as_raw()));
        }
        if ready.is_empty() || !self.typed.is_empty() {
            return None;
        }
        match self.typed.fill(rustix::stdio::stdin()) {
            Ok(read) if read > 0 => {}
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::IO) if self.caller.is_there() && !terminal::is_in_front() => {
                self.input = Input::Nobody;
            }
            Err(Errno::IO) if self.caller.is_there() => {
                return Some(Over::Hangup(Signal::HUP.as_raw()));
            }
            // Input that cannot be read counts as empty.
            _ => self.input = Input::AtEnd(Again::soon()),
        }
        None
    }

    /// Passes on what was typed.
    fn write_session(&mut self) {
        while !self.typed.is_empty() && self.ended.is_none() && self.unused.is_none() {
            match self.typed.drain(self.ends.master.as_fd(), ROOM) {
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.unused = Some(Again::soon()),
            }
        }
    }

    /// Tells the session, once it has read everything, that nothing more will come: by the EOF character.
    fn tell_end_of_input(&mut self) {
        let Input::AtEnd(again) = self.input else {
            return;
        };
        if !again.is_due()
            || !self.typed.is_empty()
            || self.unused.is_some()
            || self.ended.is_some()
        {
            return;
        }
        self.input = Input::AtEnd(again.later());
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let Ok(slave) = ioctl_tiocgptpeer(&self.ends.master, flags) else {
            return;
        };
        if wait_readable(slave.as_fd(), Duration::ZERO) {
            return;
        }
        let end = rustix::termios::tcgetattr(&slave)
            .map_or(0, |modes| modes.special_codes[SpecialCodeIndex::VEOF]);
        // Zero: there is no such character.
        if end != 0 {
            self.typed.push(end);
            self.write_session();
        }
    }

    /// Stops ourselves, with the caller's terminal as it was; returns when continued, or where nothing stops us.
    fn stop(&mut self, number: i32) {
        self.caller.restore();
        terminal::stop(number);
        self.away = true;
    }

    /// Makes the caller's terminal ours, if we are in the foreground; else stops until we are.
    fn resume(&mut self) {
        if self.told.is_some() || self.ended.is_some() {
            return;
        }
        if !self.caller.is_there() || terminal::is_in_front() {
            self.caller.enter();
            self.resize();
        } else {
            self.caller.restore();
            // Once continued, we look again. If nothing stops us, nobody could bring us to the foreground either.
            self.away = terminal::stop(Signal::TTIN.as_raw());
        }
    }

    /// Passes the window's size on.
    fn resize(&self) {
        if let Some(size) = terminal::size() {
            rustix::termios::tcsetwinsize(&self.ends.master, size).ok();
        }
    }

    /// Tells the monitor something.
    fn order(&self, order: Order) {
        self.ends.line.order(order.bytes());
    }
}

/// Standard output once more, if it is a terminal or a pipe, without blocking. Not by a flag on the descriptor that
/// there is: its open file description is the caller's too.
fn unwaiting_output() -> Option<OwnedFd> {
    let stdout = rustix::stdio::stdout();
    let kind = FileType::from_raw_mode(rustix::fs::fstat(stdout).ok()?.st_mode);
    if kind != FileType::Fifo && !isatty(stdout) {
        return None;
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open("/proc/self/fd/1", flags, Mode::empty()).ok()
}
