//! The steps for name resolution: the jail's resolv.conf, and covers over local services that would answer instead.

use std::path::{Path, PathBuf};

use super::{Steps, dir};
use crate::facts::resolvers::ResolvConf;
use crate::record::Record;
use crate::step::cover::Cover;
use crate::step::file::File;
use crate::step::resolvers::{Own, Resolvers};

/// The jail's resolv.conf; none for a network without a jail that cannot have one.
pub fn own(record: &Record) -> Option<Own> {
    let Record { config, facts, .. } = record;
    // Without a jail only /etc/netns counts: `ip netns exec` looks nowhere else.
    let seen = !config.bare || facts.resolv_in_etc;
    seen.then(|| Own {
        file: File {
            path: record.resolv_conf(),
            mode: 0o644,
            text: facts.resolvers.clone(),
            ours: false,
        },
        before: facts.resolvers_before.clone(),
    })
}

/// Whether the jail's resolv.conf is a copy that follows changes of the outer one: kak made it, and no `--dns` fixes
/// its content.
pub fn follows(record: &Record) -> bool {
    let ours = |own: Own| !record.found.contains(&own.to_string());
    record.config.dns.is_empty() && own(record).is_some_and(ours)
}

/// The steps that last.
pub fn outer(record: &Record, steps: &mut Steps, notes: &mut Vec<String>) {
    let Record { config, facts, .. } = record;
    if facts.etc_writable {
        steps.add(
            "where `ip netns` also looks for a namespace's own files",
            dir("/etc/netns".into()),
        );
        steps.add(
            "this jail's own files",
            dir(Path::new("/etc/netns").join(&config.jail)),
        );
    } else if !config.bare {
        notes.push("/etc is read-only: nssh is not put into /etc/shells".into());
    }
    match own(record) {
        Some(own) => {
            if config.dns.is_empty() && record.found.contains(&own.to_string()) {
                notes.push(format!(
                    "{} was there before: it names the resolvers, whatever this machine's are",
                    own.file.path.display()
                ));
            }
            steps.add(
                "the jail's resolvers; a file that is there already is used as it is",
                own,
            );
        }
        None => notes.push("/etc is read-only: the namespace uses the outer resolv.conf".into()),
    }
    if !config.bare && facts.resolv == ResolvConf::Directory {
        notes.push("/etc/resolv.conf is a directory, and stays one in the jail".into());
    }
    if facts.etc_writable && facts.resolv == ResolvConf::Absent {
        let path = "/etc/resolv.conf".into();
        steps.add(
            "there is none, and a mount needs something to cover",
            File::mount_point(path),
        );
    }
}

/// The covers over directories of sockets that answer for the machine's network, and that a C library asks before it
/// asks a resolver. One that is the target of a requested bind stays visible.
pub fn sockets(record: &Record, steps: &mut Steps) {
    let Record { config, facts, .. } = record;
    let conf = facts.resolv_in_etc.then(|| record.resolv_conf());
    let wanted = |dir: &PathBuf| config.binds.iter().any(|bind| bind.target == *dir);
    for dir in facts.sockets.iter().filter(|dir| !wanted(dir)) {
        steps.add(
            "hidden: the services in it answer for the machine's network",
            socket_cover(&facts.root, dir, conf.as_deref()),
        );
    }
}

/// The cover of such a directory. In systemd-resolved's, into which /etc/resolv.conf may lead, are links to the jail's.
pub fn socket_cover(root: &Path, dir: &Path, conf: Option<&Path>) -> Cover {
    let names = ["resolv.conf", "stub-resolv.conf"];
    let conf = conf.filter(|_| dir.ends_with("systemd/resolve"));
    let links = conf.map(|conf| names.map(|name| (name, conf.to_owned())).into());
    Cover {
        root: root.into(),
        target: dir.into(),
        detach: false,
        if_there: true,
        links: links.unwrap_or_default(),
    }
}

/// The mount over /etc/resolv.conf.
pub fn inner(record: &Record, steps: &mut Steps) {
    let Record { facts, .. } = record;
    let is_place = match facts.resolv {
        ResolvConf::Absent => facts.etc_writable,
        ResolvConf::File => true,
        ResolvConf::Directory => false,
    };
    if is_place {
        steps.add(
            "the jail's resolvers",
            Resolvers {
                source: record.resolv_conf(),
                root: facts.root.clone(),
            },
        );
    }
}
