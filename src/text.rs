//! Words as text: paths and names may contain bytes that are not UTF-8, and messages and scripts have to print them
//! unchanged. In a string such a byte is one character of a private use plane, which [`bytes`] turns back on output.
//! Nothing is lost on the way, and everything in between works with strings.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// The character for byte 0; the others follow it. They are the last 256 of the last plane, which is for private use.
const FIRST: u32 = 0x10_FF00;
/// The first byte that is not ASCII. No character stands for one below, and so none becomes a quote or an escape.
const NO_ASCII: u8 = 0x80;

/// The first byte of the UTF-8 of each of these characters.
const LEAD: u8 = 0xf4;

/// A word as text that [`bytes`] turns back.
pub fn shown(word: impl AsRef<OsStr>) -> String {
    shown_bytes(word.as_ref().as_bytes())
}

/// See [`shown`]; not generic, so that it is compiled once and not for each type of word.
fn shown_bytes(word: &[u8]) -> String {
    // Most words, which need not be looked at character by character.
    if let Ok(text) = str::from_utf8(word)
        && !word.contains(&LEAD)
    {
        return text.into();
    }
    let mut text = String::new();
    for chunk in word.utf8_chunks() {
        for c in chunk.valid().chars() {
            if byte(c).is_some() {
                // Such a character in the word itself has to come back as itself: its bytes are encoded.
                let mut buffer = [0; 4];
                text.extend(c.encode_utf8(&mut buffer).bytes().filter_map(character));
            } else {
                text.push(c);
            }
        }
        text.extend(chunk.invalid().iter().copied().filter_map(character));
    }
    text
}

/// A text as it is written out: the reverse of [`shown`].
pub fn bytes(text: &str) -> Vec<u8> {
    if !text.as_bytes().contains(&LEAD) {
        return text.into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    bytes
}

/// A word that somebody else chose, for a terminal: what could act on one becomes `?`, and nothing is turned back.
pub fn harmless(word: &[u8]) -> String {
    let odd = |c: char| c.is_control() || u32::from(c) >= FIRST;
    String::from_utf8_lossy(word).replace(odd, "?")
}

/// A path or another word, quoted for a shell where it needs to be.
pub fn quote(word: impl AsRef<OsStr>) -> String {
    let text = shown(word);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,=@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A JSON string (RFC 8259, section 7).
pub fn quoted(text: &str) -> String {
    use std::fmt::Write as _;
    let mut json = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c.is_control() => write!(json, "\\u{:04x}", u32::from(c)).unwrap_or_default(),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

/// The character that stands for a byte.
fn character(byte: u8) -> Option<char> {
    char::from_u32(FIRST + u32::from(byte))
}

/// The byte that a character stands for, if it is one of those.
fn byte(c: char) -> Option<u8> {
    let byte = u32::from(c).checked_sub(FIRST)?.try_into().ok()?;
    (byte >= NO_ASCII).then_some(byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quoted_for_a_shell() {
        assert_eq!(quote("/mnt/user"), "/mnt/user");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn what_is_text_stays_text() {
        assert_eq!(shown("/mnt/u ser\u{e4}"), "/mnt/u ser\u{e4}");
        assert_eq!(bytes("/mnt/u ser\u{e4}"), "/mnt/u ser\u{e4}".as_bytes());
    }

    #[test]
    fn nobody_elses_character_becomes_a_byte() {
        let all: String = (0..=255).filter_map(character).collect();
        assert_eq!(harmless(all.as_bytes()), "?".repeat(256));
        assert_eq!(
            harmless("a\u{1b}[2J\u{9b}\n\u{e4}".as_bytes()),
            "a?[2J??\u{e4}"
        );
        assert_eq!(harmless(b"\xff\xf4\x8f\xbc\x9b"), "\u{fffd}?");
        // Nor does one that was not replaced become a quote or an escape.
        assert!(bytes(&all).iter().all(|byte| *byte >= 0x80));
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(word: Vec<u8>) {
            prop_assert_eq!(bytes(&shown(OsStr::from_bytes(&word))), word);
        }

        #[test]
        fn the_private_characters_too(n in 0_u32..=255, before: String) {
            let word = format!("{before}{}", char::from_u32(FIRST + n).unwrap());
            prop_assert_eq!(bytes(&shown(&word)), word.as_bytes());
        }
    }
}
