//! The configuration of a jail: the options of `setup` as values, checked for form only. Nothing here looks at the
//! machine; what must exist there is checked by [`crate::survey`]. Pure, except that [`jail`] reads one variable.

mod allow;
mod bind;
mod link;
mod namespace;
mod publish;
mod subnet;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};
use crate::text::quote;

pub use allow::{Accounts, Allow, Ids};
pub use bind::Bind;
pub use link::{hash, link_name};
pub use namespace::Namespace;
pub use publish::Publish;
pub use subnet::Subnet;

/// The jail's name where none is given.
pub const DEFAULT_JAIL: &str = "USER";

/// The variable that names the jail where no option does.
const VARIABLE: &str = "KAK_JAIL";

/// The directories that a jail always has of its own, with their modes.
pub const OWN: [(&str, u32); 3] = [("mnt", 0o755), ("opt", 0o755), ("tmp", 0o1777)];

/// The top-level directories that belong to the machine (hier(7)).
const SYSTEM: [&str; 21] = [
    "bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "media", "mnt", "opt",
    "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var",
];

/// The options of a jail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Its name: 1 to 32 of `A-Za-z0-9_.-`, not starting with `.` or `-`.
    pub jail: String,
    /// It is only a network: a named namespace with an uplink, without root and init (`kak netns add --uplink`).
    pub bare: bool,
    /// Where its root is put together.
    pub root: PathBuf,
    /// Top-level directories, without slash, that it has of its own besides [`OWN`].
    pub hide: Vec<OsString>,
    /// What it sees besides the outer top level (`--bind`).
    pub binds: Vec<Bind>,
    /// Its addresses; the first free /24 where none is given.
    pub subnet: Option<Subnet>,
    /// Its resolvers; the outer ones where none is given.
    pub dns: Vec<std::net::IpAddr>,
    /// Whether it has IPv6, too.
    pub ipv6: bool,
    /// Whether its packets leave under the machine's address.
    pub nat: bool,
    /// Its ports that are reachable at the machine's addresses.
    pub publish: Vec<Publish>,
    /// The namespaces that it has of its own besides those that every jail has.
    pub unshare: Vec<Namespace>,
    /// Its host name, in a UTS namespace of its own; the outer one where none is given.
    pub hostname: Option<String>,
    /// Who may join it without being root.
    pub allow: Vec<Allow>,
    /// Its shell; /bin/bash, else /bin/sh where none is given.
    pub shell: Option<PathBuf>,
    /// Whose login shell nssh becomes.
    pub login_shells: Vec<String>,
}

impl Config {
    /// The jail of this name without any option.
    pub fn new(jail: &str) -> Self {
        Self {
            jail: jail.into(),
            bare: false,
            root: Path::new("/mnt").join(jail.to_ascii_lowercase()),
            hide: Vec::new(),
            binds: Vec::new(),
            subnet: None,
            dns: Vec::new(),
            ipv6: false,
            nat: true,
            publish: Vec::new(),
            unshare: Vec::new(),
            hostname: None,
            allow: Vec::new(),
            shell: None,
            login_shells: Vec::new(),
        }
    }
}

/// Whether an option takes a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// A value.
    Value,
}

/// Whether the option of this name takes a value; none if it is not one of [`Config::set`]'s.
pub fn takes(option: &str) -> Option<Takes> {
    match option {
        "root" | "hide" | "bind" | "subnet" | "dns" | "publish" | "unshare" | "hostname"
        | "allow" | "shell" | "login-shell" => Some(Takes::Value),
        "ipv6" | "no-nat" => Some(Takes::Nothing),
        _ => None,
    }
}

impl Config {
    /// Applies one option, as the command line and the record have it; `value` is empty for one that takes none.
    pub fn set(&mut self, option: &str, value: &OsStr) -> Result<()> {
        match option {
            "root" => self.root = root(value)?,
            "hide" => self.hide.push(hide(value)?),
            "bind" => self.binds.push(Bind::parse(value)?),
            "subnet" => self.subnet = Some(Subnet::parse(value)?),
            "dns" => self.dns.push(address("--dns", value)?),
            "ipv6" => self.ipv6 = true,
            "no-nat" => self.nat = false,
            "publish" => self.publish(Publish::parse(value)?)?,
            "unshare" => self.unshare(&Namespace::parse(value)?),
            "hostname" => {
                self.hostname = Some(namespace::hostname(value)?);
                self.unshare(&[Namespace::Uts]);
            }
            "allow" => self.allow.push(Allow::parse(value)?),
            "shell" => self.shell = Some(absolute("--shell", value)?),
            "login-shell" => {
                let user = user(value)?;
                if !self.login_shells.contains(&user) {
                    self.login_shells.push(user);
                }
            }
            _ => return Err(Error::usage(format!("there is no option --{option}"))),
        }
        Ok(())
    }

