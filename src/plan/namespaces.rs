//! The steps for `--unshare`: the additional namespaces that init is started in, the host name, and fresh mounts of the
//! file systems that show what is in such a namespace.

use super::Steps;
use crate::config::Namespace;
use crate::facts::Afresh;
use crate::record::Record;
use crate::step::mount::Fresh;
use crate::step::namespace::{Hostname, Own};

/// Adds the namespaces that init is started in; returns how many.
pub fn started(record: &Record, steps: &mut Steps) -> usize {
    for kind in &record.config.unshare {
        let why = match kind {
            Namespace::Uts => "the jail's host name is its own",
            Namespace::Ipc => "its shared memory, semaphores and message queues are its own",
            Namespace::Cgroup => {
                "it sees only the control group that it is started in, and those below"
            }
            Namespace::Time => "its uptime begins now",
        };
        steps.add(why, Own { kind: *kind });
    }
    record.config.unshare.len()
}

/// The jail's host name.
pub fn hostname(record: &Record, steps: &mut Steps) {
    if let Some(name) = &record.config.hostname {
        let name = name.clone();
        steps.add("the jail's host name", Hostname { name });
    }
}

/// What is mounted afresh.
pub fn afresh(record: &Record, steps: &mut Steps) {
    for Afresh {
        path,
        kind,
        options,
    } in &record.facts.afresh
    {
        let why = match Afresh::belongs_to(kind) {
            Some(Namespace::Cgroup) => "the control groups from its own down",
            _ => "empty: the outer one shows what is not the jail's",
        };
        let fresh = Fresh {
            kind: kind.clone(),
            source: Fresh::OURS,
            root: record.facts.root.clone(),
            target: path.clone(),
            options: options.clone(),
        };
        steps.add(why, fresh);
    }
}
