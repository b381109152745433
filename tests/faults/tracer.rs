//! A command under ptrace(2): which system calls it and all its children make, and one of them failed, or killed at.
//!
//! strace can inject too, but into every process at once: the third `open` of one is not told from the third of another,
//! and the first fault ends those that were to have the second. Here a call is named by its process as well. After the
//! fault nobody is traced any more, so that everything that follows goes on as it would.
#![allow(
    unsafe_code,
    reason = "ptrace is what no crate has without; each call is on processes that stop for us"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::calls;
use crate::sandbox::{process_field, processes};

/// Longer than anything takes that comes to an end; a jail's processes have a grace of 5 s.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long those are looked at who stay behind when the command has ended.
const AFTERWARDS: Duration = Duration::from_millis(150);

/// `PF_EXITING` (linux/sched.h).
const EXITING: u32 = 4;

/// A system call of a command, the same one in each run of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Point {
    /// Whose: `kak`, its third child `kak.3`, the first child of that `kak.3.1`. Threads count as children.
    pub process: String,
    /// The call's name.
    pub name: &'static str,
    /// Which of this name by this process.
    pub nth: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.process, self.name, self.nth)
    }
}

/// A call as it was made.
#[derive(Debug)]
pub struct Made {
    /// Which.
    pub point: Point,
    /// Whether nobody outside of its process can see what it does.
    pub quiet: bool,
    /// The path that it is about, where it is about one.
    pub path: String,
}

/// What is done to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It does not come to be made: its process is killed.
    Kill,
    /// It fails.
    Error(i32),
}

/// How a traced command ended.
pub struct Traced {
    /// Its exit status, 128 and the signal, or nothing if it did not end.
    pub status: Option<i32>,
    /// What it said on standard error.
    pub said: String,
    /// All calls, where nothing was done to any.
    pub made: Vec<Made>,
    /// Whether the point was come to.
    pub hit: bool,
}

