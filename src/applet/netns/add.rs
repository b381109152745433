//! `add`: new namespaces; several in one call, and on request with an uplink.

use std::ffi::OsString;

use lexopt::Arg::{Long, Value};
use rustix::process::{Pid, Signal, getpid, getppid};

use super::{each, finish, hard, name};
use crate::applet::unexpected;
use crate::config::{self, Config, DEFAULT_JAIL, Takes};
use crate::error::{Error, Result, What as _, complain};
use crate::jail::network;
use crate::jail::process::{Parent, wait_status};
use crate::netns::{self, Maker, RunDir};
use crate::sys;

/// The options that go with `--uplink`; they mean the same as for a jail.
const UPLINK: [&str; 4] = ["subnet", "dns", "ipv6", "publish"];

/// `add NAME... [--uplink [OPTION]...]`. Every name is checked before the first namespace is made.
pub fn run(words: &[OsString]) -> Result<u8> {
    let (names, uplink) = parse(words).map_err(|error| {
        if error.asks_help() {
            error
        } else {
            error.with_status(255)
        }
    })?;
    name(&names)?;
    names.iter().try_for_each(|name| netns::check(name))?;
    let Some(uplink) = uplink else {
        return plain(&names);
    };
    // The options are checked before the first namespace is made.
    let mut plain = Config::new(DEFAULT_JAIL);
    for (option, value) in &uplink {
        plain
            .set(option, value)
            .map_err(|error| error.with_status(255))?;
    }
    plain
        .check_published()
        .map_err(|error| error.with_status(255))?;
    if names.len() > 1 && (plain.subnet.is_some() || !plain.publish.is_empty()) {
        return Err(hard("--subnet and --publish are for one namespace"));
    }
    for name in &names {
        config::jail_name(name).map_err(|error| error.with_status(255))?;
    }
    // The relay that may stay must not inherit the caller's other file descriptors.
    sys::close_from(3);
    each(&names, |name| {
        let jail = config::jail_name(name).map_err(|error| error.with_status(255))?;
        let own = Config::new(&jail);
        let config = Config {
            bare: true,
            jail: own.jail,
            root: own.root,
            ..plain.clone()
        };
        network::make(config, &mut |text| {
            complain(&format!("kak: netns: {text}\n"));
        })
    })
}

/// Options and their values.
pub type Said = Vec<(String, OsString)>;

/// The names, and the options of an uplink if one is wanted.
pub fn parse(words: &[OsString]) -> Result<(Vec<OsString>, Option<Said>)> {
    let mut parser = lexopt::Parser::from_args(words);
    let (mut names, mut wanted, mut said) = (Vec::new(), false, Said::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Value(name) => names.push(name),
            Long("uplink") => wanted = true,
            Long(option) if UPLINK.contains(&option) => {
                let option = option.to_owned();
                let value = match config::takes(&option) {
                    Some(Takes::Value) => parser.value()?,
                    _ => OsString::new(),
                };
                said.push((option, value));
            }
            other => return Err(unexpected(other)),
        }
    }
    if !wanted && !said.is_empty() {
        return Err(Error::usage(
            "--subnet, --dns, --ipv6 and --publish need --uplink",
        ));
    }
    Ok((names, wanted.then_some(said)))
}

/// From this many names on, two processes share the work.
const MANY: usize = 32;

/// Makes namespaces without an uplink.
pub fn plain(names: &[OsString]) -> Result<u8> {
    RunDir::with(|dir| {
        if names.len() < MANY {
            each(names, |name| netns::add(dir, name, Maker::Child))
        } else {
            share(dir, names)
        }
    })
}

/// The same by two processes. The kernel makes namespaces under several locks, so that one process can hold one while
/// the other holds another; and a process that exists only for this needs no child for each, which costs a third more.
fn share(dir: &RunDir, names: &[OsString]) -> Result<u8> {
    names.iter().try_for_each(|name| netns::check(name))?;
    let (first, rest) = names.split_at(names.len() / 2);
    let _parent = Parent::become_one();
    let begun = [first, rest].map(|names| begin(dir, names));
    // Both are waited for before an error is returned: neither may go on working after the command has ended.
    let [one, other] = begun.map(|pid| wait_status(pid?, "kak netns add"));
    match one?.max(other?) {
        0 => Ok(0),
        status => Err(Error::told(status)),
    }
}

/// Starts a process that makes these namespaces and reports errors; it is killed when this one ends.
fn begin(dir: &RunDir, names: &[OsString]) -> Result<Pid> {
    let us = getpid();
    if let Some(pid) = sys::fork().what(|| "fork")? {
        return Ok(pid);
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).ok();
    // The kernel sends no signal if the parent had ended before that call.
    if getppid() != Some(us) {
        sys::exit_now(1);
    }
    let status = finish(each(names, |name| netns::add(dir, name, Maker::Us)));
    sys::exit_now(status.unwrap_or(1))
}
