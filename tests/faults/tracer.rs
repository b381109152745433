//! Runs a command under ptrace(2): records the system calls of all its processes, or makes one call fail, or kills the
//! process that makes it.
//!
//! strace can inject faults too, but into every process at once: it does not tell the third `open` of one process from
//! the third of another. Here a call is named by its process as well. After the fault nothing is traced any more, so
//! that what follows runs undisturbed.
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

/// The limit for a command: longer than any takes that ends at all. A jail's processes have a grace of 5 s.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long processes that outlive the command are traced further.
const AFTERWARDS: Duration = Duration::from_millis(150);

/// `PF_EXITING` (linux/sched.h).
const EXITING: u32 = 4;

/// A system call of a command, the same one in each run of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Point {
    /// The process: `kak`, its third child `kak.3`, the first child of that `kak.3.1`. Threads count as children.
    pub process: String,
    /// The call's name.
    pub name: &'static str,
    /// Its number, from 1, among this process's calls of this name.
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
    /// The call.
    pub point: Point,
    /// Whether no other process can see what it does.
    pub quiet: bool,
    /// Its path argument, or nothing.
    pub path: String,
}

/// What to do at a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Kill the process before the call.
    Kill,
    /// Make the call fail with this errno.
    Error(i32),
}

/// How a traced command ended.
pub struct Traced {
    /// Its exit status, or 128 plus the signal, or nothing if it did not end.
    pub status: Option<i32>,
    /// Its standard error.
    pub said: String,
    /// All its calls, in a run without a fault.
    pub made: Vec<Made>,
    /// Whether the call of the fault was reached.
    pub hit: bool,
}

/// Runs a command, whose words are separated by blanks and not quoted, with a fault at one of its calls if given.
pub fn run(command: &str, fault: Option<(&Point, Fault)>) -> Traced {
    let said = std::fs::File::create("/var/said").unwrap();
    let fault = fault.map(|(point, fault)| (point.clone(), fault));
    let kills = matches!(fault, Some((_, Fault::Kill)));
    // The tracer is a thread: when it ends, the kernel detaches what it traces.
    let (over, wait) = std::sync::mpsc::channel();
    let tracer = std::thread::spawn({
        let command = command.to_owned();
        move || {
            // The shell waits until it is traced.
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
        // The command hangs: all is killed, so that the tracer ends, and the status shows that.
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
        // join() returns slightly before the kernel detaches: until then waitpid(2) still reports stops.
        if waited == tracer.main && !libc::WIFSTOPPED(word) {
            status = Some(number(word));
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    // The kernel kills others with the killed process (a PID namespace with its init), but not at once: until all of
    // them have ended, the jail would still look as if it were up.
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

/// The exit status that a shell shows for a wait status.
fn number(word: i32) -> i32 {
    if libc::WIFEXITED(word) {
        libc::WEXITSTATUS(word)
    } else {
        128 + libc::WTERMSIG(word)
    }
}

/// Whether a process is about to end: SIGKILL is pending, or it is exiting.
fn is_dying(pid: i64) -> bool {
    // In this order: a SIGKILL that is no longer pending is being acted on.
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

/// Calls ptrace(2) with a number as data; whether that succeeded.
fn ptrace(request: i32, pid: i32, data: usize) -> bool {
    // SAFETY: no request that is made by this function has the kernel write to memory of ours.
    unsafe { libc::ptrace(request, pid, 0usize, data) != -1 }
}

/// The tracer's state.
struct Tracer {
    /// The command itself.
    main: i32,
    /// The traced processes: by PID, the name and the number of children so far.
    known: BTreeMap<i32, (String, usize)>,
    /// Children that stopped before the event of their parent that names them.
    early: Vec<i32>,
    /// How often each process has made each call.
    counts: BTreeMap<(String, &'static str), usize>,
    /// See [`Traced`].
    made: Vec<Made>,
    /// The fault to make, and at which call.
    fault: Option<(Point, Fault)>,
    /// The process that is in the call that is to fail.
    failing: Option<i32>,
    /// The process that was sent SIGKILL and may not have ended yet.
    killed: Option<i32>,
    /// See [`Traced`].
    hit: bool,
    /// See [`Traced`].
    status: Option<i32>,
    /// Whether the command has been executed; before, it is still the waiting shell.
    begun: bool,
}

impl Tracer {
    /// Seizes a process (PTRACE_SEIZE).
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

    /// Traces until the fault is made, or all processes have ended, or the command has and some time has passed.
    fn follow(&mut self) {
        let mut ended = None;
        while !self.hit {
            let mut word = 0;
            // Only this thread's tracees: the test has other children.
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

    /// Handles a stop, and continues the process.
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
                // A program that kak executes is not traced.
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

    /// Handles a system call's entry or exit; whether the process shall be continued.
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
                    // An invalid number, so that the kernel does nothing.
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

/// The message of a stop's event (PTRACE_GETEVENTMSG).
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

/// Sets the registers of a stopped process.
fn set_registers(pid: i32, registers: &libc::user_regs_struct) {
    // SAFETY: the kernel reads a structure of this type.
    unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0usize, &raw const *registers) };
}

/// A NUL-terminated string in a process's memory.
fn text(pid: i32, address: u64) -> String {
    let mut bytes = [0; 256];
    let memory = std::fs::File::open(format!("/proc/{pid}/mem"));
    let got = memory.and_then(|memory| memory.read_at(&mut bytes, address));
    let bytes = &bytes[..got.unwrap_or(0)];
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(0)]).into_owned()
}
