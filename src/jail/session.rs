//! Joining a jail: what nssh does between being called and dying the way its shell died.
//!
//! Theory of operation. Everything that needs the outer namespaces is done first: finding init, the environment, the
//! directory's name. One setns on init's pidfd then takes over mount, network and PID namespace together or not at all.
//! Only a child is in the new PID namespace, and it forks once more and ends, so that the [`super::monitor`] is init's
//! child, not ours: a stopped or killed nssh leaves no zombie that the jail's end would have to wait for. What is left is
//! to wait, to stop when the shell stops, and to die as it died.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};

use super::monitor::{self, News, Order};
use super::{Init, Life, keeper, terminal};
use crate::applet::complain;
use crate::config::Config;
use crate::error::{Error, Result, What as _};
use crate::procfs;
use crate::record::Record;
use crate::step::file;
use crate::sys::{self, Action, Disposition, SignalSet};

/// How long a shell that was told to hang up has before nssh leaves it alone.
const HANG_UP: Duration = Duration::from_secs(1);

/// What is to be run.
pub enum Program {
    /// The jail's shell with exactly these arguments.
    Shell {
        /// As a login shell.
        login: bool,
        /// Its arguments.
        args: Vec<OsString>,
    },
    /// A command, found by PATH in the jail.
    Command(Vec<OsString>),
}

/// How a session ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// With this status.
    Exit(u8),
    /// By this signal.
    Signal(i32),
    /// It could not be run, for this reason.
    NotRun(String, Errno),
    /// The jail went away under it.
    Gone,
}

impl End {
    /// Ends this process as the session ended: dies of the same signal, or returns the status to exit with. What went
    /// wrong is told under `name`.
    pub fn follow(self, name: &str) -> u8 {
        match self {
            Self::Exit(status) => status,
            Self::Signal(number) => {
                sys::die_of(number);
                u8::try_from(128 + number).unwrap_or(255)
            }
            Self::NotRun(program, errno) => {
                let error = Err::<(), _>(errno).what(|| format!("exec {program}")).err();
                complain(&error.map_or_else(String::new, |error| error.lines(name)));
                if errno == Errno::NOENT { 127 } else { 126 }
            }
            Self::Gone => {
                complain(&format!("{name}: the jail is gone\n"));
                137
            }
        }
    }
}

/// What a joined process needs to become the shell.
pub struct Shell {
    /// The files to try, in order.
    pub paths: Vec<CString>,
    /// Its arguments, the name too.
    pub argv: Vec<CString>,
    /// Its environment.
    pub env: Vec<CString>,
    /// The directories to try, in order.
    pub dirs: Vec<PathBuf>,
    /// The caller's signal mask.
    pub mask: SignalSet,
    /// The caller's dispositions of the signals that nssh changed.
    pub dispositions: [(Signal, Disposition); 3],
}

/// The real shell, if we are in a jail. The link that names it stands in the read-only cover of /run/kak, which nobody
/// outside could make: there /run/kak is root's, and a jail of this name a directory.
pub fn real_shell() -> Option<PathBuf> {
    let target = rustix::fs::readlink("/run/kak/shell", Vec::new()).ok()?;
    Some(OsString::from_vec(target.into_bytes()).into())
}

/// Whether this is the inside of a jail.
pub fn is_inside() -> bool {
    real_shell().is_some()
}

