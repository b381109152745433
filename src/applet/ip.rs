//! `ip`, limited to named network namespaces: a stand-in where iproute2 is not installed. ip's other objects are
//! refused in one line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::netns::options::{Front, IP_USAGE, Options, hard};
use super::{Applet, Call, netns};
use crate::error::{Error, Result};
use crate::text::shown;

/// `ip`.
pub const APPLET: Applet = Applet {
    name: "ip",
    links: &[],
    own_words: true,
    help: "\
usage: kak ip [OPTION]... netns [VERB] [ARG]...
       ip [OPTION]... netns [VERB] [ARG]...

The part of ip that handles named network namespaces.

For machines without iproute2: with a link named ip to kak, old scripts run
unchanged. Verbs and options are those of 'kak help netns'; the options for how
ip shows links and addresses are accepted, without effect. Other objects of ip
are refused. A link named ipnetns stands for 'ip netns'.
",
    run,
};

/// `ipnetns`: ip takes what follows its name in argv[0] for the object.
pub const IPNETNS: Applet = Applet {
    name: "ipnetns",
    links: &[],
    own_words: true,
    help: APPLET.help,
    run: |call| begin(call, netns::dispatch),
};

/// Runs the applet.
fn run(call: Call) -> Result<u8> {
    begin(call, object)
}

/// Reads the options, then does `act` with the rest, or with each line of a batch.
fn begin(call: Call, act: fn(&Options, Vec<OsString>) -> Result<u8>) -> Result<u8> {
    let mut words = call.args;
    let mut options = Options::new(Front::Ip);
    let result = match options.take(&mut words) {
        // Every line of a batch names its object itself.
        Ok(None) if options.batch.is_some() => netns::start(&options, words, object),
        Ok(None) => act(&options, words),
        other => other.map(|status| status.unwrap_or(0)),
    };
    netns::finish(result)
}

/// The other objects of ip.
const OBJECTS: &[&str] = &[
    "address",
    "addrlabel",
    "maddress",
    "route",
    "rule",
    "neighbor",
    "neighbour",
    "ntable",
    "ntbl",
    "link",
    "l2tp",
    "fou",
    "ila",
    "macsec",
    "tunnel",
    "tunl",
    "tuntap",
    "tap",
    "token",
    "tcpmetrics",
    "tcp_metrics",
    "monitor",
    "xfrm",
    "mroute",
    "mrule",
    "netconf",
    "vrf",
    "sr",
    "nexthop",
    "mptcp",
    "ioam",
    "stats",
    "amt",
];

/// Does what the words after the options say.
fn object(options: &Options, mut words: Vec<OsString>) -> Result<u8> {
    let Some(object) = words.first().map(|word| word.as_bytes().to_vec()) else {
        return Err(hard(IP_USAGE.trim_end()));
    };
    // "net" and "netn" are netns for ip too; anything shorter is "neighbor".
    if object.len() >= 3 && b"netns".starts_with(&object) {
        words.remove(0);
        return netns::dispatch(options, words);
    }
    if !object.is_empty() && b"help".starts_with(&object) {
        return Err(hard(IP_USAGE.trim_end()));
    }
    let object_text = shown(OsStr::from_bytes(&object));
    if object.is_empty()
        || !OBJECTS
            .iter()
            .any(|known| known.as_bytes().starts_with(&object))
    {
        let text = format!("Object \"{object_text}\" is unknown, try \"ip help\".");
        return Err(Error::text("", text));
    }
    // An ordinary failure: a batch reports the line, and with -force goes on.
    Err(Error::text(
        "",
        format!("ip {object_text}: kak's ip knows 'ip netns' only; install iproute2 for the rest"),
    ))
}
