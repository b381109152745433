//! Command lines and batches.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::applet::netns::batch::{self, Lines};
use crate::applet::netns::options::{Front, Options};
use crate::applet::{netns, nssh, setup};
use crate::config::{self, Config, takes};

/// The words of a command line, with a NUL after each but the last; the first is the applet.
pub fn words(input: &[u8]) {
    let mut words: Vec<OsString> = input
        .split(|byte| *byte == 0)
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    let applet = words.remove(0);
    match applet.as_bytes() {
        b"setup" => {
            if let Ok(options) = setup::parse(words) {
                same_again(&options.wanted.config);
            }
        }
        b"nssh" => {
            let count = words.len();
            let last = words.last().cloned();
            if let Ok(options) = nssh::parse(words) {
                // The shell's arguments are the last words, unchanged.
                assert!(options.args.len() <= count);
                assert!(options.args.is_empty() || options.args.last() == last.as_ref());
                assert!(
                    options
                        .jail
                        .is_none_or(|jail| config::jail_name(jail.as_ref()).is_ok())
                );
            }
        }
        b"netns-add" => {
            if let Ok((names, said)) = netns::add::parse(&words) {
                assert!(names.len() <= words.len());
                let mut config = Config::new("x");
                let said = said.unwrap_or_default();
                if said
                    .iter()
                    .all(|(option, value)| config.set(option, value).is_ok())
                {
                    same_again(&config);
                }
            }
        }
        front => {
            // -n would enter a namespace at once, and -V print the version.
            let enters = |word: &OsString| {
                [&b"-n"[..], b"--n"]
                    .iter()
                    .any(|n| word.as_bytes().starts_with(n))
            };
            let version = |word: &OsString| {
                [&b"-V"[..], b"--V"]
                    .iter()
                    .any(|v| word.as_bytes().starts_with(v))
            };
            if words.iter().any(|word| enters(word) || version(word)) {
                return;
            }
            let front = if front == b"ip" {
                Front::Ip
            } else {
                Front::Kak
            };
            let before = words.clone();
            if let Ok(None) = Options::new(front).take(&mut words) {
                assert!(before.ends_with(&words));
                let first = words
                    .first()
                    .filter(|word| word.as_bytes().starts_with(b"-"));
                assert!(first.is_none() || before.iter().any(|word| word == "--"));
            }
        }
    }
}

/// Asserts that options are read as the same ones after they are written, as to a record.
fn same_again(config: &Config) {
    let mut again = Config::new(&config.jail);
    for (option, value) in config.options() {
        assert!(takes(option).is_some());
        again
            .set(option, &value)
            .unwrap_or_else(|error| panic!("--{option} {value:?}: {error}"));
    }
    assert_eq!(&again, config);
}

/// A batch file.
pub fn batch(input: &[u8]) {
    let mut lines = Lines {
        rest: input.to_vec(),
        number: 0,
        over: true,
    };
    let mut left = input.len();
    // An error message is not looked at.
    while let Ok(Some(line)) = lines.next() {
        left = left.checked_sub(line.len()).expect("nothing is read twice");
        assert!(!line.contains(&b'#'));
        let Ok(Some(words)) = batch::split(&line) else {
            continue;
        };
        assert!((1..=511).contains(&words.len()));
        // Words that can be quoted are split into the same words again.
        let quote = |word: &OsStr| {
            let quote = [b'\'', b'"']
                .into_iter()
                .find(|quote| !word.as_bytes().contains(quote))?;
            Some([&[quote], word.as_bytes(), &[quote]].concat())
        };
        let quoted: Option<Vec<Vec<u8>>> = words.iter().map(|word| quote(word)).collect();
        if let Some(quoted) = quoted {
            assert_eq!(batch::split(&quoted.join(&b' ')), Ok(Some(words)));
        }
    }
    let count = input.iter().filter(|byte| **byte == b'\n').count();
    assert!(lines.number <= count + 1);
}