/// Runs a program in a jail that is up, or that is brought up for it.
pub fn run(jail: &str, program: &Program) -> Result<End> {
    sys::close_from(3);
    keep_standard_descriptors().what(|| "open /dev/null")?;
    if let Program::Shell { args, .. } = program
        && terminal::is_interactive(args)
    {
        terminal::wait_for_foreground();
    }
    let init = find(jail)?;
    let (paths, argv, env, dirs) = prepare(jail, program)?;
    let name = argv
        .first()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let modes = terminal::Modes::save();

    let waits = [
        Signal::HUP,
        Signal::TERM,
        Signal::TSTP,
        Signal::TTIN,
        Signal::TTOU,
    ];
    let mask = sys::block_signals(&SignalSet::of(&waits));
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
    let signals =
        sys::signalfd(&SignalSet::of(&[Signal::HUP, Signal::TERM])).what(|| "signalfd")?;
    let shell = Shell {
        paths,
        argv,
        env,
        dirs,
        mask,
        dispositions,
    };
    let socket = join(init, &shell)?;
    let end = wait(&socket, &signals, &name)?;
    if end == End::Gone {
        modes.restore();
    }
    Ok(end)
}

/// The init of a jail that is up; as root, a jail that is down is brought up.
fn find(jail: &str) -> Result<Init> {
    for _ in 0..3 {
        match Life::of(jail)? {
            Life::Up(init) => return Ok(init),
            Life::Ending(_) => break,
            Life::Down | Life::Starting(_) => {}
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Error::text(
                jail,
                "this jail is not up, and only root can bring it up",
            ));
        }
        let wanted = keeper::Wanted {
            config: Config::new(jail),
            given: false,
        };
        let mut teller = keeper::Teller {
            step: &mut keeper::quietly,
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

/// Descriptors 0, 1 and 2 lead somewhere, and to no directory: that would be a way out of the jail.
fn keep_standard_descriptors() -> rustix::io::Result<()> {
    use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};
    let unfit = |fd| {
        let stat = rustix::fs::fstat(fd);
        stat.map_or(true, |stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        })
    };
    let standard: [(_, fn(OwnedFd) -> rustix::io::Result<()>); 3] = [
        (stdin(), dup2_stdin),
        (stdout(), dup2_stdout),
        (stderr(), dup2_stderr),
    ];
    for (fd, replace) in standard {
        if unfit(fd) {
            let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
            if null.as_raw_fd() == fd.as_raw_fd() {
                // It was closed, and the lowest number is the next: there it stays.
                let _kept = null.into_raw_fd();
            } else {
                replace(null)?;
            }
        }
    }
    Ok(())
}

/// What can only be known outside: paths, arguments, environment and directories of the shell.
type Prepared = (Vec<CString>, Vec<CString>, Vec<CString>, Vec<PathBuf>);

/// Makes it.
fn prepare(jail: &str, program: &Program) -> Result<Prepared> {
    let shell =
        Record::read(jail)?.map_or_else(|| PathBuf::from("/bin/sh"), |record| record.facts.shell);
    let (login, words) = match program {
        Program::Shell { login, args } => {
            let name = shell.file_name().unwrap_or_default();
            let mut zero = OsString::from(if *login { "-" } else { "" });
            zero.push(name);
            (*login, [&[zero], args.as_slice()].concat())
        }
        Program::Command(words) => (false, words.clone()),
    };
    let argv = words
        .iter()
        .map(|word| c_string(word))
        .collect::<Result<_>>()?;
    let env = Environment::of_caller().into_session(login, &shell);
    let paths = match program {
        Program::Shell { .. } => vec![c_string(shell.as_os_str())?],
        Program::Command(words) => search(
            words.first().map(OsString::as_os_str).unwrap_or_default(),
            env.get("PATH"),
        )?,
    };
    let home = env.get("HOME").map(PathBuf::from);
    let here = if login {
        None
    } else {
        rustix::process::getcwd(Vec::new()).ok()
    };
    let here = here.map(|here| PathBuf::from(OsString::from_vec(here.into_bytes())));
    let dirs = here
        .into_iter()
        .chain(home)
        .chain([PathBuf::from("/")])
        .filter(|dir| dir.is_absolute())
        .collect();
    Ok((paths, argv, env.into_c_strings()?, dirs))
}

