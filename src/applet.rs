//! The table of applets, and the one dispatch on argv[0], argv[1] and `netns-VERB`; also the help texts and the links.
//!
//! An applet is a name under which the binary can be called. Each is declared beside its code as one `const APPLET`;
//! nothing here knows what an applet does.

mod dns;
mod doctor;
mod init;
mod install;
mod ip;
mod kill;
pub mod netns;
pub mod nssh;
pub mod setup;
mod status;
mod teardown;

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::error::{Error, Result, complain};
use crate::jail::guest::Guest;
use crate::jail::process::fill_standard_descriptors;
use crate::jail::shell::Called;
use crate::text;

/// How an applet was called.
pub struct Call {
    /// argv[0], as far as it matters to a shell.
    pub called: Called,
    /// Called by its own name (a link): all words that follow are the applet's, none `kak`'s.
    pub own_name: bool,
    /// The words after the applet's name.
    pub args: Vec<OsString>,
    /// The caller, if this is the set-user-ID copy, run by a user who lacks its rights.
    pub guest: Option<Guest>,
}

/// One applet.
pub struct Applet {
    /// What users type.
    pub name: &'static str,
    /// The link that `--install` makes; none for an applet that is not for people or that would hide a system tool.
    pub links: &'static [&'static str],
    /// Whether all words are the applet's own, `--help` too, when it is called by its own name.
    pub own_words: bool,
    /// Its help: a synopsis, and after a blank line the sentence that `kak --help` shows.
    pub help: &'static str,
    /// Runs the applet; returns the exit status of the process.
    pub run: fn(Call) -> Result<u8>,
}

/// Every applet, in the order of `kak --help`.
const TABLE: &[&Applet] = &[
    &setup::APPLET,
    &teardown::APPLET,
    &status::APPLET,
    &nssh::APPLET,
    &kill::APPLET,
    &netns::APPLET,
    &doctor::APPLET,
    &ip::APPLET,
    &init::APPLET,
    &dns::APPLET,
];

/// What `kak --help` says above and below the list of applets.
const HELP: &str = "\
usage: kak APPLET [ARG]...
       kak --list | --install [-s] DIR | --help | --version
       kak --install --setuid-nssh PATH

User jails and network namespaces from one static binary. --install puts a link
for every applet into DIR, a hard one or with -s a symbolic one; with
--setuid-nssh it makes the copy that lets users other than root join a jail.
";

/// Whether standard output could not be written to.
static UNPRINTED: AtomicBool = AtomicBool::new(false);

/// Prints on standard output. EPIPE is ignored: the reader went away. Any other error is reported once, and turns the
/// exit status 0 into 1.
pub fn print(text: &str) {
    print_bytes(&text::bytes(text));
}

/// [`print`] for bytes that need not be text.
pub fn print_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
        && !UNPRINTED.swap(true, Ordering::Relaxed)
    {
        let why = Error::reason(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        complain(&format!("kak: standard output: {why}\n"));
    }
}

/// The error for an option that the applet does not have; for `--help` (and `-h`) the request for its help.
pub fn unexpected(arg: lexopt::Arg<'_>) -> Error {
    match arg {
        lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => Error::help(),
        other => other.unexpected().into(),
    }
}

/// Runs what `argv` names; returns the exit status.
pub fn main(argv: Vec<OsString>) -> u8 {
    fill_standard_descriptors();
    match dispatch(argv) {
        0 => u8::from(UNPRINTED.load(Ordering::Relaxed)),
        status => status,
    }
}