/// Runs a command in words without quotes; to one of its calls something may be done.
pub fn run(command: &str, fault: Option<(&Point, Fault)>) -> Traced {
    let said = std::fs::File::create("/var/said").unwrap();
    let fault = fault.map(|(point, fault)| (point.clone(), fault));
    let kills = matches!(fault, Some((_, Fault::Kill)));
    // What is traced is traced by a thread: the kernel lets go of it with that.
    let (over, wait) = std::sync::mpsc::channel();
    let tracer = std::thread::spawn({
        let command = command.to_owned();
        move || {
            // Holds until we hold it.
            let mut child = Command::new("sh")
                .args([
                    "-c",
                    "echo; read go; exec \"$@\" </dev/null >/dev/null",
                    "sh",
                ])
                .args(command.split(' '))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(said)
                .spawn()
                .unwrap();
            let mut ready = child.stdout.take().unwrap();
            ready.read_exact(&mut [0]).unwrap();
            drop(ready);
            let mut tracer = Tracer::seize(child.id().cast_signed(), fault);
            child.stdin.take().unwrap().write_all(b"\n").unwrap();
            tracer.follow();
            over.send(()).unwrap();
            tracer
        }
    });
    if wait.recv_timeout(PATIENCE).is_err() {
        // It hangs with us watching: an end is put to it, and seen to be none of its own.
        for pid in processes().into_keys() {
            kill(i32::try_from(pid).unwrap());
        }
    }
    let tracer = tracer.join().unwrap();
    let mut status = tracer.status;
    let start = Instant::now();
    while status.is_none() && start.elapsed() < PATIENCE {
        let mut word = 0;
        // SAFETY: the status is written to a variable of ours.
        let waited = unsafe { libc::waitpid(tracer.main, &raw mut word, libc::WNOHANG) };
        // A thread is joined a moment before the kernel lets go of what it traces: till then a stop for it is news.
        if waited == tracer.main && !libc::WIFSTOPPED(word) {
            status = Some(number(word));
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    // Whom the kernel kills with him that was killed has that before him yet: till then a jail is up that is none.
    while kills && start.elapsed() < PATIENCE && processes().into_keys().any(is_dying) {
        std::thread::sleep(Duration::from_millis(1));
    }
    Traced {
        status,
        said: String::from_utf8_lossy(&std::fs::read("/var/said").unwrap()).into_owned(),
        made: tracer.made,
        hit: tracer.hit,
    }
}

/// A wait status as a shell has it.
fn number(word: i32) -> i32 {
    if libc::WIFEXITED(word) {
        libc::WEXITSTATUS(word)
    } else {
        128 + libc::WTERMSIG(word)
    }
}

/// Whether a process is about to end: it has been killed, or has begun.
fn is_dying(pid: i64) -> bool {
    // In this order: what is no longer pending has begun.
    let is_killed = |field| {
        let set = process_field(pid, field).and_then(|set| u64::from_str_radix(&set, 16).ok());
        set.is_some_and(|set| set & 1 << (libc::SIGKILL - 1) != 0)
    };
    if ["SigPnd", "ShdPnd"].into_iter().any(is_killed) {
        return true;
    }
    // The seventh word behind the name is its flags (proc(5)).
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let flags = stat.rsplit(')').next().unwrap().split_whitespace().nth(6);
    flags.is_some_and(|flags| flags.parse::<u32>().unwrap() & EXITING != 0)
}

/// `kill -KILL`.
fn kill(pid: i32) {
    // SAFETY: a signal to a process of the sandbox, which is not ours.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Calls ptrace with numbers alone.
fn ptrace(request: i32, pid: i32, data: usize) -> bool {
    // SAFETY: no request that is made by this function has the kernel write to memory of ours.
    unsafe { libc::ptrace(request, pid, 0usize, data) != -1 }
}

/// Who follows.
struct Tracer {
    /// The command itself.
    main: i32,
    /// Everybody who is traced, with his name, and how many children he has had.
    known: BTreeMap<i32, (String, usize)>,
    /// Who has stopped before his parent told of him.
    early: Vec<i32>,
    /// How many of each call were made.
    counts: BTreeMap<(String, &'static str), usize>,
    /// See [`Traced`].
    made: Vec<Made>,
    /// What is to be done, where.
    fault: Option<(Point, Fault)>,
    /// Who is in the call that is to fail.
    failing: Option<i32>,
    /// Who is killed, and may take his time to die of it.
    killed: Option<i32>,
    /// See [`Traced`].
    hit: bool,
    /// See [`Traced`].
    status: Option<i32>,
    /// Whether the command has begun: before, it is the shell that waits for us.
    begun: bool,
}

impl Tracer {
    /// Takes hold of a process.
    fn seize(main: i32, fault: Option<(Point, Fault)>) -> Self {
        let options = libc::PTRACE_O_TRACESYSGOOD
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACEEXEC;
        let options = usize::try_from(options).unwrap();
        assert!(ptrace(libc::PTRACE_SEIZE, main, options), "ptrace");
        Self {
            main,
            known: BTreeMap::from([(main, ("kak".to_owned(), 0))]),
            early: Vec::new(),
            counts: BTreeMap::new(),
            made: Vec::new(),
            fault,
            failing: None,
            killed: None,
            hit: false,
            status: None,
            begun: false,
        }
    }

    /// Follows until the fault is done, or everybody has ended or come to rest.
    fn follow(&mut self) {
        let mut ended = None;
        while !self.hit {
            let mut word = 0;
            // Only what this thread traces: the test has other children.
            let mut options = libc::__WALL | libc::__WNOTHREAD;
            if ended.is_some() {
                options |= libc::WNOHANG;
            }
            // SAFETY: the status is written to a variable of ours.
            match unsafe { libc::waitpid(-1, &raw mut word, options) } {
                -1 => break,
                0 => {
                    if ended.is_some_and(|at: Instant| at.elapsed() > AFTERWARDS) {
                        break;
                    }
                    std::thread::sleep(Duration::from_micros(20));
                }
                pid if libc::WIFSTOPPED(word) => self.stopped(pid, word),
                pid => {
                    self.known.remove(&pid);
                    self.hit |= self.killed == Some(pid);
                    if pid == self.main {
                        self.status = Some(number(word));
                        ended = Some(Instant::now());
                    }
                }
            }
        }
        self.hit |= self.killed.is_some();
    }

    /// Somebody has stopped; he goes on.
    fn stopped(&mut self, pid: i32, word: i32) {
        let (signal, event) = (libc::WSTOPSIG(word), word >> 16);
        let mut passed_on = 0;
        match event {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                let child = i32::try_from(message(pid)).unwrap();
                let (name, children) = self.known.get_mut(&pid).unwrap();
                *children += 1;
                let name = format!("{name}.{children}");
                self.known.insert(child, (name, 0));
                if let Some(at) = self.early.iter().position(|early| *early == child) {
                    self.early.remove(at);
                    ptrace(libc::PTRACE_SYSCALL, child, 0);
                }
            }
            libc::PTRACE_EVENT_EXEC if self.begun => {
                // What is run by kak is not kak.
                self.known.remove(&pid);
                ptrace(libc::PTRACE_DETACH, pid, 0);
                return;
            }
            libc::PTRACE_EVENT_EXEC => self.begun = true,
            libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => {
                ptrace(libc::PTRACE_LISTEN, pid, 0);
                return;
            }
            libc::PTRACE_EVENT_STOP => {
                if !self.known.contains_key(&pid) {
                    self.early.push(pid);
                    return;
                }
            }
            _ if signal == libc::SIGTRAP | 0x80 => {
                if !self.call(pid) {
                    return;
                }
            }
            _ => passed_on = usize::try_from(signal).unwrap(),
        }
        let request = if self.begun {
            libc::PTRACE_SYSCALL
        } else {
            libc::PTRACE_CONT
        };
        ptrace(request, pid, passed_on);
    }

    /// Somebody is about to make a call, or comes back from one; whether he goes on.
    fn call(&mut self, pid: i32) -> bool {
        let Some(mut registers) = registers(pid) else {
            return true;
        };
        if message(pid) != 1 {
            if self.failing == Some(pid) {
                let Some((_, Fault::Error(errno))) = self.fault else {
                    unreachable!()
                };
                registers.rax = i64::from(-errno).cast_unsigned();
                set_registers(pid, &registers);
                self.hit = true;
                return false;
            }
            return true;
        }
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10];
        let number = registers.orig_rax.cast_signed();
        let Some(name) = calls::name(number, arguments) else {
            return true;
        };
        let process = self.known[&pid].0.clone();
        let nth = self.counts.entry((process.clone(), name)).or_default();
        *nth += 1;
        let point = Point {
            process,
            name,
            nth: *nth,
        };
        match &self.fault {
            None => {
                let path = calls::path(name, arguments).map(|address| text(pid, address));
                self.made.push(Made {
                    quiet: calls::is_quiet(name, arguments),
                    path: path.unwrap_or_default(),
                    point,
                });
            }
            Some((wanted, fault)) if *wanted == point => match fault {
                Fault::Kill => {
                    kill(pid);
                    self.killed = Some(pid);
                }
                Fault::Error(_) => {
                    // No such call: nothing is done.
                    registers.orig_rax = u64::MAX;
                    set_registers(pid, &registers);
                    self.failing = Some(pid);
                }
            },
            Some(_) => {}
        }
        true
    }
}

/// What the kernel has to say beside a stop.
fn message(pid: i32) -> u64 {
    let mut message = 0u64;
    // SAFETY: the kernel writes one word, to a variable of ours.
    unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, pid, 0usize, &raw mut message) };
    message
}

/// The registers of a stopped process.
fn registers(pid: i32) -> Option<libc::user_regs_struct> {
    let mut registers = std::mem::MaybeUninit::zeroed();
    // SAFETY: the kernel writes a structure of this type.
    let done = unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, 0usize, registers.as_mut_ptr()) };
    // SAFETY: all zeros would be one too.
    (done != -1).then(|| unsafe { registers.assume_init() })
}

/// Gives a stopped process other registers.
fn set_registers(pid: i32, registers: &libc::user_regs_struct) {
    // SAFETY: the kernel reads a structure of this type.
    unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0usize, &raw const *registers) };
}

/// A text in a process's memory.
fn text(pid: i32, address: u64) -> String {
    let mut bytes = [0; 256];
    let memory = std::fs::File::open(format!("/proc/{pid}/mem"));
    let got = memory.and_then(|memory| memory.read_at(&mut bytes, address));
    let bytes = &bytes[..got.unwrap_or(0)];
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(0)]).into_owned()
}
