//! A jail's record, `/run/kak/JAIL/record`: the facts of its plan as `key value` lines, all that is stored. Teardown
//! and status use that plan, not the one the machine would give now. Which processes live only the kernel knows.

pub mod state;
mod words;

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::config::{self, Config, Subnet};
use crate::error::{Error, Result, What as _};
use crate::facts::{Afresh, Entry, Facts, Firewall, Ipv6, Kind, Uplink};
use crate::file;
use crate::nl::nft::foreign::Dropping;
use crate::passwd;
use crate::procfs::{escape, unescape};
use crate::step::forwarding::Single;
use crate::step::ping::Groups;
use crate::sys;
use state::State;
use words::{entry, link, outer, place, was, yes};

/// Where all jails have their state.
pub const DIR: &str = "/run/kak";

/// Everything that a plan is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The options.
    pub config: Config,
    /// What the machine looked like.
    pub facts: Facts,
    /// The steps, as text, that were done before: teardown leaves them.
    pub found: Vec<String>,
}

impl Record {
    /// Reads a jail's record; none where it has none.
    pub fn read(jail: &str) -> Result<Option<Self>> {
        Self::of(&State::of(jail)?)
    }

    /// Reads the record in this state; none where it has none.
    pub fn of(state: &State) -> Result<Option<Self>> {
        let (jail, Some(path)) = (&state.jail, state.path("record")) else {
            return Ok(None);
        };
        let text = file::read(&path)?;
        if text.is_empty() {
            return Ok(None);
        }
        let record = Self::parse(&text).filter(|record| record.config.jail == *jail);
        record.map(Some).ok_or_else(|| {
            Error::cure(
                format!("cat {}", path.display()),
                "is not a record that this kak understands",
                format!(
                    "rm -r {}; what that jail left has to be removed by hand",
                    dir(jail).display()
                ),
            )
        })
    }

    /// The jail's resolv.conf: where `ip netns` looks for it, or, if it cannot be there, beside this record.
    pub fn resolv_conf(&self) -> PathBuf {
        let jail = &self.config.jail;
        let dir = if self.facts.resolv_in_etc {
            Path::new("/etc/netns").join(jail)
        } else {
            dir(jail)
        };
        dir.join("resolv.conf")
    }

    /// Writes it where [`Record::read`] finds it, in place of an older one.
    pub fn write(&self) -> Result<()> {
        let path = dir(&self.config.jail).join("record");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        file::replace(&path, &self.text(), mode).what(|| format!("cat >{}", path.display()))
    }