/// See [`main`].
fn dispatch(mut argv: Vec<OsString>) -> u8 {
    // Before anything else: the caller of a set-user-ID program chooses all of its arguments, argv[0] too.
    let guest = match Guest::of_process() {
        Ok(guest) => guest,
        Err(error) => {
            complain(&error.lines("kak"));
            return 125;
        }
    };
    // Since Linux 5.18 execve(2) turns an empty argv into one empty word.
    if argv.iter().all(|word| word.is_empty()) {
        complain("kak: called without a name\n");
        return 125;
    }
    let (called, base) = Called::by(&argv.remove(0));
    if guest.is_some() && base != nssh::APPLET.name {
        complain("kak: a set-user-ID copy runs only under the name nssh\n");
        return 125;
    }
    if let Some((applet, verb)) = find(&base) {
        argv.splice(0..0, verb);
        return run(
            applet,
            Call {
                called,
                own_name: true,
                args: argv,
                guest,
            },
        );
    }
    let Some(word) = argv.first().cloned() else {
        print(&overview());
        return 0;
    };
    if let Some((applet, verb)) = find(&word) {
        argv.splice(0..1, verb);
        return run(
            applet,
            Call {
                called,
                own_name: false,
                args: argv,
                guest: None,
            },
        );
    }
    let result = match word.to_str() {
        Some("--help" | "-h" | "help") => help(argv.get(1)),
        Some("--install") if argv.get(1).is_some_and(|word| word == "--help") => help(None),
        Some("--version" | "-V") => {
            print(concat!("kak ", env!("CARGO_PKG_VERSION"), "\n"));
            Ok(())
        }
        Some("--list") => {
            print(
                &link_names()
                    .map(|name| format!("{name}\n"))
                    .collect::<String>(),
            );
            Ok(())
        }
        Some("--install") => install::install(argv.get(1..).unwrap_or_default(), link_names()),
        _ => Err(unknown(&word)),
    };
    result.map_or_else(|error| report(&error, "kak"), |()| 0)
}

/// Runs one applet and reports its error; returns the exit status.
fn run(applet: &Applet, call: Call) -> u8 {
    let asks = !(call.own_name && applet.own_words)
        && call.args.first().is_some_and(|word| word == "--help");
    if asks {
        print(applet.help);
        return 0;
    }
    match (applet.run)(call) {
        Ok(status) => status,
        Err(error) if error.asks_help() => {
            print(applet.help);
            0
        }
        Err(error) => {
            let status = report(&error, &format!("kak: {}", applet.name));
            if status == 2 {
                complain(&format!("kak: {0}: try 'kak {0} --help'\n", applet.name));
            }
            status
        }
    }
}

/// Prints an error on standard error; returns its exit status.
fn report(error: &Error, prefix: &str) -> u8 {
    complain(&error.lines(prefix));
    error.code()
}

/// Finds an applet by its name, also as `kak-NAME`; for `netns-VERB` the verb too, which becomes `netns`'s first word.
fn find(name: &OsStr) -> Option<(&'static Applet, Option<OsString>)> {
    let name = name.to_str()?;
    let name = name.strip_prefix("kak-").unwrap_or(name);
    if name == "ipnetns" {
        return Some((&ip::IPNETNS, None));
    }
    let (name, verb) = match name.split_once('-') {
        Some(("netns", verb)) if !verb.is_empty() => ("netns", Some(verb.into())),
        _ => (name, None),
    };
    TABLE
        .iter()
        .find(|applet| applet.name == name)
        .map(|applet| (*applet, verb))
}

/// The error for a word that names no applet, with the nearest name.
fn unknown(word: &OsStr) -> Error {
    let word = text::shown(word);
    let nearest = TABLE
        .iter()
        .map(|applet| (distance(&word, applet.name), applet.name))
        .min()
        .filter(|(far, name)| *far <= name.len().div_ceil(2));
    Error::usage(match nearest {
        Some((_, name)) => format!("no applet '{word}'; is it '{name}'?"),
        None => format!("no applet '{word}'; see 'kak --help'"),
    })
}

/// How many bytes must be inserted, deleted or changed to turn `a` into `b` (Levenshtein distance).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *cell;
            left = (corner + usize::from(x != y)).min(above + 1).min(left + 1);
            corner = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// What `kak` and `kak --help` print.
fn overview() -> String {
    use std::fmt::Write as _;
    let mut text = format!("{HELP}\n");
    for applet in TABLE
        .iter()
        .filter(|applet| !applet.links.is_empty() || applet.name == "ip")
    {
        let sentence = applet.help.split("\n\n").nth(1).unwrap_or_default();
        let sentence = sentence.lines().next().unwrap_or_default();
        writeln!(text, "  {:<9} {sentence}", applet.name).ok();
    }
    text.push_str("\n'kak help APPLET' and 'kak APPLET --help' say more.\n");
    text
}

/// `kak help [APPLET]`.
fn help(word: Option<&OsString>) -> Result<()> {
    match word {
        None => print(&overview()),
        Some(word) => print(find(word).ok_or_else(|| unknown(word))?.0.help),
    }
    Ok(())
}

/// The names of all links.
fn link_names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|applet| applet.links.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("setpu", "setup"), 2);
        assert_eq!(distance("status", "status"), 0);
        assert_eq!(distance("nsh", "nssh"), 1);
    }
}
