//! `kak netns`, `netns-VERB` and `ip netns`: named network namespaces on the command line. What a name is, and how it
//! is made and removed, is in [`crate::netns`].
//!
//! Whatever a script could notice is as with ip: shortened verbs, surplus words, texts, exit statuses. The status is 1
//! for an ordinary failure, 2 for a refusal by netlink, and 255 for wrong usage.

pub mod add;
pub mod batch;
mod exec;
mod json;
mod list;
pub mod options;

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Mode, OFlags, inotify};
use rustix::io::Errno;

use super::{Applet, Call, print, print_bytes};
use crate::error::{Error, Result, What as _, Why, complain};
use crate::jail::network;
use crate::netns::{self, Identity, RunDir};
use crate::nl::nsid;
use crate::sys;
use crate::text::shown;
use batch::Ended;
use options::{Front, Options, c_integer, hard};

/// `kak netns`.
pub const APPLET: Applet = Applet {
    name: "netns",
    links: &[
        "netns-list",
        "netns-add",
        "netns-attach",
        "netns-set",
        "netns-delete",
        "netns-identify",
        "netns-pids",
        "netns-exec",
        "netns-monitor",
        "netns-list-id",
    ],
    own_words: false,
    help: "\
usage: kak netns [OPTION]... [list]
       kak netns add NAME... [--uplink [--subnet CIDR] [--dns ADDR]... [--ipv6]
                             [--publish [ADDR:]PORT[:INNERPORT][/udp]]...]
       kak netns attach NAME PID
       kak netns set NAME NUMBER|auto
       kak netns [-all] [-force] delete [NAME]...
       kak netns identify [PID]
       kak netns pids NAME
       kak netns [-all] exec [NAME] CMD [ARG]...
       kak netns monitor
       kak netns list-id [target-nsid NUMBER] [nsid NUMBER]

Make, list, enter and delete network namespaces, like 'ip netns'.

A verb can be shortened as for ip; 'netns-add', 'netns-exec' and so on do the
same. A namespace is a file in /run/netns; 'ip netns' and kak see each other's.
A name that lost its namespace is reported by list, and replaced by add.
Options may stand before the verb or after it; '--' ends them.

  -all             every namespace (exec, delete)
  -json, -pretty   print list and list-id as JSON, and indent that
  -n, -netns NAME  do it in this namespace
  -batch FILE      do what each line of FILE says; '-' is standard input
  -force           go on with a batch after an error; delete a namespace that
                   has a physical device
  --uplink         give it a network: lo is up, eth0 is its way out through
                   this machine, under whose address it appears (NAT), and it
                   has resolvers; a second add makes what is missing of that,
                   and delete removes all of it at once
  --subnet CIDR    its addresses [the first private /24 that is free]
  --dns ADDR       its resolvers (repeatable) [the outer ones]
  --ipv6           give it IPv6 as well, as for a jail
  --publish PORTS  forward a port of the machine to the namespace (repeatable);
                   without ADDR at every IPv4 address of the machine, 127.0.0.1
                   too; with --ipv6 at its IPv6 addresses as well
  --help           show this

exec mounts a /sys of the namespace over the old one, and the files in
/etc/netns/NAME over those in /etc, and sets KAK_NETNS=NAME. Nothing else
changes.

Exit status: 0 done, 1 failed, 2 refused by the kernel, 255 wrong usage; exec:
CMD's own, 127 not found, 126 not executable, 255 no such namespace.
",
    run,
};

/// What `ip netns help` prints.
const USAGE: &str = "\
Usage:\tip netns list
\tip netns add NAME
\tip netns attach NAME PID
\tip netns set NAME NETNSID
\tip [-all] netns delete [NAME]
\tip netns identify [PID]
\tip netns pids NAME
\tip [-all] netns exec [NAME] cmd ...
\tip netns monitor
\tip netns list-id [target-nsid POSITIVE-INT] [nsid POSITIVE-INT]
NETNSID := auto | POSITIVE-INT
";

/// What a verb does with the words after it.
type Verb = fn(&Options, &[OsString]) -> Result<u8>;

/// The verbs. The order decides what a shortened verb means.
const VERBS: &[(&str, Verb)] = &[
    ("list", list::list),
    ("show", list::list),
    ("lst", list::list),
    ("list-id", list::list_id),
    ("help", help),
    ("add", add),
    ("set", set),
    ("delete", delete),
    ("identify", identify),
    ("pids", pids),
    ("exec", exec::exec),
    ("monitor", monitor),
    ("attach", attach),
];

/// `kak netns`: options may stand before the verb and after it.
fn run(call: Call) -> Result<u8> {
    let mut words = call.args;
    let mut options = Options::new(Front::Kak);
    match options.take(&mut words) {
        Ok(None) => {}
        other => return finish(other.map(|status| status.unwrap_or(0))),
    }
    finish(start(&options, words, dispatch))
}