    /// The record's text.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut line = |key: &str, values: &[&[u8]]| {
            text.extend(key.bytes());
            for value in values {
                text.push(b' ');
                text.extend(escape(value));
            }
            text.push(b'\n');
        };
        let yes = |is: bool| if is { &b"yes"[..] } else { b"no" };
        let (config, facts) = (&self.config, &self.facts);
        line("jail", &[config.jail.as_bytes()]);
        line("bare", &[yes(config.bare)]);
        for (option, value) in config.options() {
            line("option", &[option.as_bytes(), value.as_bytes()]);
        }
        for is_dir in &facts.bound_dirs {
            line("bound-dir", &[yes(*is_dir)]);
        }
        line("real-root", &[facts.root.as_os_str().as_bytes()]);
        for Entry { name, kind } in &facts.entries {
            match kind {
                Kind::Dir => line("dir", &[name.as_bytes()]),
                Kind::File => line("file", &[name.as_bytes()]),
                Kind::Link(target) => line("link", &[name.as_bytes(), target.as_bytes()]),
            }
        }
        for path in &facts.programs {
            line("program", &[path.as_os_str().as_bytes()]);
        }
        for path in &facts.submounts {
            line("submount", &[path.as_os_str().as_bytes()]);
        }
        for Afresh {
            path,
            kind,
            options,
        } in &facts.afresh
        {
            let path = path.as_os_str().as_bytes();
            line("afresh", &[path, kind.as_bytes(), options.as_bytes()]);
        }
        line("sys-read-only", &[yes(facts.sys_read_only)]);
        line("etc-writable", &[yes(facts.etc_writable)]);
        line("resolv", &[facts.resolv.word().as_bytes()]);
        line("resolv-in-etc", &[yes(facts.resolv_in_etc)]);
        line("resolvers", &[&facts.resolvers]);
        line("resolvers-before", &[&facts.resolvers_before]);
        for dir in &facts.sockets {
            line("sockets", &[dir.as_os_str().as_bytes()]);
        }
        line("shells", &[facts.shells.word().as_bytes()]);
        line("shell", &[facts.shell.as_os_str().as_bytes()]);
        line("passwd-writable", &[yes(facts.passwd_writable)]);
        for shell in &facts.login_shells {
            line("old-login-shell", &[shell.as_bytes()]);
        }
        line("subnet", &[facts.subnet.to_string().as_bytes()]);
        if let Some(uplink) = &facts.uplink {
            line(
                "uplink",
                &[uplink.name.as_bytes(), uplink.mtu.to_string().as_bytes()],
            );
        }
        for (key, values) in facts.ipv6.iter().flat_map(Ipv6::lines) {
            let values: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
            line(key, &values);
        }
        if let Some(groups) = &facts.ping {
            line("ping", &[groups.to_string().as_bytes()]);
        }
        for Dropping { place, closed } in &facts.firewall.chains {
            let family = place.family.to_string();
            let (table, chain) = (place.table.as_bytes(), place.chain.as_bytes());
            line("drops", &[family.as_bytes(), table, chain, yes(*closed)]);
        }
        line("legacy-drops", &[yes(facts.firewall.legacy)]);
        for name in &facts.single.forwarding {
            line("forwards", &[name.as_bytes()]);
        }
        line("no-redirects", &[yes(facts.single.no_redirects)]);
        line("cookie", &[facts.cookie.to_string().as_bytes()]);
        for found in &self.found {
            line("found", &[found.as_bytes()]);
        }
        text
    }

    /// Parses a record's text; none where anything about it is wrong.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (mut config, mut entries) = (None::<Config>, Vec::new());
        let (mut bound_dirs, mut submounts, mut afresh) = (Vec::new(), Vec::new(), Vec::new());
        let (mut sys_read_only, mut etc_writable, mut resolv) = (None, None, None);
        let (mut resolv_in_etc, mut resolvers, mut resolvers_before) = (None, None, None);
        let (mut root, mut shells, mut shell, mut ping) = (None, None, None, None);
        let (mut subnet, mut uplink, mut ipv6, mut cookie) = (None, None, None, None);
        let (mut single, mut found, mut programs) = (Single::default(), Vec::new(), Vec::new());
        let (mut firewall, mut sockets) = (Firewall::default(), Vec::new());
        let (mut passwd_writable, mut login_shells) = (None, Vec::new());
        for line in text.strip_suffix(b"\n")?.split(|byte| *byte == b'\n') {
            let mut words = line.split(|byte| *byte == b' ');
            let key = str::from_utf8(words.next()?).ok()?;
            let mut words = words.map(unescape);
            let (value, more) = (words.next()?, words.next());
            let path = || config::absolute("record", &value).ok();
            match (key, &more) {
                ("jail", None) => config = Some(Config::new(&config::jail_name(&value).ok()?)),
                ("bare", None) => config.as_mut()?.bare = yes(&value)?,
                ("option", Some(more)) => config.as_mut()?.set(value.to_str()?, more).ok()?,
                ("bound-dir", None) => bound_dirs.push(yes(&value)?),
                ("real-root", None) => root = path(),
                ("dir", None) => entries.push(entry(value, Kind::Dir)?),
                ("file", None) => entries.push(entry(value, Kind::File)?),
                ("link", Some(target)) => entries.push(entry(value, Kind::Link(target.clone()))?),
                ("program", None) => programs.push(path()?),
                ("submount", None) => submounts.push(path()?),
                ("afresh", Some(kind)) => afresh.push(Afresh {
                    path: path()?,
                    kind: kind.to_str()?.into(),
                    options: words.next()?.into_string().ok()?,
                }),
                ("sys-read-only", None) => sys_read_only = yes(&value),
                ("etc-writable", None) => etc_writable = yes(&value),
                ("resolv", None) => resolv = outer(&value),
                ("resolv-in-etc", None) => resolv_in_etc = yes(&value),
                ("resolvers", None) => resolvers = Some(value.into_vec()),
                ("resolvers-before", None) => resolvers_before = Some(value.into_vec()),
                ("sockets", None) => sockets.push(path()?),
                ("shells", None) => shells = was(&value),
                ("shell", None) => shell = path(),
                ("passwd-writable", None) => passwd_writable = yes(&value),
                ("old-login-shell", None) => {
                    passwd::is_field(value.as_bytes()).then_some(())?;
                    login_shells.push(value);
                }
                ("subnet", None) => subnet = Subnet::parse(&value).ok(),
                ("uplink", Some(mtu)) => {
                    let (name, mtu) = (value.into_string().ok()?, mtu.to_str()?.parse().ok()?);
                    uplink = Some(Uplink { name, mtu });
                }
                ("ping", None) => ping = Some(Groups::parse(value.as_bytes())?),
                ("drops", Some(table)) => {
                    let (chain, closed) = (words.next()?, words.next()?);
                    let place = place(&value, table, &chain)?;
                    let closed = yes(&closed)?;
                    firewall.chains.push(Dropping { place, closed });
                }
                ("legacy-drops", None) => firewall.legacy = yes(&value)?,
                ("forwards", None) => single.forwarding.push(link(value)?),
                ("no-redirects", None) => single.no_redirects = yes(&value)?,
                ("cookie", None) => cookie = value.to_str()?.parse().ok(),
                ("found", None) => found.push(value.into_string().ok()?),
                (key, more) => Ipv6::take(&mut ipv6, key, &value, more.as_ref())?,
            }
        }
        let config = config?;
        (config.ipv6 == ipv6.is_some()).then_some(())?;
        (config.binds.len() == bound_dirs.len()).then_some(())?;
        (config.login_shells.len() == login_shells.len()).then_some(())?;
        let facts = Facts {
            root: root?,
            entries,
            bound_dirs,
            programs,
            submounts,
            afresh,
            sys_read_only: sys_read_only?,
            etc_writable: etc_writable?,
            resolv: resolv?,
            resolv_in_etc: resolv_in_etc?,
            resolvers: resolvers?,
            resolvers_before: resolvers_before?,
            sockets,
            shells: shells?,
            shell: shell?,
            passwd_writable: passwd_writable?,
            login_shells,
            subnet: subnet?,
            ping,
            uplink,
            ipv6,
            firewall,
            single,
            cookie: cookie?,
        };
        Some(Self {
            config,
            facts,
            found,
        })
    }
}

