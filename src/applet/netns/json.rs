//! JSON as `ip` lays it out: one array of flat objects, on one line or, with `-pretty`, over several.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// An array that is being written.
pub struct Array {
    /// Over several lines.
    pretty: bool,
    /// What is written.
    text: Vec<u8>,
    /// Whether an object is in it already.
    begun: bool,
}

impl Array {
    /// An empty one.
    pub fn new(pretty: bool) -> Self {
        let text = if pretty { &b"[ "[..] } else { b"[" };
        Self {
            pretty,
            text: text.to_vec(),
            begun: false,
        }
    }

    /// Appends an object with these members, as far as they have values.
    pub fn object(&mut self, members: &[(&str, Value<'_>)]) {
        self.text.extend(if self.begun { &b",{"[..] } else { b"{" });
        self.begun = true;
        let mut first = true;
        for (key, value) in members {
            if matches!(value, Value::None) {
                continue;
            }
            if !first {
                self.text.push(b',');
            }
            first = false;
            if self.pretty {
                self.text.extend(b"\n        ");
            }
            let colon = if self.pretty { ": " } else { ":" };
            self.text.extend(format!("\"{key}\"{colon}").bytes());
            match value {
                Value::None => {}
                Value::Number(number) => self.text.extend(number.to_string().bytes()),
                Value::Name(name) => self.string(name.as_bytes()),
            }
        }
        self.text
            .extend(if self.pretty { &b"\n    }"[..] } else { b"}" });
    }

    /// Appends a string. Bytes that are not UTF-8 are passed on as they are, as by ip.
    fn string(&mut self, bytes: &[u8]) {
        self.text.push(b'"');
        for byte in bytes {
            match byte {
                b'\t' => self.text.extend(b"\\t"),
                b'\n' => self.text.extend(b"\\n"),
                b'\r' => self.text.extend(b"\\r"),
                0x0c => self.text.extend(b"\\f"),
                0x08 => self.text.extend(b"\\b"),
                b'\\' => self.text.extend(b"\\\\"),
                b'"' => self.text.extend(b"\\\""),
                0..0x20 | 0x7f => self.text.extend(format!("\\u{byte:04x}").bytes()),
                _ => self.text.push(*byte),
            }
        }
        self.text.push(b'"');
    }

    /// The array's text.
    pub fn end(mut self) -> Vec<u8> {
        let end = match (self.pretty, self.begun) {
            (true, true) => &b" ]\n"[..],
            _ => b"]\n",
        };
        self.text.extend(end);
        self.text
    }
}

/// A member's value.
pub enum Value<'a> {
    /// The member is left out.
    None,
    /// A number.
    Number(i32),
    /// A name.
    Name(&'a OsStr),
}

impl Value<'_> {
    /// A number, if there is one.
    pub fn number(number: Option<i32>) -> Self {
        number.map_or(Self::None, Self::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        let written = |pretty, objects: &[&[(&str, Value<'_>)]]| {
            let mut array = Array::new(pretty);
            for members in objects {
                array.object(members);
            }
            String::from_utf8(array.end()).unwrap()
        };
        assert_eq!(written(false, &[]), "[]\n");
        assert_eq!(written(true, &[]), "[ ]\n");
        let c = [
            ("name", Value::Name(OsStr::new("c"))),
            ("id", Value::Number(16)),
        ];
        let a = [
            ("name", Value::Name(OsStr::new("a\n\u{1}"))),
            ("id", Value::None),
        ];
        assert_eq!(
            written(false, &[&c, &a]),
            "[{\"name\":\"c\",\"id\":16},{\"name\":\"a\\n\\u0001\"}]\n"
        );
        assert_eq!(
            written(true, &[&c, &a]),
            "[ {\n        \"name\": \"c\",\n        \"id\": 16\n    },{\n        \"name\": \"a\\n\\u0001\"\n    } ]\n"
        );
    }
}