/// Runs one command, or a batch of them.
pub fn start(
    options: &Options,
    words: Vec<OsString>,
    act: impl Fn(&Options, Vec<OsString>) -> Result<u8>,
) -> Result<u8> {
    let Some(file) = &options.batch else {
        return act(options, words);
    };
    batch::run(options, file, |options, words| {
        let result = act(options, words);
        let over = matches!(&result, Err(error) if error.code() == 255 || error.is_told());
        match finish(result) {
            Ok(status) if !over => Ended::Status(status),
            other => Ended::Over(other.unwrap_or(1)),
        }
    })
}

/// Reports an error as ip does, without the program's name before it; returns the exit status.
pub fn finish(result: Result<u8>) -> Result<u8> {
    match result {
        Err(error) if !error.asks_help() => {
            complain(&error.lines(""));
            Ok(if error.code() == 0 { 1 } else { error.code() })
        }
        other => other,
    }
}

/// Does what the words after `netns` say.
pub fn dispatch(options: &Options, words: Vec<OsString>) -> Result<u8> {
    let mut words = words.into_iter();
    let Some(verb) = words.next() else {
        return list::list(options, &[]);
    };
    let mut words: Vec<OsString> = words.collect();
    // ip checks the name before it looks at the verb.
    if options.front == Front::Ip
        && !options.all
        && let Some(word) = words.first()
    {
        netns::check(word)?;
    }
    let found = VERBS
        .iter()
        .find(|(name, _)| !verb.is_empty() && name.as_bytes().starts_with(verb.as_bytes()));
    let Some((name, act)) = found else {
        let text = format!(
            "Command \"{}\" is unknown, try \"ip netns help\".",
            shown(verb)
        );
        return Err(hard(text));
    };
    let mut options = options.clone();
    if options.front == Front::Kak
        && *name != "add"
        && let Some(status) = options.take(&mut words)?
    {
        return Ok(status);
    }
    // Whatever the verb, its first word is checked as a name, except where it is a command (`-all exec`).
    if let Some(word) = words.first()
        && !(options.all && *name == "exec")
    {
        netns::check(word)?;
    }
    act(&options, &words)
}

/// `help`.
fn help(options: &Options, _: &[OsString]) -> Result<u8> {
    Err(match options.front {
        Front::Kak => Error::help(),
        Front::Ip => hard(USAGE.trim_end()),
    })
}

/// The first word, which is a name.
fn name(words: &[OsString]) -> Result<&OsStr> {
    let first = words.first().map(OsString::as_os_str);
    first.ok_or_else(|| Error::text("", "No netns name specified"))
}

/// The names that a verb is about. ip ignores all words but the first, and scripts may have more.
fn names<'a>(options: &Options, words: &'a [OsString]) -> Result<&'a [OsString]> {
    name(words)?;
    let count = match options.front {
        Front::Ip => 1,
        Front::Kak => words.len(),
    };
    Ok(words.get(..count).unwrap_or(words))
}

/// Calls `act` for every name; the error has all that went wrong.
fn each(names: &[OsString], act: impl Fn(&OsStr) -> Result<()>) -> Result<u8> {
    names.iter().try_for_each(|name| netns::check(name))?;
    Error::all(names.iter().filter_map(|name| act(name).err()).collect()).map(|()| 0)
}

/// The names in the run directory.
fn directory(names: rustix::io::Result<Option<Vec<OsString>>>) -> Result<Option<Vec<OsString>>> {
    names.what(|| format!("Failed to open directory {}", netns::DIR))
}

/// A refusal by netlink, as ip words it.
fn answer(why: Why) -> Error {
    let text = match why {
        Why::Kernel(_, text) if !text.is_empty() => {
            let stop = if text.ends_with('.') { "" } else { "." };
            return Error::text("", format!("Error: {text}{stop}")).with_status(2);
        }
        Why::Kernel(errno, _) => {
            return Err::<(), _>(errno)
                .what(|| "RTNETLINK answers")
                .err()
                .map_or_else(Error::help, |error| error.with_status(2));
        }
        other => other,
    };
    Error::text("", text.to_string())
}

/// `add NAME...`, in `kak netns` with its further options.
fn add(options: &Options, words: &[OsString]) -> Result<u8> {
    if options.front == Front::Kak {
        return add::run(words);
    }
    add::plain(names(options, words)?)
}

/// `attach NAME PID`.
fn attach(_: &Options, words: &[OsString]) -> Result<u8> {
    let [name, pid, ..] = words else {
        return Err(Error::text("", "No netns name and PID specified"));
    };
    let number = c_integer(pid).filter(|number| *number != 0);
    let number = number.ok_or_else(|| Error::text("", format!("Invalid PID: {}", shown(pid))))?;
    netns::attach(&RunDir::prepare()?, name, number)?;
    Ok(0)
}

