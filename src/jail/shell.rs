//! What a session runs: which file, under which name, with which arguments, environment and directory. All of it is
//! found out outside, before the join; nothing here touches a namespace.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;
use rustix::process::{Rlimit, Signal};
use rustix::termios::isatty;

use super::terminal;
use crate::error::{Error, Result, What as _};
use crate::file;
use crate::passwd;
use crate::record::{self, Record};
use crate::sys::{self, Disposition, SignalSet};

/// The real shell, if we are in a jail. The link that names it is in the read-only cover of /run/kak; outside there is
/// none, and a jail of this name is a directory. But where anybody may write to /run and no jail was ever up, anybody
/// may have made one: only root's is believed.
pub fn real_shell() -> Result<Option<PathBuf>> {
    const NAME: &str = "shell";
    let link = Path::new(record::DIR).join(NAME);
    let is_link = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    // Outside only root may look there.
    if !rustix::fs::lstat(&link).is_ok_and(|stat| is_link(&stat)) {
        return Ok(None);
    }
    // Everything is read through one descriptor of the directory itself, not through a link in its place: a user's link
    // could lead to a file system that he has mounted in a mount namespace of his own.
    let what = || format!("readlink {}", link.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(record::DIR, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
            return record::state::check_all().map(|()| None);
        }
        other => other.what(what)?,
    };
    let there = rustix::fs::statat(&dir, NAME, AtFlags::SYMLINK_NOFOLLOW).what(what)?;
    // The cover is read-only, unlike anything that a user without rights could write or mount there. Its owner is not
    // checked: in a user namespace of a user's, root may have no ID.
    let cover = fstatvfs(&dir).what(what)?;
    if !cover.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let all = rustix::fs::fstat(&dir).what(what)?;
        file::check_root(Path::new(record::DIR), &all, FileType::Directory)?;
        file::check_root(&link, &there, FileType::Symlink)?;
    }
    let target = rustix::fs::readlinkat(&dir, NAME, Vec::new()).what(what)?;
    Ok(Some(OsString::from_vec(target.into_bytes()).into()))
}

/// Fails in a jail, for what can be done only outside.
pub fn check_outside(what: &str) -> Result<()> {
    if is_inside()? {
        let why = format!("this is the inside of a jail; {what} only from outside");
        return Err(Error::text("", why));
    }
    Ok(())
}

/// Whether this is the inside of a jail.
pub fn is_inside() -> Result<bool> {
    real_shell().map(|shell| shell.is_some())
}

/// What is to be run.
pub enum Program {
    /// The jail's shell with exactly these arguments.
    Shell {
        /// How it was called.
        called: Called,
        /// Its arguments.
        args: Vec<OsString>,
    },
    /// A command, found by PATH in the jail.
    Command(Vec<OsString>),
}

impl Program {
    /// Whether it is given a terminal that nobody shares. A shell would take it anyway, but the group that it comes
    /// from reads as 0 in the jail, and most shells try to give the terminal back to that one when they end or stop. A
    /// command shares Ctrl-C with the other members of the caller's group, if there are any.
    fn takes_terminal(&self) -> bool {
        match self {
            Self::Shell { args, .. } => terminal::is_interactive(args),
            Self::Command(_) => terminal::has_own_group(),
        }
    }
}

/// How a shell was called, as its argv[0] tells: the real one is called the same way.
#[derive(Clone, Copy, Default)]
pub struct Called {
    /// As a login shell.
    login: bool,
    /// By its path, as people and $SHELL have it; a login program passes the name only.
    by_path: bool,
}

impl Called {
    /// Reads argv[0]; also returns the name without path and dash. Some programs put the dash before the path.
    pub fn by(zero: &OsStr) -> (Self, OsString) {
        let (outer_dash, path) = without_dash(zero.as_bytes());
        let base = path.rsplit(|byte| *byte == b'/').next();
        let (inner_dash, name) = without_dash(base.unwrap_or_default());
        let called = Self {
            login: outer_dash || inner_dash,
            by_path: path.contains(&b'/'),
        };
        (called, OsStr::from_bytes(name).to_owned())
    }

