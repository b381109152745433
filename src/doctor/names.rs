//! Name resolution: what /etc/resolv.conf is, and which resolvers it names.

use std::net::IpAddr;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Place, Report, say};
use crate::error::Error;
use crate::facts::resolvers::{OUTER, nameservers};
use crate::file;
use crate::text::quote;
use crate::text::shown;

/// Runs the checks.
pub fn look(_: &Place, report: &mut Report) {
    let name = "resolv-conf";
    let cure = || say("name a jail's resolvers: kak setup --dns ADDR");
    let Ok(Some(stat)) = file::lstat(Path::new(OUTER)) else {
        report.warn(
            name,
            OUTER,
            "there is none: jails cannot look up names",
            cure(),
        );
        return;
    };
    let mut kind = "a file".to_owned();
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        let target = rustix::fs::readlink(OUTER, Vec::new()).unwrap_or_default();
        kind = format!(
            "a link to {}",
            quote(shown(std::ffi::OsStr::new(&*target.to_string_lossy())))
        );
        match rustix::fs::stat(OUTER) {
            Ok(_) => {}
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let why = format!("{kind}, where there is nothing: jails cannot look up names");
                report.warn(name, OUTER, &why, cure());
                return;
            }
            Err(errno) => {
                let why = format!("{kind}: {}", Error::reason(errno));
                report.warn(name, OUTER, &why, cure());
                return;
            }
        }
    }
    let text = match file::read(Path::new(OUTER)) {
        Ok(text) => text,
        Err(error) => {
            report.warn(name, OUTER, &error.to_string(), say("run as root"));
            return;
        }
    };
    report.ok(name, OUTER, &kind);
    let all = nameservers(&text);
    if all.is_empty() {
        let why = format!("none in {OUTER}: jails cannot look up names");
        report.warn("resolver", "resolvers", &why, cure());
    }
    for address in all {
        let why = if address.is_loopback() {
            "only this machine reaches it: it is relayed into jails"
        } else if is_unscoped(address) {
            "a link-local address, which no jail reaches"
        } else {
            ""
        };
        let what = format!("resolver {address}");
        if is_unscoped(address) {
            report.warn("resolver", &what, why, cure());
        } else {
            report.ok("resolver", &what, why);
        }
    }
}

/// Whether an address is link-local: it means something on one link only.
fn is_unscoped(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