/// `set NAME NUMBER|auto`.
fn set(_: &Options, words: &[OsString]) -> Result<u8> {
    let name = name(words)?;
    let Some(word) = words.get(1) else {
        return Err(Error::text("", "No nsid specified"));
    };
    let wrong = |why: &str| {
        let word = shown(word);
        hard(format!("Error: argument \"{word}\" is wrong: {why}"))
    };
    let number = if word == "auto" {
        -1
    } else {
        let number = c_integer(word).ok_or_else(|| wrong("Invalid \"netnsid\" value"))?;
        if number < 0 {
            return Err(wrong("\"netnsid\" value should be >= 0"));
        }
        number
    };
    let namespace = netns::open(name)?;
    nsid::set(&mut list::socket()?, namespace.as_fd(), number).map_err(answer)?;
    Ok(0)
}

/// `delete [NAME]...`.
fn delete(options: &Options, words: &[OsString]) -> Result<u8> {
    if !options.all {
        return each(names(options, words)?, |name| delete_one(options, name));
    }
    if let Some(name) = words.first() {
        return Err(hard(format!(
            "-all delete takes no name: it would delete all, not only \"{}\"",
            shown(name)
        )));
    }
    let all = directory(netns::names())?.unwrap_or_default();
    each(&all, |name| delete_one(options, name))
}

/// Deletes a namespace, with its uplink if kak gave it one.
fn delete_one(options: &Options, name: &OsStr) -> Result<()> {
    if network::is_ours(name)? {
        return network::unmake(name, options.force);
    }
    let deleted = netns::delete(name, options.force);
    if deleted.is_err() && network::sweep(name) {
        // It was just being made; that has been waited for.
        return network::unmake(name, options.force);
    }
    deleted
}

/// `identify [PID]`.
fn identify(_: &Options, words: &[OsString]) -> Result<u8> {
    let pid = match words {
        [] => OsStr::new("self"),
        [pid] if !pid.is_empty() && pid.as_bytes().iter().all(u8::is_ascii_digit) => pid,
        [pid] => {
            let text = format!("Specified string '{}' is not a pid", shown(pid));
            return Err(Error::text("", text));
        }
        _ => return Err(Error::text("", "extra arguments specified")),
    };
    let path = format!("/proc/{}/ns/net", shown(pid));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let wanted = rustix::fs::open(path, flags, Mode::empty())
        .and_then(|namespace| Identity::of(namespace.as_fd()))
        .what(|| "Cannot open network namespace")?;
    let dir = match rustix::fs::open(netns::DIR, flags | OFlags::DIRECTORY, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => {
            print("\n");
            return Ok(0);
        }
        Err(errno) => {
            // ip prints no blank there.
            let text = format!(
                "Failed to open directory {}:{}",
                netns::DIR,
                Error::reason(errno)
            );
            return Err(Error::text("", text));
        }
    };
    let mut names = directory(netns::names())?.unwrap_or_default();
    names.retain(|name| Identity::at(dir.as_fd(), name.as_bytes()) == Ok(wanted));
    let mut text = names.pop().unwrap_or_default().into_encoded_bytes();
    text.push(b'\n');
    print_bytes(&text);
    Ok(0)
}

/// `pids NAME`.
fn pids(_: &Options, words: &[OsString]) -> Result<u8> {
    let name = name(words)?;
    if words.len() > 1 {
        return Err(Error::text("", "extra arguments specified"));
    }
    let what = || "Cannot open network namespace";
    let wanted = match netns::open(name) {
        Ok(namespace) => Identity::of(namespace.as_fd()).what(what)?,
        Err(error) => return Err(error.errno().unwrap_or(Errno::IO)).what(what),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty())
        .what(|| "Failed to open directory /proc/")?;
    let mut text = Vec::new();
    for pid in sys::entries_of(&proc).what(|| "ls /proc")? {
        let pid = pid.as_bytes();
        if pid.iter().all(u8::is_ascii_digit)
            && Identity::at(proc.as_fd(), &[pid, b"/ns/net"].concat()) == Ok(wanted)
        {
            text.extend(pid);
            text.push(b'\n');
        }
    }
    print_bytes(&text);
    Ok(0)
}

/// `monitor`: prints names as they come and go, each at once, until a signal ends it.
fn monitor(_: &Options, _: &[OsString]) -> Result<u8> {
    match rustix::fs::mkdir(netns::DIR, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).what(|| format!("mkdir {} failed", netns::DIR)),
    }
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).what(|| "inotify_init failed")?;
    let kinds = inotify::WatchFlags::CREATE | inotify::WatchFlags::DELETE;
    inotify::add_watch(&watch, netns::DIR, kinds).what(|| "inotify_add_watch failed")?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    loop {
        let event = match events.next() {
            Err(Errno::INTR) => continue,
            other => other.what(|| "read failed")?,
        };
        let word = if event.events().contains(inotify::ReadFlags::CREATE) {
            "add "
        } else if event.events().contains(inotify::ReadFlags::DELETE) {
            "delete "
        } else {
            continue;
        };
        let name = event
            .file_name()
            .map(std::ffi::CStr::to_bytes)
            .unwrap_or_default();
        print_bytes(&[word.as_bytes(), name, b"\n"].concat());
    }
}