    /// Adds a port to publish. The same port twice is an error: only one of the two would get its packets.
    fn publish(&mut self, port: Publish) -> Result<()> {
        if let Some(other) = self.publish.iter().find(|other| other.collides(port)) {
            return Err(Error::usage(format!(
                "--publish {port}: the same port as in --publish {other}"
            )));
        }
        self.publish.push(port);
        Ok(())
    }

    /// Adds kinds of namespaces of its own: each is there once, in the order of [`Namespace::ALL`].
    fn unshare(&mut self, kinds: &[Namespace]) {
        let is_one = |kind: &Namespace| self.unshare.contains(kind) || kinds.contains(kind);
        self.unshare = Namespace::ALL.into_iter().filter(is_one).collect();
    }

    /// The first difference of `other`, the configuration that is there, from this one, in words.
    pub fn differs(&self, other: &Self) -> Option<String> {
        let (ours, theirs) = (self.options(), other.options());
        let first = |these: &[(&str, OsString)], those: &[(&str, OsString)]| {
            let (option, value) = these.iter().find(|option| !those.contains(option))?;
            let value = if value.is_empty() {
                String::new()
            } else {
                format!(" {}", quote(value))
            };
            Some(format!("--{option}{value}"))
        };
        match (first(&ours, &theirs), first(&theirs, &ours)) {
            (Some(option), _) => Some(format!("{option} is not among them")),
            (None, Some(option)) => Some(format!("{option} is among them")),
            (None, None) => (ours != theirs).then(|| "in another order".into()),
        }
    }

    /// Checks that its ports can be published, once all options are known.
    pub fn check_published(&self) -> Result<()> {
        if !self.nat && !self.publish.is_empty() {
            return Err(Error::usage("--publish and --no-nat exclude each other"));
        }
        let wants = |port: &&Publish| port.address.is_some_and(|address| address.is_ipv6());
        match self.publish.iter().find(wants) {
            Some(port) if !self.ipv6 => Err(Error::usage(format!(
                "--publish {port}: an IPv6 address needs --ipv6"
            ))),
            _ => Ok(()),
        }
    }

    /// The options that turn [`Config::new`] into this, in the order in which [`Config::set`] wants them.
    pub fn options(&self) -> Vec<(&'static str, OsString)> {
        let mut options = vec![("root", self.root.clone().into_os_string())];
        options.extend(self.hide.iter().map(|hidden| ("hide", hidden.clone())));
        options.extend(self.binds.iter().map(|bind| ("bind", bind.to_word())));
        let mut say = |option, value: &dyn std::fmt::Display| {
            options.push((option, OsString::from(value.to_string())));
        };
        self.subnet.iter().for_each(|subnet| say("subnet", subnet));
        self.dns.iter().for_each(|address| say("dns", address));
        self.publish.iter().for_each(|port| say("publish", port));
        self.allow.iter().for_each(|who| say("allow", who));
        if self.ipv6 {
            say("ipv6", &"");
        }
        if !self.nat {
            say("no-nat", &"");
        }
        if !self.unshare.is_empty() {
            say("unshare", &Namespace::list(&self.unshare));
        }
        self.hostname.iter().for_each(|name| say("hostname", name));
        let shell = self.shell.iter();
        options.extend(shell.map(|shell| ("shell", shell.clone().into_os_string())));
        let users = self.login_shells.iter();
        options.extend(users.map(|user| ("login-shell", user.into())));
        options
    }
}

/// The jail that is meant: the one that an option names, else that of `KAK_JAIL`, else [`DEFAULT_JAIL`]. A process that
/// has more rights than its caller ignores the variable. An empty value is an error, like any other that is no name:
/// where a script's own variable is empty, another jail than the intended one would be used.
pub fn jail(named: Option<String>) -> Result<String> {
    if let Some(name) = named {
        return Ok(name);
    }
    match std::env::var_os(VARIABLE) {
        Some(value) if !crate::sys::is_privileged_by_file() => jail_name(&value)
            .map_err(|error| Error::usage(format!("{VARIABLE} in the environment: {error}"))),
        _ => Ok(DEFAULT_JAIL.into()),
    }
}

/// Checks a jail's name.
pub fn jail_name(word: &OsStr) -> Result<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match word.to_str() {
        Some(name)
            if (1..=32).contains(&name.len())
                && name.bytes().all(allowed)
                && !name.starts_with(['.', '-']) =>
        {
            Ok(name.into())
        }
        _ => Err(Error::usage(format!(
            "jail name {word:?}: must be 1 to 32 of A-Za-z0-9_.- and not start with . or -"
        ))),
    }
}

