//! `ip`, as far as it is about named network namespaces. Stands in where iproute2 is not installed; whatever else is
//! asked of it is refused in one line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use super::netns::options::{Front, IP_USAGE, Options, hard};
use super::{Applet, Call, netns};
use crate::error::Result;

/// `ip`.
pub const APPLET: Applet = Applet {
    name: "ip",
    links: &[],
    own_words: true,
    help: "\
usage: kak ip [OPTION]... netns [VERB] [ARG]...
       ip [OPTION]... netns [VERB] [ARG]...

The part of ip that is about named network namespaces.

Stands in where iproute2 is not installed: a link of this name to kak runs old
scripts unchanged. Verbs and options are those of 'kak help netns'; the options
that say how ip shows links and addresses are accepted. Other objects of ip are
refused. A link 'ipnetns' is 'ip netns'.
",
    run,
};

/// Does it.
fn run(call: Call) -> Result<u8> {
    let mut words = call.args;
    let mut options = Options::new(Front::Ip);
    let result = match options.take(&mut words) {
        Ok(None) => netns::start(&options, words, object),
        other => other.map(|status| status.unwrap_or(0)),
    };
    netns::finish(result)
}

/// Does what the words after the options say.
fn object(options: &Options, mut words: Vec<OsString>) -> Result<u8> {
    let Some(object) = words.first().map(|word| word.as_bytes().to_vec()) else {
        return Err(hard(IP_USAGE.trim_end()));
    };
    // "net" and "netn" are netns for ip too; shorter ones mean neighbours.
    if object.len() >= 3 && b"netns".starts_with(&object) {
        words.remove(0);
        return netns::dispatch(options, words);
    }
    if !object.is_empty() && b"help".starts_with(&object) {
        return Err(hard(IP_USAGE.trim_end()));
    }
    Err(hard(format!(
        "ip {}: kak's ip knows 'ip netns' only; install iproute2 for the rest",
        String::from_utf8_lossy(&object)
    )))
}