/// A jail's state directory.
pub fn dir(jail: &str) -> PathBuf {
    Path::new(DIR).join(jail)
}

/// The records of the other jails. One that cannot be read is ignored here: commands for that jail report it.
pub fn others(jail: &str) -> Vec<Record> {
    jails()
        .unwrap_or_default()
        .iter()
        .filter(|name| *name != jail)
        .filter_map(|name| Record::read(name).ok()?)
        .collect()
}

/// The names of all jails that have state here, in order.
pub fn jails() -> Result<Vec<String>> {
    state::check_all()?;
    let names = match sys::entries(DIR) {
        // It is removed with the last jail.
        Err(rustix::io::Errno::NOENT) => return Ok(Vec::new()),
        other => other.what(|| format!("ls {DIR}"))?,
    };
    let mut jails = Vec::new();
    for name in names.iter().flat_map(|name| config::jail_name(name)) {
        jails.insert(jails.partition_point(|jail| *jail < name), name);
    }
    Ok(jails)
}

#[cfg(test)]
pub mod tests {
    use std::ffi::{OsStr, OsString};

    use super::*;
    use crate::facts::resolvers::ResolvConf;
    use crate::nl::nft::Family;
    use crate::nl::nft::foreign::Place;
    use crate::step::line::Was;
    use proptest::prelude::*;

