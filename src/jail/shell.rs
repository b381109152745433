//! What a session becomes: which file is run, under which name, with which arguments, environment and directory. All of
//! it is found out outside, before the join; nothing here touches a namespace.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::error::{Error, Result};
use crate::procfs;
use crate::record::Record;
use crate::step::file;
use crate::sys::{Disposition, SignalSet};

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
}

/// What nssh has changed of itself and the shell gets back.
pub struct Caller {
    /// The caller's signal mask.
    pub mask: SignalSet,
    /// The caller's dispositions.
    pub dispositions: [(Signal, Disposition); 3],
}

impl Shell {
    /// Finds out what can only be known outside.
    pub fn prepare(jail: &str, program: &Program) -> Result<Self> {
        let shell = Record::read(jail)?
            .map_or_else(|| PathBuf::from("/bin/sh"), |record| record.facts.shell);
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
        Ok(Self {
            paths,
            argv,
            env: env.into_c_strings()?,
            dirs,
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

/// A word as the kernel takes it.
pub fn c_string(word: &OsStr) -> Result<CString> {
    CString::new(word.as_bytes())
        .map_err(|_| Error::text(word.to_string_lossy(), "has a zero byte"))
}

/// The variables of a session.
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// The caller's.
    pub fn of_caller() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// Sets a variable, in its place if it is there.
    pub fn set(&mut self, name: &str, value: OsString) {
        match self.0.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// What a session gets: for a login a clean one of who the user is (as su(1) does), else the caller's with what is
    /// missing put in. SHELL names the real shell either way.
    fn into_session(mut self, login: bool, shell: &Path) -> Self {
        // These tell of descriptors that a session has not got any more.
        let companions = [
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
            "NOTIFY_SOCKET",
        ];
        self.0
            .retain(|(name, _)| !companions.iter().any(|other| name == other));
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
    pub fn into_c_strings(self) -> Result<Vec<CString>> {
        let pair = |(mut name, value): (OsString, OsString)| {
            name.push("=");
            name.push(value);
            c_string(&name)
        };
        self.0.into_iter().map(pair).collect()
    }
}
