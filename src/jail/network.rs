//! A jail's network without the jail: a named network namespace with an uplink, as `kak netns add --uplink` makes it.
//! It has a record, a subnet and a table of its own like any jail, made and taken back by the same steps, but no root
//! and no init. If its resolvers need a relay, that holds the lock that init would hold, and is found and ended by it.
//! As with a jail, a process that changes one is one that no terminal can stop ([`apart`]).

use std::ffi::OsStr;

use rustix::io::Errno;

use super::process::apart;
use super::{Life, Lock, Waits, build, capabilities, dns, lost};
use crate::config::{self, Config};
use crate::engine;
use crate::error::{Error, Result};
use crate::file;
use crate::netns::{self, State};
use crate::plan::Plan;
use crate::record::{self, Record};
use crate::step::Machine;
use crate::step::netns::NetNs;

/// Makes one, or what is missing; `note` gets what the machine does not allow. An error takes back what was made.
pub fn make(config: Config, note: &mut dyn FnMut(&str)) -> Result<()> {
    capabilities::check("a network with an uplink", capabilities::NETWORK)?;
    let what = format!("kak netns add {} --uplink", config.jail);
    apart(&what, |waits| make_here(config, note, waits))
}

/// The same in this process.
fn make_here(mut config: Config, note: &mut dyn FnMut(&str), waits: Waits<'_>) -> Result<()> {
    let name = config.jail.clone();
    let plain = Config {
        bare: true,
        ..Config::new(&name)
    };
    let given = config.differs(&plain).is_some();
    let _lock = Lock::take(waits)?;
    match Record::read(&name)? {
        Some(old) if !old.config.bare => {
            return Err(Error::cure(
                format!("kak netns add {name} --uplink"),
                "there is a jail of this name",
                format!("choose another name, or end it with 'kak teardown -n {name}'"),
            ));
        }
        old => {
            if netns::state(name.as_ref())? == State::Namespace {
                let Some(old) = old else {
                    return Err(exists(&name));
                };
                let differs = config.differs(&old.config).filter(|_| given);
                return mend(&old, differs, note);
            }
            super::end(&name)?;
            if let Some(old) = old {
                // Its namespace is gone without it: by a restart, or because somebody else deleted it.
                build::clear(&old, &mut build::quietly)?;
                if !given {
                    config = old.config;
                }
            }
            lost::check_link(&name, &format!("kak netns add {name} --uplink"))?;
        }
    }
    let mut machine = Machine::new(&name);
    let record = build::draw_up(config, &mut machine, Err)?;
    let namespace = NetNs { name: name.clone() };
    if record.found.contains(&namespace.to_string()) {
        // Somebody has made it meanwhile: what names a namespace and does nothing else does not take the lock.
        return Err(exists(&name));
    }
    let plan = Plan::new(&record);
    plan.notes.iter().for_each(|text| note(text));
    let made = engine::setup(&plan.outer, &mut machine, &mut build::quietly)?;
    dns::start_alone(&name).map_err(|error| {
        // The relay may run all the same, if only its message was lost.
        let ended = super::end(&name).err();
        error.and(ended).and(made.take_back(&mut machine))
    })
}

/// Makes what is missing of one that exists, as 'kak setup' does for a jail; "File exists" if nothing is missing. If
/// other options were asked for it stays as it is: `differs` says which.
fn mend(record: &Record, differs: Option<String>, note: &mut dyn FnMut(&str)) -> Result<()> {
    let name = record.config.jail.as_str();
    if let Some(how) = differs {
        return Err(Error::cure(
            format!("kak netns add {name} --uplink"),
            format!("File exists, with other options: {how}"),
            format!("see 'kak status -n {name}'; 'kak netns delete {name}' removes it"),
        ));
    }
    let mut machine = Machine::new(name);
    let plan = build::look_again(record, &mut machine, note)?;
    let mut whole = true;
    let made = engine::setup(&plan.outer, &mut machine, &mut |sign, _| {
        whole &= sign == '=';
    })?;
    match dns::alone(record)? {
        Some(false) => {
            dns::start_alone(name).map_err(|error| error.and(made.take_back(&mut machine)))
        }
        _ if whole => Err(exists(name)),
        _ => Ok(()),
    }
}

/// The error that a network of this name exists.
fn exists(name: &str) -> Error {
    Error::text(
        format!("Cannot create namespace file \"{}/{name}\"", netns::DIR),
        "File exists",
    )
}

/// Whether [`make`] made the network of this name, whatever is left of it. If that cannot be found out, nothing may be
/// taken away either: without the name nobody could find the rest.
pub fn is_ours(name: &OsStr) -> Result<bool> {
    let Ok(name) = config::jail_name(name) else {
        return Ok(false);
    };
    match file::lstat(&record::dir(&name).join("record")) {
        Ok(None) => return Ok(false),
        Ok(Some(_)) => {}
        // A caller that may not look there has not made it.
        Err(error) if error.errno() == Some(Errno::ACCESS) => return Ok(false),
        Err(error) => return Err(error),
    }
    is_bare(&name)
}

/// The same, by the record. A function of its own, because a record takes more than a page of the stack, and most names
/// have none.
#[inline(never)]
fn is_bare(name: &str) -> Result<bool> {
    match Record::read(name) {
        Ok(record) => Ok(record.is_some_and(|record| record.config.bare)),
        Err(error) if error.errno().is_some() => Err(error),
        // A record that nobody understands says nothing.
        Err(_) => Ok(false),
    }
}

/// Removes all of it, the name too.
pub fn unmake(name: &OsStr, force: bool) -> Result<()> {
    let jail = config::jail_name(name)?;
    apart(&format!("kak netns delete {jail}"), |waits| {
        unmake_here(name, &jail, force, waits)
    })
}

/// The same in this process.
fn unmake_here(name: &OsStr, jail: &str, force: bool, waits: Waits<'_>) -> Result<()> {
    if netns::state(name)? == State::Namespace {
        if force {
            netns::delete(name, true)?;
        } else {
            netns::check_devices(name)?;
        }
    }
    build::take_down(jail, &mut build::quietly, waits)?;
    // Even if somebody else made the namespace: its name is to go.
    match netns::state(name)? {
        State::Namespace => netns::delete(name, force),
        _ => Ok(()),
    }
}

/// Removes what a process left that was killed before it had written a record: there is no more of it. Waits for one
/// that is still at work, even if its caller is gone. Returns whether there is a network of this name then.
pub fn sweep(name: &OsStr) -> bool {
    let Ok(jail) = config::jail_name(name) else {
        return false;
    };
    if matches!(file::lstat(record::DIR.as_ref()), Ok(None)) {
        return false;
    }
    let work = |waits: Waits<'_>| {
        if let Ok(_lock) = Lock::take(waits)
            && let (Ok(None), Ok(Life::Down)) = (Record::read(&jail), Life::of(&jail))
        {
            let (state, mut machine) = (Plan::state(&jail, Vec::new()), Machine::new(&jail));
            engine::teardown(&state, &mut machine, |_| false, &mut build::quietly)?;
        }
        Ok(())
    };
    // Its error is dropped: the caller reports why the name could not be deleted.
    apart(&format!("kak netns delete {jail}"), work).ok();
    is_ours(name).unwrap_or(false)
}