/// Checks an absolute path without `..`, and removes `.` and double slashes from it.
pub fn absolute(option: &str, word: &OsStr) -> Result<PathBuf> {
    let path = Path::new(word);
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::usage(format!(
            "{option} {word:?}: must be an absolute path without '..'"
        )));
    }
    Ok(path.components().collect())
}

/// Checks an IP address.
fn address(option: &str, word: &OsStr) -> Result<std::net::IpAddr> {
    let address = word.to_str().and_then(|word| word.parse().ok());
    let wrong = || {
        Error::usage(format!(
            "{option} {}: must be an IP address",
            word.display()
        ))
    };
    address.ok_or_else(wrong)
}

/// Checks `--login-shell`: a name that can stand in /etc/passwd, even one for which useradd wants `--badname`.
fn user(word: &OsStr) -> Result<String> {
    let wrong = |c: char| c.is_control() || c.is_whitespace() || ":,/".contains(c);
    match word.to_str() {
        Some(name)
            if (1..=255).contains(&name.len())
                && !name.starts_with(['-', '+', '~', '#'])
                && !name.contains(wrong) =>
        {
            Ok(name.into())
        }
        _ => Err(Error::usage(format!(
            "--login-shell {word:?}: must be a user's name"
        ))),
    }
}

/// Checks `--root`.
fn root(word: &OsStr) -> Result<PathBuf> {
    let root = absolute("--root", word)?;
    let mut names = root.iter().skip(1);
    let is_system = match (names.next(), names.next()) {
        (None, _) => true,
        (Some(name), None) => SYSTEM.iter().any(|system| name == *system),
        _ => false,
    };
    if is_system {
        return Err(Error::usage(format!(
            "--root {}: the jail's root must be a directory of its own, such as /srv/jail",
            root.display()
        )));
    }
    Ok(root)
}

/// Checks `--hide`: a top-level directory, with or without its slash.
fn hide(word: &OsStr) -> Result<OsString> {
    let path = Path::new("/").join(word);
    let mut parts = path.components().skip(1);
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None)
            if ![&b"proc"[..], b"sys", b"dev", b"run", b"etc"].contains(&name.as_bytes()) =>
        {
            Ok(name.into())
        }
        _ => Err(Error::usage(format!(
            "--hide {word:?}: must be one top-level directory other than /proc, /sys, /dev, /run and /etc"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["USER", "a", "a.b-c_9", "x".repeat(32).as_str()] {
            assert_eq!(jail_name(OsStr::new(good)).unwrap(), good);
        }
        for bad in [
            "",
            "../x",
            ".x",
            "-x",
            "a b",
            "a/b",
            "ä",
            "x".repeat(33).as_str(),
        ] {
            assert_eq!(jail_name(OsStr::new(bad)).unwrap_err().code(), 2, "{bad}");
        }
    }

    #[test]
    fn users() {
        for good in ["root", "a", "A.b-c_9$", "ä", "DOMAIN\\user", "user@domain"] {
            assert_eq!(user(OsStr::new(good)).unwrap(), good);
        }
        let long = "x".repeat(256);
        for bad in [
            "", "-a", "+", "~", "#a", "a:b", "a b", "a\n", "a/b", "a,b", &long,
        ] {
            assert_eq!(user(OsStr::new(bad)).unwrap_err().code(), 2, "{bad}");
        }
    }

    #[test]
    fn a_port_is_published_once() {
        let all = |ports: &[&str]| {
            let mut config = Config::new("x");
            let mut ports = ports.iter();
            ports.try_for_each(|port| config.set("publish", OsStr::new(port)))
        };
        for good in [
            &["80", "81:80", "80/udp"][..],
            &["192.0.2.1:80", "192.0.2.2:80"],
            &["0.0.0.0:80", "[::]:80"],
            &["192.0.2.1:80", "[2001:db8::1]:80", "[::1]:80"],
        ] {
            all(good).unwrap();
        }
        for bad in [
            &["80", "80"][..],
            &["80", "80:81/tcp"],
            &["53/udp", "192.0.2.1:53:54/udp"],
            &["127.0.0.1:80", "80"],
            &["0.0.0.0:80", "127.0.0.1:80"],
            &["[::1]:80", "[::]:80"],
            &["[::1]:80", "80"],
        ] {
            assert_eq!(all(bad).unwrap_err().code(), 2, "{bad:?}");
        }
    }

    #[test]
    fn hidden() {
        assert_eq!(hide(OsStr::new("/srv/")).unwrap(), "srv");
        assert_eq!(hide(OsStr::new("srv")).unwrap(), "srv");
        for bad in ["/", "", "/srv/x", "/proc", ".."] {
            assert_eq!(hide(OsStr::new(bad)).unwrap_err().code(), 2, "{bad}");
        }
    }
}
