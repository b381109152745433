//! THE LISTS: every step by which kak makes a jail on a machine, in order, each with its reason.
//!
//! Theory of operation. There are two lists. The *outer* steps make what outlives any process: files, directories, the
//! network namespace, links, addresses, firewall rules. `setup` goes through them first to last, `teardown` last to
//! first. The *inner* steps belong to the jail's init: namespaces that it is started in, and mounts that it makes in
//! its own mount namespace. Nothing outside ever sees these mounts, and they go when init ends, however it ends.
//!
//! 1. The record is written before anything else is changed, so that whatever happens next can be taken back.
//! 2. The jail's own directories and its mount points are made under its root.
//! 3. The network namespace is made, and a link into it. The firewall rules for the link are made before it and removed
//!    after it; forwarding comes last, so that no packet leaves under an address that no reply can reach.
//! 4. Files that other programs read come last, /etc/shells before /etc/passwd: no login leads to a jail that is not
//!    there, and no user has a login shell that /etc/shells does not list.
//! 5. Init stops mounts from propagating outwards before it makes any, binds the outer top level, mounts its own /proc
//!    and /sys, covers what the jail must not see, and pivots when all is in place.
//!
//! Order is the only dependency. The lists are a pure function of the record.

mod namespaces;
mod network;
pub mod programs;
mod resolvers;

use std::path::{Path, PathBuf};

use crate::config::{DEFAULT_JAIL, OWN};
use crate::facts::{Kind, is_own};
use crate::netns;
use crate::record::{self, Record};
use crate::step::account::{LoginShell, NSSH, PASSWD};
use crate::step::below::Below;
use crate::step::cover::Cover;
use crate::step::file::{Dir, File, Symlink};
use crate::step::line::Line;
use crate::step::mount::{Bind, Fresh, Pivot, Root, Slave};
use crate::step::netns::{NetNs, RunDir};
use crate::step::{Action, Step, inside};
use network::network;

pub use resolvers::{follows, own as own_resolvers, socket_cover};

/// A list that grows.
struct Steps(Vec<Step>);

impl Steps {
    /// Appends a step.
    fn add(&mut self, why: &'static str, act: impl Action + 'static) {
        self.0.push(step(why, act));
    }
}

/// A step of the plan.
fn step(why: &'static str, act: impl Action + 'static) -> Step {
    Step {
        why,
        act: Box::new(act),
    }
}

/// How many of the outer steps, at the start, make kak's own state in `/run/kak/JAIL`.
pub const STATE: usize = 4;

/// What is to be done, and what cannot be.
pub struct Plan {
    /// The lasting changes, made outside by the process that brings the jail up.
    pub outer: Vec<Step>,
    /// The jail's namespaces and mounts, made for and by its init.
    pub inner: Vec<Step>,
    /// How many of these, at the start, are namespaces that init is started in.
    pub started: usize,
    /// What this machine does not allow and the jail does without.
    pub notes: Vec<String>,
}

impl Plan {
    /// The plan of a record.
    pub fn new(record: &Record) -> Self {
        let (outer, notes) = outer(record);
        let (inner, started) = inner(record);
        Self {
            outer,
            inner,
            started,
            notes,
        }
    }

    /// kak's own state of a jail: the first [`STATE`] steps of every plan.
    pub fn state(jail: &str, record: Vec<u8>) -> Vec<Step> {
        let state = record::dir(jail);
        let file = |name, text| File {
            path: state.join(name),
            mode: 0o600,
            text,
            ours: true,
        };
        vec![
            step(
                "what kak knows of this jail is for root alone",
                Dir {
                    path: state.clone(),
                    mode: 0o700,
                },
            ),
            step(
                "the facts that this plan is made of: teardown and status work on them",
                file("record", record),
            ),
            step(
                "the kernel's lock table on this file will say which process is init",
                file("lock", Vec::new()),
            ),
            step(
                "what the jail's keeper reports when it is in the background",
                file("log", Vec::new()),
            ),
        ]
    }
}

