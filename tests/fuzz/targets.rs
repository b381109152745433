//! The targets for libFuzzer: each gives arbitrary bytes to code of kak that reads what others wrote, and asserts what
//! must hold besides that it returns. Only scripts/fuzz builds them into kak, by `cfg(fuzzing)`.
//!
//! The name that the program is called by chooses the target, as for applets; called by another name, it lists all
//! targets. What a target finds becomes a unit test beside the code that was wrong.

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

/// The target of this process.
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
    // The target is looked up before the first input.
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
