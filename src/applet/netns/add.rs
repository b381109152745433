//! `add`: new namespaces; several in one call, and on request with an uplink.

use std::ffi::OsString;

use lexopt::Arg::{Long, Value};

use super::{each, hard, name};
use crate::applet::unexpected;
use crate::config::{self, Config, Publish, Subnet};
use crate::error::{Error, Result, complain};
use crate::jail::network;
use crate::netns::{self, RunDir};
use crate::sys;

/// What is wanted of an uplink.
#[derive(Default, PartialEq)]
struct Uplink {
    /// `--subnet`.
    subnet: Option<Subnet>,
    /// `--dns`.
    dns: Vec<std::net::IpAddr>,
    /// `--publish`.
    publish: Vec<Publish>,
}

/// `add NAME... [--uplink [OPTION]...]`. Every name is checked before one is given.
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
    if names.len() > 1 && (uplink.subnet.is_some() || !uplink.publish.is_empty()) {
        return Err(hard("--subnet and --publish are for one namespace"));
    }
    // Nothing else of the caller's is for the relay that may stay.
    sys::close_from(3);
    each(&names, |name| {
        let jail = config::jail_name(name).map_err(|error| error.with_status(255))?;
        let config = Config {
            bare: true,
            subnet: uplink.subnet,
            dns: uplink.dns.clone(),
            publish: uplink.publish.clone(),
            ..Config::new(&jail)
        };
        network::make(config, &mut |text| {
            complain(&format!("kak: netns: {text}\n"));
        })
    })
}

/// The names, and what is said of an uplink.
fn parse(words: &[OsString]) -> Result<(Vec<OsString>, Option<Uplink>)> {
    let mut parser = lexopt::Parser::from_args(words);
    let (mut names, mut wanted, mut uplink) = (Vec::new(), false, Uplink::default());
    while let Some(arg) = parser.next()? {
        match arg {
            Value(name) => names.push(name),
            Long("uplink") => wanted = true,
            Long("subnet") => uplink.subnet = Some(Subnet::parse(&parser.value()?)?),
            Long("dns") => uplink.dns.push(config::address("--dns", &parser.value()?)?),
            Long("publish") => uplink.publish.push(Publish::parse(&parser.value()?)?),
            other => return Err(unexpected(other)),
        }
    }
    if !wanted && uplink != Uplink::default() {
        return Err(Error::usage(
            "--subnet, --dns and --publish go with --uplink",
        ));
    }
    Ok((names, wanted.then_some(uplink)))
}

/// New namespaces without anything.
pub fn plain(names: &[OsString]) -> Result<u8> {
    let dir = RunDir::prepare()?;
    each(names, |name| netns::add(&dir, name))
}