/// The steps that last.
fn outer(record: &Record) -> (Vec<Step>, Vec<String>) {
    let Record { config, facts, .. } = record;
    let jail = config.jail.as_str();
    let mut notes = Vec::new();

    let mut steps = Steps(Plan::state(jail, record.text()));
    if !config.bare {
        root_dir(record, &mut steps);
    }
    resolvers::outer(record, &mut steps, &mut notes);

    steps.add(
        "where network namespaces have their names",
        dir(netns::DIR.into()),
    );
    steps.add(
        "shared, so that the names are seen outside this mount namespace, too",
        RunDir,
    );
    steps.add("a network of the jail's own", NetNs { name: jail.into() });
    network(record, &mut steps, &mut notes);

    if facts.etc_writable && !config.bare {
        let line = Line::login_shell(facts.shells);
        steps.add("nssh may be a login shell", line);
    }
    login_shells(record, &mut steps, &mut notes);
    (steps.0, notes)
}

/// The users whose login shell becomes nssh.
fn login_shells(record: &Record, steps: &mut Steps, notes: &mut Vec<String>) {
    let Record { config, facts, .. } = record;
    if config.login_shells.is_empty() {
        return;
    }
    if !facts.passwd_writable {
        notes.push(format!(
            "{PASSWD} cannot be written: the login shells stay as they are"
        ));
        return;
    }
    if config.jail != DEFAULT_JAIL {
        notes.push(format!(
            "{NSSH} as a login shell enters {DEFAULT_JAIL}, and {} only where KAK_JAIL says so",
            config.jail
        ));
    }
    if config.allow.is_empty() && config.login_shells.iter().any(|user| user != "root") {
        notes.push(format!(
            "users other than root with {NSSH} as login shell can log in only if --allow names them"
        ));
    }
    for (user, before) in config.login_shells.iter().zip(&facts.login_shells) {
        let (user, before) = (user.clone(), before.clone());
        steps.add(
            "nssh becomes this user's, so that logins are in a jail",
            LoginShell { user, before },
        );
    }
}

/// The jail's root, its own directories and its mount points.
fn root_dir(record: &Record, steps: &mut Steps) {
    let Record { config, facts, .. } = record;
    let root = &facts.root;
    for ancestor in root
        .ancestors()
        .skip(1)
        .filter(|path| path.parent().is_some())
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        steps.add(
            "on the way to the jail's root",
            below(ancestor.into(), true),
        );
    }
    steps.add(
        "everything that the jail sees is put together here",
        below(root.clone(), true),
    );
    for (own, mode) in OWN {
        let path = root.join(own);
        steps.add("hidden: the jail has one of its own", Dir { path, mode });
    }
    for hidden in &config.hide {
        steps.add(
            "hidden: the jail has one of its own",
            dir(root.join(hidden)),
        );
    }
    for kernel in ["proc", "sys"] {
        steps.add("proc or sysfs will be mounted here", dir(root.join(kernel)));
    }
    for entry in &facts.entries {
        let path = root.join(&entry.name);
        match &entry.kind {
            Kind::Dir => steps.add("the outer directory will be bound here", dir(path)),
            Kind::File => steps.add("the outer file will be bound here", File::mount_point(path)),
            Kind::Link(target) => {
                let target = target.clone();
                steps.add(
                    "a link outside is the same link inside",
                    Symlink { path, target },
                );
            }
        }
    }
    for (bind, is_dir) in config
        .binds
        .iter()
        .zip(&facts.bound_dirs)
        .filter(|(bind, _)| is_own(config, &facts.entries, &bind.target))
    {
        let target = inside(root, &bind.target);
        let between: Vec<&Path> = target
            .ancestors()
            .skip(1)
            .take_while(|path| *path != root)
            .collect();
        for between in between
            .into_iter()
            .rev()
            .skip_while(|path| OWN.iter().any(|(own, _)| *path == root.join(own)))
        {
            steps.add(
                "on the way to the target of a --bind",
                below(between.into(), true),
            );
        }
        let why = "the target of a --bind";
        steps.add(why, below(target, *is_dir));
    }
}