    /// The real shell's argv[0].
    pub fn zero(self, shell: &Path) -> OsString {
        let mut zero = OsString::from(if self.login { "-" } else { "" });
        zero.push(if self.by_path {
            shell.as_os_str()
        } else {
            shell.file_name().unwrap_or_default()
        });
        zero
    }
}

/// Whether a word begins with a dash, and what follows.
fn without_dash(word: &[u8]) -> (bool, &[u8]) {
    word.strip_prefix(b"-")
        .map_or((false, word), |rest| (true, rest))
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
    /// Whether it is a command whose standard input is no terminal: a service, and no shell.
    pub is_service: bool,
    /// Whether to report that the first of the directories cannot be entered.
    pub misses_home: bool,
    /// See `Program::takes_terminal`.
    pub takes_terminal: bool,
}

/// What nssh has changed of itself and restores for the shell, and which terminal the shell gets.
pub struct Caller {
    /// The caller's signal mask.
    pub mask: SignalSet,
    /// The caller's dispositions.
    pub dispositions: [(Signal, Disposition); 3],
    /// A guest's limit for the size of a core dump.
    pub core: Option<Rlimit>,
    /// Whether standard input is a terminal for the shell alone.
    pub own_terminal: bool,
    /// Whether the shell begins with a process group of its own that has the terminal.
    pub takes_terminal: bool,
}

impl Shell {
    /// Finds out what can only be known outside. `caller` is the caller's environment.
    pub fn prepare(record: Option<Record>, program: &Program, caller: Environment) -> Result<Self> {
        let (shell, hostname) = record.map_or_else(
            || (PathBuf::from("/bin/sh"), None),
            |record| (record.facts.shell, record.config.hostname),
        );
        let (login, words) = match program {
            Program::Shell { called, args } => {
                let zero = called.zero(&shell);
                (called.login, [&[zero], args.as_slice()].concat())
            }
            Program::Command(words) => (false, words.clone()),
        };
        // A terminal multiplexer starts login shells that are no logins: it has chosen the directory itself.
        let login = login && caller.get("TMUX").is_none();
        let argv = words
            .iter()
            .map(|word| c_string(word))
            .collect::<Result<_>>()?;
        let mut env = caller.into_session(login, &shell)?;
        if let Some(name) = hostname
            && env.get("HOSTNAME").is_some()
        {
            // A container engine sets it, and a shell trusts it.
            env.set("HOSTNAME", name.as_ref())?;
        }
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
        Ok(Self {
            paths,
            argv,
            env: env.into_c_strings(),
            dirs,
            takes_terminal: program.takes_terminal(),
            is_service: matches!(program, Program::Command(_)) && !isatty(rustix::stdio::stdin()),
            // Reported to a person only: what scp or git reads is to come from the shell alone.
            misses_home: login && isatty(rustix::stdio::stderr()),
        })
    }
}

/// The files that execvp(3) would try.
pub fn search(name: &OsStr, path: Option<&OsStr>) -> Result<Vec<CString>> {
    if name.is_empty() || name.as_bytes().contains(&b'/') {
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

/// Who the user is.
const IDENTITY: [&str; 3] = ["HOME", "USER", "LOGNAME"];

/// Variables about descriptors that a session no longer has, about a service manager that expects messages from another
/// process, and about a network namespace that was left.
const LEFT_OUTSIDE: [&str; 6] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "KAK_NETNS",
];

/// Variables that no set-user-ID program passes on, since they change what the C library loads, reads or writes
/// (glibc's `UNSECURE_ENVVARS`, ld.so(8)). musl, which uses none of these, does not remove them.
const UNSAFE: [&str; 12] = [
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "NIS_PATH",
    "NLSPATH",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "TMPDIR",
    "TZDIR",
];

/// How the names of more of them begin.
const UNSAFE_KINDS: [&str; 2] = ["LD_", "MALLOC_"];

/// A word as the kernel takes it.
pub fn c_string(word: &OsStr) -> Result<CString> {
    CString::new(word.as_bytes())
        .map_err(|_| Error::text(word.to_string_lossy(), "has a zero byte"))
}

/// The variables of a session, each as the kernel takes it: `NAME=VALUE`.
#[derive(Clone)]
pub struct Environment(Vec<CString>);

/// A variable's value, if it is the one of this name.
fn value<'a>(variable: &'a CString, name: &str) -> Option<&'a OsStr> {
    let (its_name, value) = variable.to_bytes().split_at_checked(name.len())?;
    // Most other variables differ in the length of their names already, which is seen without comparing these.
    let (b'=', value) = value.split_first()? else {
        return None;
    };
    (its_name == name.as_bytes()).then(|| OsStr::from_bytes(value))
}

