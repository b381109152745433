//! Leftovers: names without a namespace, jails that are not up or not complete, networks that lost their namespace,
//! links and tables of kak's of which there is no record, and files that were being written.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{Cure, Place, Report};
use crate::engine;
use crate::file;
use crate::jail::Life;
use crate::netns::{self, State};
use crate::nl::nft::foreign;
use crate::nl::{self, link};
use crate::plan::Plan;
use crate::record::{self, Record};
use crate::step::netns::NetNs;
use crate::step::{Machine, Seen};
use crate::sys;
use crate::text::quote;
use crate::text::shown;

/// What every mark of kak's begins with: the alias of a link, the comment of a table.
const MARK: &str = "kak:";
/// The end of the name of a file that is being written.
const UNFINISHED: &[u8] = b".kak-new";
/// Where kak writes files, or programs.
const DIRS: [&str; 6] = [
    "/etc",
    "/bin",
    "/usr/bin",
    "/usr/local/bin",
    "/sbin",
    "/usr/sbin",
];

/// Runs the checks.
pub fn look(place: &Place, report: &mut Report) {
    if place.inside {
        return;
    }
    let before = report.0.len();
    let Ok(jails) = record::jails() else {
        report.unchecked("stale", "what is left of jails", "DAC_READ_SEARCH");
        ghosts(&[], report);
        return;
    };
    for name in &jails {
        if let Some((why, cure)) = jail(name) {
            report.warn("jail", &format!("jail {name}"), &why, Cure::Run(cure));
        }
    }
    ghosts(&jails, report);
    links(&jails, report);
    tables(&jails, report);
    unfinished(&jails, report);
    if report.0.len() == before {
        report.ok("stale", "no leftovers", "");
    }
}

/// What is the matter with a jail, and the command that cures it.
fn jail(name: &str) -> Option<(String, String)> {
    let teardown = format!("kak teardown -n {name}");
    let record = match Record::read(name) {
        Ok(Some(record)) => record,
        Ok(None) => return Some(("has a directory and no record".into(), teardown)),
        Err(error) => {
            let cure = format!("rm -r {}", quote(record::dir(name)));
            return Some((error.to_string(), cure));
        }
    };
    let is_gone = || !matches!(netns::state(name.as_ref()), Ok(State::Namespace));
    if record.config.bare {
        let cure = format!("kak netns delete {name}");
        return is_gone().then(|| ("a network that has lost its namespace".into(), cure));
    }
    let view = match Life::of(name) {
        Ok(Life::Down) => {
            return Some(("has a record and is not up".into(), teardown));
        }
        Ok(Life::Up(init)) => init.view().ok()?,
        // It is starting or ending, or can only be seen from elsewhere.
        _ => return None,
    };
    if is_gone() {
        let cure = format!("kak setup -n {name}");
        return Some(("is up, and its network has lost its name".into(), cure));
    }
    let mut machine = Machine::new(name);
    machine.view = view;
    let plan = Plan::new(&record);
    let steps = engine::observe(&plan.outer, &mut machine);
    let (step, seen) = steps.iter().find(|(_, seen)| *seen != Seen::Done)?;
    let text = step.act.to_string();
    let text = text.lines().next().unwrap_or_default();
    let mut cure = format!("kak setup -n {name}");
    // The name is in the way: it leads to another network.
    if let Seen::Other(_) = seen
        && text == (NetNs { name: name.into() }).to_string()
    {
        cure = format!("kak netns delete {name}; {cure}");
    }
    Some((format!("is up, but not complete: {text}"), cure))
}

/// Names that lost their namespace. That of a jail is reported with the jail.
fn ghosts(jails: &[String], report: &mut Report) {
    for name in netns::names().ok().flatten().unwrap_or_default() {
        let known = jails.iter().any(|jail| OsStr::new(jail) == name);
        if !known && netns::is_ghost(&name) {
            let what = quote(Path::new(netns::DIR).join(&name));
            let cure = format!("kak netns delete {}", quote(&name));
            let why = "a name that has lost its namespace";
            report.warn("ghost", &what, why, Cure::Run(cure));
        }
    }
}

/// The jail that a mark names, if there is no record of it.
fn unknown<'a>(mark: &'a str, jails: &[String]) -> Option<&'a str> {
    let jail = mark.strip_prefix(MARK)?;
    (!jails.iter().any(|known| known == jail)).then_some(jail)
}

/// The text for something that bears the mark of a jail without a record.
fn unrecorded(jail: &str) -> String {
    format!(
        "belongs to the jail {jail}, of which there is no record here; another container may have it"
    )
}

/// Links that no record knows.
fn links(jails: &[String], report: &mut Report) {
    let all = nl::Socket::route().map(|mut socket| link::links(&mut socket));
    let Ok(Ok(all)) = all else { return };
    for link in all {
        let mark = link.alias.as_deref().unwrap_or_default();
        if let Some(jail) = unknown(mark, jails) {
            let name = quote(&link.name);
            let cure = Cure::Run(format!("ip link delete {name}"));
            report.warn("link", &format!("link {name}"), &unrecorded(jail), cure);
        }
    }
}

/// Tables that no record knows.
fn tables(jails: &[String], report: &mut Report) {
    let all = nl::Socket::netfilter().map(|mut socket| foreign::commented(&mut socket));
    let Ok(Ok(all)) = all else { return };
    for (family, name, comment) in all {
        if let Some(jail) = unknown(&comment, jails) {
            let name = quote(&name);
            let cure = Cure::Run(format!("nft delete table {family} {name}"));
            let what = format!("table {family} {name}");
            report.warn("table", &what, &unrecorded(jail), cure);
        }
    }
}

/// Files whose writer was killed.
fn unfinished(jails: &[String], report: &mut Report) {
    let mut dirs: Vec<PathBuf> = DIRS.iter().map(PathBuf::from).collect();
    for jail in jails {
        dirs.push(record::dir(jail));
        dirs.push(Path::new("/etc/netns").join(jail));
    }
    let mut seen: Vec<(u64, u64)> = Vec::new();
    for dir in dirs {
        // Each directory once, also where it has two names.
        let Ok(stat) = rustix::fs::stat(&dir) else {
            continue;
        };
        let which = (stat.st_dev, stat.st_ino);
        if seen.contains(&which) {
            continue;
        }
        seen.push(which);
        for name in sys::entries(&dir).unwrap_or_default() {
            let path = dir.join(&name);
            let regular = file::lstat(&path).is_ok_and(|stat| stat.is_some());
            if name.as_bytes().ends_with(UNFINISHED) && regular && netns::is_old(&path) {
                let cure = Cure::Run(format!("rm {}", remains(&path)));
                let why = "a file that kak began to write and did not finish";
                report.warn("unfinished", &shown(&path), why, cure);
            }
        }
    }
}

/// The path of an unfinished file; if it is a lock, also its final name, which is another link to the same file.
fn remains(path: &Path) -> String {
    let name = path.as_os_str().as_bytes();
    let name = name.strip_suffix(UNFINISHED).unwrap_or(name);
    let finished = Path::new(OsStr::from_bytes(name));
    let which = |path: &Path| {
        let stat = rustix::fs::lstat(path).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    if finished != path && which(finished).is_some() && which(finished) == which(path) {
        return format!("{} {}", quote(finished), quote(path));
    }
    quote(path)
}