    /// A record with something of everything.
    pub fn sample() -> Record {
        let word = |text: &str| OsString::from(text);
        let mut config = Config::new("USER");
        for (option, value) in [
            ("hide", "srv"),
            ("bind", "/data dir:/opt/data:ro"),
            ("dns", "192.0.2.53"),
            ("publish", "8080:80"),
            ("allow", "alice"),
            ("allow", "1000"),
            ("no-nat", ""),
            ("unshare", "time,ipc"),
            ("hostname", "inside"),
            ("login-shell", "root"),
            ("login-shell", "alice"),
        ] {
            config.set(option, OsStr::new(value)).unwrap();
        }
        let entry = |name: &str, kind| Entry {
            name: word(name),
            kind,
        };
        Record {
            config,
            facts: Facts {
                root: "/var/mnt/user".into(),
                entries: vec![
                    entry(".dockerenv", Kind::File),
                    entry("bin", Kind::Link(word("usr/bin"))),
                    entry("dev", Kind::Dir),
                    entry("etc", Kind::Dir),
                    entry("run", Kind::Dir),
                    entry("usr", Kind::Dir),
                ],
                bound_dirs: vec![true],
                programs: vec!["/usr/bin/kak".into()],
                submounts: vec!["/sys/fs/cgroup".into()],
                afresh: vec![Afresh {
                    path: "/dev/mqueue".into(),
                    kind: "mqueue".into(),
                    options: String::new(),
                }],
                sys_read_only: false,
                etc_writable: true,
                resolv: ResolvConf::File,
                resolv_in_etc: true,
                resolvers: b"nameserver 192.0.2.53\n".to_vec(),
                resolvers_before: Vec::new(),
                sockets: vec!["/run/nscd".into()],
                shells: Was::Whole,
                shell: "/bin/bash".into(),
                passwd_writable: true,
                login_shells: vec!["/bin/bash".into(), "".into()],
                subnet: Subnet::parse(OsStr::new("10.0.0.0/24")).unwrap(),
                ping: Some(Groups(0, 100)),
                uplink: Some(Uplink {
                    name: "eth0".into(),
                    mtu: 1400,
                }),
                ipv6: None,
                firewall: Firewall {
                    chains: vec![Dropping {
                        place: Place {
                            family: Family::Inet,
                            table: "firewalld".into(),
                            chain: "filter FORWARD".into(),
                        },
                        closed: true,
                    }],
                    legacy: true,
                },
                single: Single {
                    forwarding: vec!["eth1".into(), "default".into()],
                    no_redirects: true,
                },
                cookie: 7,
            },
            found: vec!["mkdir -p -m 755 /mnt".to_owned(), "two\nlines".to_owned()],
        }
    }

    #[test]
    fn a_record_comes_back() {
        let record = sample();
        assert_eq!(Record::parse(&record.text()), Some(record));
    }

    #[test]
    fn a_hostile_record_is_none() {
        let text = String::from_utf8(sample().text()).unwrap();
        for (good, bad) in [
            ("jail USER", "jail ../x"),
            ("option root /mnt/user", "option root /"),
            ("option root", "option route"),
            ("option allow alice", "option allow a:b"),
            ("bound-dir yes\n", ""),
            ("\nold-login-shell /bin/bash", ""),
            (
                "\nold-login-shell /bin/bash",
                "\nold-login-shell /bin/bash:",
            ),
            ("option login-shell alice", "option login-shell alice:x"),
            ("dir etc", "dir ../etc"),
            ("cookie 7", "cookie x"),
            ("drops inet", "drops arp"),
            ("drops inet firewalld", "drops inet"),
            ("legacy-drops yes", "legacy-drops maybe"),
            ("forwards eth1", "forwards ../eth1"),
            ("etc-writable yes", "etc-writable perhaps"),
            ("etc-writable yes\n", ""),
            ("etc-writable yes", "news yes"),
            ("unshare uts", "unshare user"),
            ("hostname inside", "hostname -"),
            ("afresh /dev/mqueue", "afresh ../dev/mqueue"),
        ] {
            assert!(text.contains(good));
            assert_eq!(
                Record::parse(text.replace(good, bad).as_bytes()),
                None,
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            Record::parse(&text);
        }
    }
}