impl Environment {
    /// The caller's. A string without a name and `=` is no variable.
    pub fn of_caller() -> Self {
        let mut all = sys::environment();
        all.retain(|variable| variable.to_bytes().iter().skip(1).any(|byte| *byte == b'='));
        Self(all)
    }

    /// Without the variables that a set-user-ID program must not pass on.
    pub fn without_unsafe(mut self) -> Self {
        self.0.retain(|variable| {
            let of_kind = |kind: &&str| variable.to_bytes().starts_with(kind.as_bytes());
            !UNSAFE.iter().any(|name| value(variable, name).is_some())
                && !UNSAFE_KINDS.iter().any(of_kind)
        });
        self
    }

    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().find_map(|variable| value(variable, name))
    }

    /// Sets a variable, in its place if it is there. One that was there twice (sudo does that) is there once after
    /// that: some programs take the first, some the last.
    pub fn set(&mut self, name: &str, new: &OsStr) -> Result<()> {
        let is_it = |variable: &CString| value(variable, name).is_some();
        let at = self.0.iter().position(is_it).unwrap_or(self.0.len());
        self.0.retain(|variable| !is_it(variable));
        let variable = [name.as_bytes(), b"=", new.as_bytes()].concat();
        self.0.insert(at, c_string(OsStr::from_bytes(&variable))?);
        Ok(())
    }

    /// The environment of a session: all of the caller's (a login program, or one that starts shells as part of its
    /// work), and who the user is where that is missing; a login has that set anew. SHELL names the real shell.
    fn into_session(mut self, login: bool, shell: &Path) -> Result<Self> {
        let stays = |variable: &CString| {
            let is = |name: &&str| value(variable, name).is_some();
            !LEFT_OUTSIDE.iter().any(is)
        };
        self.0.retain(stays);
        if login || IDENTITY.iter().any(|name| self.get(name).is_none()) {
            self.identify(login)?;
        }
        if login && self.get("PATH").is_none() {
            self.set("PATH", DEFAULT_PATH.as_ref())?;
        }
        self.set("SHELL", shell.as_os_str())?;
        Ok(self)
    }

    /// Sets who the user is; if `anew`, even where that is set. It is the real user, looked up in the outer passwd; of
    /// several names for one ID it is the one that the caller has.
    fn identify(&mut self, anew: bool) -> Result<()> {
        let uid = rustix::process::getuid().as_raw();
        let name = self.get("LOGNAME").or_else(|| self.get("USER"));
        let user = file::read(Path::new("/etc/passwd"))
            .ok()
            .and_then(|text| passwd::user(&text, uid, name));
        // For a user who is not in there, what the login program has set stays.
        let Some(user) = user else { return Ok(()) };
        let values = [user.home.as_os_str(), &user.name, &user.name];
        for (name, new) in IDENTITY.into_iter().zip(values) {
            if anew || self.get(name).is_none() {
                self.set(name, new)?;
            }
        }
        Ok(())
    }

    /// As execve(2) takes it.
    pub fn into_c_strings(self) -> Vec<CString> {
        self.0
    }
}