/// The files that execvp(3) would try.
pub fn search(name: &OsStr, path: Option<&OsStr>) -> Result<Vec<CString>> {
    if name.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(name)?]);
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    path.as_bytes()
        .split(|byte| *byte == b':')
        .map(|dir| Path::new(OsStr::from_bytes(if dir.is_empty() { b"." } else { dir })).join(name))
        .map(|path| c_string(path.as_os_str()))
        .collect()
}

/// Where programs are, if nobody says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A word as the kernel takes it.
pub fn c_string(word: &OsStr) -> Result<CString> {
    CString::new(word.as_bytes())
        .map_err(|_| Error::text(word.to_string_lossy(), "has a zero byte"))
}

/// The variables of a session.
struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// The caller's, without those that tell of descriptors it has not got any more.
    fn of_caller() -> Self {
        let companions = [
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
            "NOTIFY_SOCKET",
        ];
        Self(
            std::env::vars_os()
                .filter(|(name, _)| !companions.iter().any(|other| name == other))
                .collect(),
        )
    }

    /// A variable's value.
    fn get(&self, name: &str) -> Option<&OsStr> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// Sets a variable, in its place if it is there.
    fn set(&mut self, name: &str, value: OsString) {
        match self.0.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// What a session gets: for a login a clean one of who the user is (as su(1) does), else the caller's with what is
    /// missing put in. SHELL names the real shell either way.
    fn into_session(mut self, login: bool, shell: &Path) -> Self {
        if login {
            let kept = |name: &OsStr| {
                ["TERM", "COLORTERM", "NO_COLOR", "LANG"]
                    .iter()
                    .any(|other| name == *other)
                    || name.as_bytes().starts_with(b"LC_")
            };
            let home = self.get("HOME").map(OsStr::to_owned);
            self.0.retain(|(name, _)| kept(name));
            self.set("PATH", DEFAULT_PATH.into());
            self.identify(home);
        } else if ["HOME", "USER", "LOGNAME"]
            .iter()
            .any(|name| self.get(name).is_none())
        {
            self.identify(None);
        }
        self.set("SHELL", shell.into());
        self
    }

    /// Puts in who the user is, where that is not said. Looked up by the effective user id, in the outer passwd.
    fn identify(&mut self, home: Option<OsString>) {
        let uid = rustix::process::geteuid().as_raw();
        let user = file::read(Path::new("/etc/passwd"))
            .ok()
            .and_then(|text| procfs::passwd(&text, uid));
        let (name, its_home) = user.map_or((None, None), |user| {
            (Some(user.name), Some(user.home.into_os_string()))
        });
        for (variable, value) in [
            ("HOME", its_home.or(home)),
            ("USER", name.clone()),
            ("LOGNAME", name),
        ] {
            if let Some(value) = value
                && self.get(variable).is_none()
            {
                self.set(variable, value);
            }
        }
    }

    /// As the kernel takes it.
    fn into_c_strings(self) -> Result<Vec<CString>> {
        let pair = |(mut name, value): (OsString, OsString)| {
            name.push("=");
            name.push(value);
            c_string(&name)
        };
        self.0.into_iter().map(pair).collect()
    }
}

/// Joins the jail and leaves a monitor in it; the way to talk to that one.
fn join(init: Init, shell: &Shell) -> Result<OwnedFd> {
    let (ours, theirs) = keeper::channel()?;
    // Nobody in the jail looks into a process that comes from outside (ptrace(2)).
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .what(|| "prctl PR_SET_DUMPABLE")?;
    enter(&init)?;
    drop(init);
    let gone = |errno| match errno {
        // The PID namespace is dead, which fork(2) puts this way.
        Errno::NOMEM => Error::text("fork", "the jail is going down"),
        errno => Err::<(), _>(errno)
            .what(|| "fork")
            .err()
            .unwrap_or_else(|| Error::told(125)),
    };
    if sys::fork().map_err(gone)?.is_none() {
        drop(ours);
        match sys::fork() {
            Ok(None) => monitor::run(&theirs, shell),
            Ok(Some(_)) => sys::exit_now(0),
            Err(_) => sys::exit_now(1),
        }
    }
    Ok(ours)
}

