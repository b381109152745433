//! The options before the object of an `ip` command, which `kak netns` has too. They are looked up as by ip: the first
//! entry of one table that the word is a prefix of, so the order of the table decides what a short form means. Most say
//! how ip shows links and addresses; here they are accepted and change nothing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use crate::applet::print;
use crate::error::{Error, Result};
use crate::netns::enter;
use crate::text::shown;

/// Which command's words are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// `ip`: the words mean exactly what they mean there.
    Ip,
    /// `kak netns`.
    Kak,
}

/// What the options say.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Clone)]
pub struct Options {
    /// Whose words they are.
    pub front: Front,
    /// `-all`: every namespace.
    pub all: bool,
    /// `-json`.
    pub json: bool,
    /// `-pretty`: JSON for people.
    pub pretty: bool,
    /// `-force`: go on after an error; delete in spite of a physical device.
    pub force: bool,
    /// `-batch`: a file with a command in each line.
    pub batch: Option<OsString>,
}

/// What an option is.
#[derive(Clone, Copy)]
enum Kind {
    /// Accepted, without effect.
    Ignored,
    /// The same with a value, which errors call by this name.
    IgnoredValue(&'static str),
    /// `-family`, whose value is checked.
    Family,
    /// `-rcvbuf`, whose value is checked.
    Number,
    /// `-Version`.
    Version,
    /// `-help`.
    Help,
    /// `-netns NAME`.
    Netns,
    /// See [`Options::all`].
    All,
    /// See [`Options::json`].
    Json,
    /// See [`Options::pretty`].
    Pretty,
    /// See [`Options::force`].
    Force,
    /// See [`Options::batch`].
    Batch,
}

/// The options; those of one letter or digit cannot be shortened.
const TABLE: &[(&str, Kind)] = &[
    ("-loops", Kind::IgnoredValue("loop count")),
    ("-family", Kind::Family),
    ("-4", Kind::Ignored),
    ("-6", Kind::Ignored),
    ("-0", Kind::Ignored),
    ("-M", Kind::Ignored),
    ("-B", Kind::Ignored),
    ("-human-readable", Kind::Ignored),
    ("-iec", Kind::Ignored),
    ("-statistics", Kind::Ignored),
    ("-stats", Kind::Ignored),
    ("-details", Kind::Ignored),
    ("-resolve", Kind::Ignored),
    ("-oneline", Kind::Ignored),
    ("-timestamp", Kind::Ignored),
    ("-tshort", Kind::Ignored),
    ("-Version", Kind::Version),
    ("-force", Kind::Force),
    ("-batch", Kind::Batch),
    ("-brief", Kind::Ignored),
    ("-json", Kind::Json),
    ("-pretty", Kind::Pretty),
    ("-rcvbuf", Kind::Number),
    ("-color", Kind::Ignored),
    ("-help", Kind::Help),
    ("-netns", Kind::Netns),
    ("-Numeric", Kind::Ignored),
    ("-all", Kind::All),
    ("-echo", Kind::Ignored),
];

/// The values of `-family`.
const FAMILIES: &[&str] = &["inet", "inet6", "link", "bridge", "mpls"];

/// What ip prints for `ip help`, as far as it is true here.
pub const IP_USAGE: &str = "\
Usage: ip [ OPTIONS ] netns { COMMAND | help }
       ip [ -force ] -batch filename
where  OPTIONS := { -V[ersion] | -j[son] | -p[retty] | -a[ll] | -n[etns] name |
                    -b[atch] [filename] | -force }
       and those that say how ip shows links and addresses: they change nothing here.
This is kak's ip. It knows the object netns only; see 'kak help netns'.
";

impl Options {
    /// No options.
    pub fn new(front: Front) -> Self {
        Self {
            front,
            all: false,
            json: false,
            pretty: false,
            force: false,
            batch: None,
        }
    }

