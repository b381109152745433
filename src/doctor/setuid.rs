//! The set-user-ID bit: kak itself must not have it, and for the copies of nssh that have it, it must have an effect.

use std::path::{Path, PathBuf};

use rustix::fs::{Stat, StatVfsMountFlags};

use super::{Cure, Place, Report};
use crate::error::{Result, What as _};
use crate::record::{self, Record};
use crate::survey::programs;
use crate::text::quote;

/// The set-user-ID and the set-group-ID bit.
const BITS: u32 = 0o6000;

/// Runs the checks.
pub fn look(place: &Place, report: &mut Report) {
    let (name, what) = ("setuid-kak", "kak itself");
    match itself() {
        Err(error) => report.ok(name, what, &error.to_string()),
        Ok((path, stat)) if stat.st_mode & BITS != 0 => {
            let path = quote(path);
            let why = format!(
                "{path} is set-user-ID or set-group-ID, and so refuses users other than root"
            );
            report.fail(name, what, &why, Cure::Run(format!("chmod ug-s {path}")));
        }
        Ok(_) => report.ok(name, what, "not set-user-ID"),
    }
    if place.inside {
        return;
    }
    let copies = programs::copies().unwrap_or_default();
    for (path, stat) in &copies {
        copy(report, path, stat);
    }
    if copies.is_empty() && place.is_admin() {
        lacking(report);
    }
}

/// This binary's path and status.
fn itself() -> Result<(PathBuf, Stat)> {
    let exe = "/proc/self/exe";
    let path = rustix::fs::readlink(exe, Vec::new()).what(|| "readlink /proc/self/exe")?;
    let stat = rustix::fs::stat(exe).what(|| "stat /proc/self/exe")?;
    let path = std::os::unix::ffi::OsStringExt::from_vec(path.into_bytes());
    Ok((std::ffi::OsString::into(path), stat))
}

/// Checks a copy.
fn copy(report: &mut Report, path: &Path, stat: &Stat) {
    let name = "setuid-nssh";
    let path_text = quote(path);
    let flags = rustix::fs::statvfs(path).map(|about| about.f_flag);
    if flags.is_ok_and(|flags| flags.contains(StatVfsMountFlags::NOSUID)) {
        let why =
            "is set-user-ID on a file system that is mounted nosuid: it has no rights to lend";
        let dir = quote(path.parent().unwrap_or(path));
        let cure = format!("mount -o remount,bind,suid \"$(findmnt -nT {dir} -o TARGET)\"");
        report.warn(name, &path_text, why, Cure::Run(cure));
    } else if stat.st_uid != 0 || !crate::survey::is_kak(path) {
        let why = "is set-user-ID, and not a copy of this kak";
        let cure = Cure::Run(format!("kak --install --setuid-nssh {path_text}"));
        report.warn(name, &path_text, why, cure);
    } else {
        report.ok(
            name,
            &path_text,
            "set-user-ID, for those whom --allow names",
        );
    }
}

/// Reports a jail that lets users in while there is no copy for them to join it by.
fn lacking(report: &mut Report) {
    let jails = record::jails().unwrap_or_default();
    let lets = |jail: &&String| {
        let record = Record::read(jail).ok().flatten();
        record.is_some_and(|record| !record.config.allow.is_empty())
    };
    if let Some(jail) = jails.iter().find(lets) {
        let why = format!("there is none, and users whom the jail {jail} allows need it");
        let cure = Cure::Run("kak --install --setuid-nssh /bin/nssh".into());
        report.warn("setuid-nssh", "a set-user-ID nssh", &why, cure);
    }
}