/// Takes over init's mount, network and PID namespace.
fn enter(init: &Init) -> Result<()> {
    let what = || format!("nsenter -t {} -m -n -p", init.pid.as_raw_nonzero());
    let all =
        ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::NETWORK | ThreadNameSpaceType::PROCESS_ID;
    match rustix::thread::move_into_thread_name_spaces(init.fd.as_fd(), all) {
        Ok(()) => Ok(()),
        Err(Errno::SRCH) => Err(Error::text(what(), "the jail is going down")),
        // Before Linux 5.8 a pidfd is not taken. All files are opened first: after the mount namespace has changed
        // init's /proc is out of sight.
        Err(Errno::INVAL | Errno::BADF | Errno::NOSYS) => {
            let open = |name| {
                let path = format!("/proc/{}/ns/{name}", init.pid.as_raw_nonzero());
                rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).what(what)
            };
            let namespaces = [
                (open("net")?, LinkNameSpaceType::Network),
                (open("pid")?, LinkNameSpaceType::ProcessID),
                (open("mnt")?, LinkNameSpaceType::Mount),
            ];
            for (namespace, kind) in namespaces {
                rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind))
                    .what(what)?;
            }
            Ok(())
        }
        Err(errno) => Err(errno).what(what),
    }
}

/// Waits for the shell's end, and stops whenever it stops.
fn wait(socket: &OwnedFd, signals: &OwnedFd, program: &str) -> Result<End> {
    let order = |order: Order| rustix::net::send(socket, &order.bytes(), SendFlags::NOSIGNAL).ok();
    loop {
        let mut fds = [
            PollFd::new(socket, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        poll(&mut fds, None).ok();
        while let Some(signal) = sys::read_signal(signals.as_fd()) {
            if signal.number != Signal::HUP.as_raw() {
                order(Order::Signal(signal.number));
                continue;
            }
            order(Order::HangUp);
            // Its end is what there is to wait for, not its news; and not for ever.
            super::wait_readable(socket.as_fd(), HANG_UP);
            return Ok(End::Signal(signal.number));
        }
        let mut bytes = [0; News::SIZE];
        let news = match rustix::net::recv(socket, &mut bytes, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Ok((News::SIZE, _)) => News::parse(bytes),
            _ => None,
        };
        match news {
            None => return Ok(End::Gone),
            Some(News::Exit(status)) => return Ok(End::Exit(status)),
            Some(News::Killed(number)) => return Ok(End::Signal(number)),
            Some(News::NotRun(errno)) => {
                return Ok(End::NotRun(program.into(), Errno::from_raw_os_error(errno)));
            }
            Some(News::Stopped(number)) => {
                stop(number);
                order(Order::Continue);
            }
        }
    }
}

/// Stops ourselves as the shell was stopped, so that the caller's shell sees one stop of the same kind; returns when
/// continued. A stop signal that the terminal sent to both of us, and that was blocked here, is used up by it.
fn stop(number: i32) {
    let me = rustix::process::getpid();
    match Signal::from_named_raw(number) {
        Some(signal @ (Signal::TSTP | Signal::TTIN | Signal::TTOU)) => {
            let old = sys::set_disposition(signal, Action::Default);
            sys::kill_number(me, number).ok();
            let blocked = [
                Signal::HUP,
                Signal::TERM,
                Signal::TSTP,
                Signal::TTIN,
                Signal::TTOU,
            ];
            let but: Vec<Signal> = blocked
                .into_iter()
                .filter(|other| *other != signal)
                .collect();
            let mask = sys::set_signal_mask(&SignalSet::of(&but));
            sys::set_signal_mask(&mask);
            sys::restore_disposition(signal, &old);
        }
        _ => {
            sys::kill_number(me, Signal::STOP.as_raw()).ok();
        }
    }
}
