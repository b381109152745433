//! What libFuzzer calls: everything of kak that reads what others wrote, with any bytes, and what must hold of it then
//! beside that it comes to an end. It is built into kak by scripts/fuzz alone, by `cfg(fuzzing)`.
//!
//! A target is chosen by the name that the program is called by, as applets are; called by its own it tells all names. What a
//! target finds becomes a test with a name beside the code that was wrong.

#![allow(
    unsafe_code,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "it is a test, and libFuzzer is C++"
)]

mod accounts;
mod names;
mod netlink;
mod proc;
mod record;
mod relay;
mod words;

use std::path::Path;
use std::sync::LazyLock;

/// A target's name, and what it does with an input.
type Target = (&'static str, fn(&[u8]));

/// All of them.
const TABLE: &[Target] = &[
    ("batch", words::batch),
    ("dns", relay::dns),
    ("iptables", netlink::iptables),
    ("netlink", netlink::netlink),
    ("nft", netlink::nft),
    ("passwd", accounts::passwd),
    ("proc", proc::proc),
    ("record", record::record),
    ("resolv", names::resolv),
    ("shells", accounts::shells),
    ("words", words::words),
];

/// The one that this process is for.
static CHOSEN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default();
    let found = TABLE.iter().find(|(target, _)| name == *target);
    let Some((_, act)) = found else {
        TABLE.iter().for_each(|(target, _)| println!("{target}"));
        std::process::exit(0);
    };
    *act
});

libfuzzer_sys::fuzz_target!(init: {
    // What the variable of the caller says is no input.
    let _ = &*CHOSEN;
}, |input: &[u8]| CHOSEN(input));

/// The first line of an input, and the rest.
fn line(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n');
    match end {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[]),
    }
}