/// A directory, or an empty file to mount on, in a place that others may write to as well.
fn below(path: PathBuf, is_dir: bool) -> Below {
    Below { path, is_dir }
}

/// A directory with the usual mode.
fn dir(path: PathBuf) -> Dir {
    Dir { path, mode: 0o755 }
}

/// The inner steps, and how many of them are namespaces that init is started in.
fn inner(record: &Record) -> (Vec<Step>, usize) {
    let Record { config, facts, .. } = record;
    if config.bare {
        return (Vec::new(), 0);
    }
    let root = &facts.root;
    let bind = |source: PathBuf| Bind {
        target: source.clone(),
        source,
        root: root.clone(),
        read_only: false,
    };
    let fresh = |kind: &'static str, target: &str, read_only| Fresh {
        kind: kind.into(),
        source: kind,
        root: root.clone(),
        target: target.into(),
        options: format!("nosuid,nodev,noexec{}", if read_only { ",ro" } else { "" }),
    };

    let mut steps = Steps(Vec::new());
    let started = namespaces::started(record, &mut steps);
    namespaces::hostname(record, &mut steps);
    steps.add(
        "nothing that is mounted or unmounted from here on is seen outside",
        Slave,
    );
    steps.add(
        "the jail's root has to be a mount",
        Root { path: root.clone() },
    );
    for entry in facts
        .entries
        .iter()
        .filter(|entry| !matches!(entry.kind, Kind::Link(_)))
    {
        steps.add(
            "as it is outside, with all that is mounted in it",
            bind(Path::new("/").join(&entry.name)),
        );
    }
    steps.add("the jail's own processes", fresh("proc", "/proc", false));
    steps.add(
        "the jail's own network devices",
        fresh("sysfs", "/sys", facts.sys_read_only),
    );
    for path in &facts.submounts {
        steps.add(
            "what is mounted there outside, masks too, is mounted inside",
            bind(path.clone()),
        );
    }
    namespaces::afresh(record, &mut steps);
    resolvers::sockets(record, &mut steps);
    for wanted in &config.binds {
        let (source, target) = (wanted.source.clone(), wanted.target.clone());
        let bound = Bind {
            source,
            target,
            root: root.clone(),
            read_only: wanted.read_only,
        };
        steps.add("asked for with --bind", bound);
    }
    programs::inner(record, &mut steps);
    resolvers::inner(record, &mut steps);
    covers(record, &mut steps);
    steps.add(
        "the jail's root becomes the root, and the outer one is detached",
        Pivot { root: root.clone() },
    );
    (steps.0, started)
}

/// The covers over what the jail must not see.
fn covers(record: &Record, steps: &mut Steps) {
    let Record { config, facts, .. } = record;
    let root = &facts.root;
    let cover = |target: PathBuf, detach| Cover {
        root: root.clone(),
        target,
        detach,
        if_there: false,
        links: Vec::new(),
    };
    steps.add(
        "hidden: the names of other networks",
        cover(netns::DIR.into(), true),
    );
    steps.add(
        "hidden: kak's state, except which shell is the real one",
        Cover {
            root: root.clone(),
            target: record::DIR.into(),
            detach: false,
            if_there: false,
            links: vec![("shell", facts.shell.clone())],
        },
    );
    if !is_own(config, &facts.entries, root) {
        steps.add(
            "hidden: the place where its root was put together",
            cover(root.clone(), false),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_steps_are_the_state() {
        let record = record::tests::sample();
        let plan = Plan::new(&record);
        let state = Plan::state("USER", record.text());
        assert_eq!(state.len(), STATE);
        for (planned, step) in plan.outer.iter().zip(&state) {
            assert_eq!(planned.act.to_string(), step.act.to_string());
        }
    }
}
