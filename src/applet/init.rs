//! `kak init`: the jail's PID 1 in the script that `kak setup --explain` prints. Not for people.

use super::{Applet, Call};
use crate::error::{Error, Result, What as _};
use crate::jail::init;
use crate::sys;

/// `kak init`.
pub const APPLET: Applet = Applet {
    name: "init",
    links: &[],
    own_words: false,
    help: "\
usage: kak init FD

Be PID 1 of a jail that a script has put together.

FD is the open lock file of the jail. 'kak setup --explain' prints the script.
",
    run,
};

/// Runs the applet.
fn run(call: Call) -> Result<u8> {
    let Call { args, .. } = call;
    let number = match args.as_slice() {
        [number] => number.to_str().and_then(|number| number.parse().ok()),
        _ => None,
    };
    let number = number
        .filter(|number| *number > 2)
        .ok_or_else(|| Error::usage("takes one descriptor above 2"))?;
    let lock = sys::inherited(number).what(|| format!("descriptor {number}"))?;
    let lock = sys::keep_only(lock).what(|| "dup3")?;
    init::adopt(&lock)
}