    /// Takes the options off the front of a command line. `-netns` takes effect at once, as with ip. Returns a status
    /// if an option was all there was to do.
    pub fn take(&mut self, words: &mut Vec<OsString>) -> Result<Option<u8>> {
        while let Some(word) = words
            .first()
            .filter(|word| word.as_bytes().starts_with(b"-"))
        {
            let word = word.clone();
            words.remove(0);
            if word == "--" {
                break;
            }
            if self.front == Front::Kak && word == "-h" {
                return Err(Error::help());
            }
            let unknown = || {
                let word = shown(&word);
                let word = word
                    .strip_prefix('-')
                    .filter(|rest| rest.starts_with('-'))
                    .unwrap_or(&word);
                hard(format!("Option \"{word}\" is unknown, try \"ip -help\"."))
            };
            let kind = find(&word).ok_or_else(unknown)?;
            let mut value = |name: &str| {
                if words.is_empty() {
                    return Err(hard(format!("Error: argument \"{name}\" is required")));
                }
                Ok(words.remove(0))
            };
            match kind {
                Kind::Ignored => {}
                Kind::IgnoredValue(name) => drop(value(name)?),
                Kind::Family => family(&value("family type")?)?,
                Kind::Number => {
                    let value = value("rcvbuf size")?;
                    if c_unsigned(&value).is_none() {
                        return Err(hard(format!("Invalid rcvbuf size '{}'", shown(value))));
                    }
                }
                Kind::Version => {
                    print(concat!("ip utility, kak-", env!("CARGO_PKG_VERSION"), "\n"));
                    return Ok(Some(0));
                }
                Kind::Help if self.front == Front::Kak => return Err(Error::help()),
                Kind::Help => return Err(hard(IP_USAGE.trim_end())),
                Kind::Netns => {
                    let name = value("network namespace")?;
                    crate::netns::check(&name)?;
                    drop(enter::network(&name).map_err(|error| error.with_status(255))?);
                }
                Kind::All => self.all = true,
                Kind::Json => self.json = true,
                Kind::Pretty => self.pretty = true,
                Kind::Force => self.force = true,
                Kind::Batch => self.batch = Some(value("batch file")?),
            }
        }
        Ok(None)
    }
}

/// Finds an option by a prefix of it, with one dash or two.
fn find(word: &OsStr) -> Option<Kind> {
    let word = word.as_bytes();
    let word = if word.starts_with(b"--") {
        word.get(1..)?
    } else {
        word
    };
    // -color takes its value in the same word.
    let (name, value) = match word.iter().position(|byte| *byte == b'=') {
        Some(at) => word.split_at(at),
        None => (word, &b""[..]),
    };
    let (known, kind) = TABLE
        .iter()
        .find(|(known, _)| known.as_bytes().starts_with(name))?;
    let fits = match *known {
        "-color" => [&b""[..], b"=", b"=always", b"=auto", b"=never"].contains(&value),
        "-echo" => name.len() == known.len() && value.is_empty(),
        _ => value.is_empty(),
    };
    fits.then_some(*kind)
}

/// Checks the value of `-family`.
fn family(word: &OsStr) -> Result<()> {
    if word == "help" {
        return Err(hard(IP_USAGE.trim_end()));
    }
    if FAMILIES.iter().any(|family| word == *family) {
        return Ok(());
    }
    let word = shown(word);
    Err(hard(format!(
        "Error: argument \"{word}\" is wrong: invalid protocol family"
    )))
}

/// An error in ip's words that ends a batch, too: exit status 255.
pub fn hard(text: impl Into<String>) -> Error {
    Error::text("", text).with_status(255)
}

/// A number as strtol(3) reads it, with 0x or 0 before it or not, if it fits into an int.
pub fn c_integer(word: &OsStr) -> Option<i32> {
    c_number(word)?.try_into().ok()
}

/// The same for an unsigned int.
fn c_unsigned(word: &OsStr) -> Option<u32> {
    c_number(word)?.try_into().ok()
}

/// A number in C's notation.
fn c_number(word: &OsStr) -> Option<i64> {
    let text = word.to_str()?.trim_ascii_start();
    let (minus, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.strip_prefix("0x") {
        Some(rest) => (16, rest),
        None if lower.len() > 1 && lower.starts_with('0') => (8, lower.as_str()),
        None => (10, lower.as_str()),
    };
    // from_str_radix would accept a second sign.
    digits
        .chars()
        .all(|digit| digit.is_digit(radix))
        .then_some(())?;
    let number = i64::from_str_radix(digits, radix).ok()?;
    Some(if minus { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_c() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("0x1f", Some(31)),
            ("010", Some(8)),
            ("-5", Some(-5)),
            ("+5", Some(5)),
            (" 5", Some(5)),
            ("5 ", None),
            ("", None),
            ("-", None),
            ("--5", None),
            ("0x", None),
            ("08", None),
            ("2147483648", None),
            ("2147483647", Some(i32::MAX)),
            ("99999999999999999999", None),
            ("auto", None),
        ] {
            assert_eq!(c_integer(OsStr::new(text)), wanted, "{text}");
        }
    }

    #[test]
    fn short_forms() {
        let kind = |word: &str| find(OsStr::new(word));
        assert!(matches!(kind("-f"), Some(Kind::Family)));
        assert!(matches!(kind("-fo"), Some(Kind::Force)));
        assert!(matches!(kind("-b"), Some(Kind::Batch)));
        assert!(matches!(kind("-a"), Some(Kind::All)));
        assert!(matches!(kind("--netns"), Some(Kind::Netns)));
        assert!(matches!(kind("-n"), Some(Kind::Netns)));
        assert!(matches!(kind("-he"), Some(Kind::Help)));
        assert!(matches!(kind("-h"), Some(Kind::Ignored)));
        assert!(matches!(kind("-c=always"), Some(Kind::Ignored)));
        assert!(kind("-c=x").is_none() && kind("-j=x").is_none() && kind("-x").is_none());
    }
}
