//! A jail's network without the jail: a named network namespace with an uplink, as `kak netns add --uplink` makes it. It
//! has a record, a subnet and a table of its own like any jail, made and taken back by the same steps, but no root and no
//! init. Where its resolvers need a relay, that one holds the lock that init would hold, by which it is found and ended.
//! As with a jail, who is at work on one is a process that no terminal can stop ([`apart`]).

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

/// Makes one, or what is missing of one; `note` hears what the machine does not allow. What does not work is taken back.
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
                format!("choose another name, or end it by 'kak teardown -n {name}'"),
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
                // Its namespace went without it: with a restart, or by somebody else's hand.
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
        // Somebody has made it meanwhile: who gives a name to nothing but a namespace does not wait for the lock.
        return Err(exists(&name));
    }
    let plan = Plan::new(&record);
    plan.notes.iter().for_each(|text| note(text));
    let made = engine::setup(&plan.outer, &mut machine, &mut build::quietly)?;
    dns::start_alone(&name).map_err(|error| {
        // It may be there all the same, and only have told in vain.
        let ended = super::end(&name).err();
        error.and(ended).and(made.take_back(&mut machine))
    })
}

/// Makes what is missing of one that is there, as 'kak setup' does for a jail; if nothing is, it is there already. One
/// that was wanted with other options stays as it is: `differs` says with which.
fn mend(record: &Record, differs: Option<String>, note: &mut dyn FnMut(&str)) -> Result<()> {
    let name = record.config.jail.as_str();
    if let Some(how) = differs {
        return Err(Error::cure(
            format!("kak netns add {name} --uplink"),
            format!("File exists, with other options: {how}"),
            format!("see 'kak status -n {name}'; 'kak netns delete {name}' takes it away"),
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

/// That there is a network of this name.
fn exists(name: &str) -> Error {
    Error::text(
        format!("Cannot create namespace file \"{}/{name}\"", netns::DIR),
        "File exists",
    )
}

/// Whether a name is one that [`make`] made, whatever is left of it. Where that cannot be known, nothing may be taken away
/// either: without its name nobody would know of the rest.
pub fn is_ours(name: &OsStr) -> Result<bool> {
    let Ok(name) = config::jail_name(name) else {
        return Ok(false);
    };
    match file::lstat(&record::dir(&name).join("record")) {
        Ok(None) => return Ok(false),
        Ok(Some(_)) => {}
        // Who may not look there has not made it.
        Err(error) if error.errno() == Some(Errno::ACCESS) => return Ok(false),
        Err(error) => return Err(error),
    }
    is_bare(&name)
}

/// The same by the record that is there. Apart, because a record's room on the stack is more than a page, and most
/// names have none.
#[inline(never)]
fn is_bare(name: &str) -> Result<bool> {
    match Record::read(name) {
        Ok(record) => Ok(record.is_some_and(|record| record.config.bare)),
        Err(error) if error.errno().is_some() => Err(error),
        // What nobody understands nobody can go by.
        Err(_) => Ok(false),
    }
}

/// Takes everything of it back; the name too.
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
    // Whoever made the namespace: it is the name that shall go.
    match netns::state(name)? {
        State::Namespace => netns::delete(name, force),
        _ => Ok(()),
    }
}

/// Takes away what somebody left who was killed before he had written down what for: there is no more of it. Who is at
/// work is waited for, be it that whoever asked him is gone; whether there is a network of this name then.
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
    // It fails for somebody else's reason, which is told.
    apart(&format!("kak netns delete {jail}"), work).ok();
    is_ours(name).unwrap_or(false)
}
