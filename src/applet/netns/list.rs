//! `list` and `list-id`: names and numbers of namespaces. A number (nsid) is only valid in the namespace that assigned
//! it, so both look from the namespace that they are called in.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use rustix::io::Errno;

use super::answer;
use super::json::{Array, Value};
use super::options::{Options, c_integer, hard};
use crate::applet::print_bytes;
use crate::error::{Result, What as _, Why, complain};
use crate::netns::{self, State};
use crate::nl::nsid::Numbers;
use crate::nl::{self, nsid};
use crate::text;

/// `list`.
pub fn list(options: &Options, _: &[OsString]) -> Result<u8> {
    // Whether the directory is missing or cannot be read, there is nothing to list.
    let Ok(Some(names)) = netns::names() else {
        if options.json {
            print_bytes(&Array::new(options.pretty).end());
        }
        return Ok(0);
    };
    let mut socket = socket()?;
    // Where no namespace has a number, none has to be looked up.
    let numbered = !nsid::all(&mut socket, None).map_err(answer)?.is_empty();
    let mut text = Vec::new();
    let mut json = Array::new(options.pretty);
    for name in &names {
        let number = look(name, numbered.then_some(&mut socket))?;
        if options.json {
            let name = ("name", Value::Name(name));
            json.object(&[name, ("id", Value::number(number))]);
        } else {
            text.extend(name.as_bytes());
            if let Some(number) = number {
                write!(text, " (id: {number})").ok();
            }
            text.push(b'\n');
        }
    }
    print_bytes(&if options.json { json.end() } else { text });
    Ok(0)
}

/// A name's number, looked up if there is a `socket`. A name that stands for no network namespace is reported.
fn look(name: &OsStr, socket: Option<&mut nl::Socket>) -> Result<Option<i32>> {
    let bad = match socket {
        None => !netns::has_namespace(name).unwrap_or(false),
        Some(socket) => match netns::open(name) {
            Ok(namespace) => match nsid::of(socket, namespace.as_fd()) {
                Ok(number) => return Ok(number),
                Err(Why::Kernel(Errno::INVAL, _)) => true,
                Err(why) => return Err(answer(why)),
            },
            Err(_) => true,
        },
    };
    if bad {
        let what = match netns::state(name) {
            // It was removed after the directory was read.
            Ok(State::Absent) => return Ok(None),
            Ok(State::Ghost) => "is stale, its namespace is gone",
            _ => "is no network namespace",
        };
        complain(&format!(
            "Error: Peer netns reference is invalid: \"{}\" {what}.\n",
            text::shown(name)
        ));
    }
    Ok(None)
}

/// A socket to ask for numbers.
pub fn socket() -> Result<nl::Socket> {
    nl::Socket::route().what(|| "Cannot open netlink socket")
}

/// `list-id [target-nsid N] [nsid N]`.
pub fn list_id(options: &Options, words: &[OsString]) -> Result<u8> {
    let (mut target, mut number) = (None, None);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let (slot, key) = match word.to_str() {
            Some("target-nsid") => (&mut target, "target-nsid"),
            Some("nsid") => (&mut number, "nsid"),
            _ => return Err(hard(super::USAGE.trim_end())),
        };
        let Some(value) = rest.next() else {
            return Err(hard("Command line is not complete. Try option \"help\""));
        };
        if slot.is_some() {
            let text = format!("Error: duplicate \"{key}\": \"{key}\" is the second value.");
            return Err(hard(text));
        }
        let wrong = |why| {
            let value = text::shown(value);
            hard(format!(
                "Error: argument \"{value}\" is wrong: \"{key}\" value {why}"
            ))
        };
        let parsed = c_integer(value).ok_or_else(|| wrong("is invalid"))?;
        if parsed < 0 {
            return Err(wrong("should be >= 0"));
        }
        *slot = Some(parsed);
    }
    let mut socket = socket()?;
    let rows = match number {
        Some(number) => vec![nsid::find(&mut socket, number, target).map_err(answer)?],
        None => match nsid::all(&mut socket, target) {
            Ok(rows) => rows,
            Err(why) => {
                complain(&answer(why).lines(""));
                complain("Dump terminated\n");
                if options.json {
                    print_bytes(&Array::new(options.pretty).end());
                }
                return Ok(1);
            }
        },
    };
    let names = if rows.is_empty() {
        Vec::new()
    } else {
        names(&mut socket)
    };
    print_bytes(&shown(options, target.is_some(), &rows, &names));
    Ok(0)
}

/// The numbers as text.
fn shown(
    options: &Options,
    elsewhere: bool,
    rows: &[Numbers],
    names: &[(i32, OsString)],
) -> Vec<u8> {
    let mut text = Vec::new();
    let mut json = Array::new(options.pretty);
    for row in rows {
        let ours = if elsewhere { row.current } else { row.target };
        let name = names
            .iter()
            .find(|(number, _)| ours == Some(*number))
            .map(|(_, name)| name);
        if options.json {
            let current = if elsewhere { row.current } else { None };
            json.object(&[
                ("nsid", Value::number(row.target)),
                ("current-nsid", Value::number(current)),
                ("name", name.map_or(Value::None, |name| Value::Name(name))),
            ]);
            continue;
        }
        let mut word = |key: &str, number: Option<i32>| match number {
            Some(number) => write!(text, "{key} {number} ").ok(),
            None => write!(text, "{key} unassigned ").ok(),
        };
        word("nsid", row.target);
        if elsewhere {
            word("current-nsid", row.current);
        }
        if let Some(name) = name {
            text.extend(b"(iproute2 netns name: ");
            text.extend(name.as_bytes());
            text.push(b')');
        }
        text.push(b'\n');
    }
    if options.json { json.end() } else { text }
}

/// The numbers that have a name, in the order of the directory: of several names of one number, the first counts.
fn names(socket: &mut nl::Socket) -> Vec<(i32, OsString)> {
    let mut names = Vec::new();
    for name in netns::names().ok().flatten().unwrap_or_default() {
        let number = netns::open(&name)
            .ok()
            .and_then(|namespace| nsid::of(socket, namespace.as_fd()).ok()?);
        names.extend(number.map(|number| (number, name)));
    }
    names
}
