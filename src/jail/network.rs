//! A jail's network without the jail: a named network namespace with an uplink, as `kak netns add --uplink` makes it. It
//! has a record, a subnet and a table of its own like any jail, made and taken back by the same steps, but no root and no
//! init. Where its resolvers need a relay, that one holds the lock that init would hold, by which it is found and ended.

use std::ffi::OsStr;

use super::{Lock, build, capabilities, dns};
use crate::config::{self, Config};
use crate::engine;
use crate::error::{Error, Result};
use crate::file;
use crate::netns::{self, State};
use crate::plan::Plan;
use crate::record::{self, Record};
use crate::step::Machine;
use crate::step::netns::NetNs;

/// Makes one; `note` hears what the machine does not allow. What does not work is taken back.
pub fn make(config: Config, note: &mut dyn FnMut(&str)) -> Result<()> {
    capabilities::check("a network with an uplink", capabilities::NETWORK)?;
    let name = config.jail.clone();
    let _lock = Lock::take(&mut |_| {})?;
    match Record::read(&name)? {
        Some(old) if !old.config.bare => {
            return Err(Error::cure(
                format!("kak netns add {name} --uplink"),
                "there is a jail of this name",
                format!("choose another name, or end it by 'kak teardown -n {name}'"),
            ));
        }
        old => {
            if netns::state(name.as_ref())? == State::Namespace {
                return Err(exists(&name));
            }
            super::end(&name)?;
            if let Some(old) = old {
                // Its namespace went without it: with a restart, or by somebody else's hand.
                build::clear(&old, &mut build::quietly)?;
            }
        }
    }
    let mut machine = Machine::new(&name);
    let record = build::draw_up(config, &mut machine, Err)?;
    let namespace = NetNs { name: name.clone() };
    if record.found.contains(&namespace.to_string()) {
        // Somebody has made it meanwhile: who gives a name to nothing but a namespace does not wait for the lock.
        return Err(exists(&name));
    }
    let plan = Plan::new(&record);
    plan.notes.iter().for_each(|text| note(text));
    let made = engine::setup(&plan.outer, &mut machine, &mut build::quietly)?;
    dns::start_alone(&name).map_err(|error| error.and(made.take_back(&mut machine)))
}

/// That there is a network of this name.
fn exists(name: &str) -> Error {
    Error::text(
        format!("Cannot create namespace file \"{}/{name}\"", netns::DIR),
        "File exists",
    )
}

/// Whether a name is one that [`make`] made, whatever is left of it.
pub fn is_ours(name: &OsStr) -> bool {
    let Ok(name) = config::jail_name(name) else {
        return false;
    };
    // Who may not look there has not made it.
    let there = file::lstat(&record::dir(&name).join("record"));
    if there.is_ok_and(|stat| stat.is_none()) {
        return false;
    }
    let record = Record::read(&name).ok().flatten();
    record.is_some_and(|record| record.config.bare)
}

/// Takes everything of it back; the name too.
pub fn unmake(name: &OsStr, force: bool) -> Result<()> {
    let jail = config::jail_name(name)?;
    if netns::state(name)? == State::Namespace {
        if force {
            netns::delete(name, true)?;
        } else {
            netns::check_devices(name)?;
        }
    }
    build::take_down(&jail, &mut build::quietly, &mut |_| {})?;
    // Whoever made the namespace: it is the name that shall go.
    match netns::state(name)? {
        State::Namespace => netns::delete(name, force),
        _ => Ok(()),
    }
}
