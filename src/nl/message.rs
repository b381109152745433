//! The netlink message: how it is built, and how it is read without ever trusting a length. No protocol is known here;
//! the type and byte order of an attribute's payload are declared by its constant, once for writing and reading.
//!
//! ```text
//! | length u32 | type u16 | flags u16 | sequence u32 | port u32 | fixed part | attribute ... |
//! attribute: | length u16 | type u16 | payload | padding to 4 |          (linux/netlink.h)
//! ```

use std::marker::PhantomData;
use std::net::IpAddr;

/// `struct nlmsghdr`'s size.
pub const HEADER: usize = 16;

/// An attribute: its number, and the type of its payload.
pub struct Attr<T: ?Sized>(u16, PhantomData<fn(&T)>);

impl<T: ?Sized> Clone for Attr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Attr<T> {}

/// Declares an attribute.
pub const fn attr<T: ?Sized>(number: u16) -> Attr<T> {
    Attr(number, PhantomData)
}

/// Attributes within an attribute (`NLA_F_NESTED`).
pub struct Nest;

/// A list of attributes that all have the number 1 (`NFTA_LIST_ELEM`).
pub struct List;

/// A number in network byte order, as all numbers of nf_tables are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Be32(pub u32);

/// What can be written as a payload.
pub trait Wire {
    /// Appends it.
    fn write(&self, to: &mut Vec<u8>);
}

/// What can be read from a payload.
pub trait Read<'a>: Sized {
    /// Reads it; none if the payload is too short.
    fn read(payload: &'a [u8]) -> Option<Self>;
}

/// A payload, and what it is read as, which may be another type than it is written from.
pub trait Payload<'a> {
    /// What it is read as.
    type Out: Read<'a>;
}

/// Numbers: as many bytes as their type has.
macro_rules! plain {
    ($($type:ty, $value:ident => $bytes:expr, $raw:ident => $read:expr;)*) => {$(
        impl Wire for $type {
            fn write(&self, to: &mut Vec<u8>) {
                let $value = self;
                to.extend($bytes);
            }
        }
        impl Read<'_> for $type {
            fn read(payload: &[u8]) -> Option<Self> {
                let $raw = payload.get(..size_of::<$type>())?.try_into().ok()?;
                Some($read)
            }
        }
        impl Payload<'_> for $type {
            type Out = $type;
        }
    )*};
}

plain! {
    u8, n => [*n], raw => u8::from_ne_bytes(raw);
    u32, n => n.to_ne_bytes(), raw => u32::from_ne_bytes(raw);
    i32, n => n.to_ne_bytes(), raw => i32::from_ne_bytes(raw);
    Be32, n => n.0.to_be_bytes(), raw => Be32(u32::from_be_bytes(raw));
}

impl Wire for IpAddr {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::V4(address) => to.extend(address.octets()),
            Self::V6(address) => to.extend(address.octets()),
        }
    }
}

impl Read<'_> for IpAddr {
    /// The length tells the family.
    fn read(payload: &[u8]) -> Option<Self> {
        let ipv4 = || <[u8; 4]>::try_from(payload).map(Self::from);
        let ipv6 = || <[u8; 16]>::try_from(payload).map(Self::from);
        ipv4().or_else(|_| ipv6()).ok()
    }
}

impl Payload<'_> for IpAddr {
    type Out = Self;
}

impl Wire for str {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.bytes());
        to.push(0);
    }
}

impl Read<'_> for String {
    fn read(payload: &[u8]) -> Option<Self> {
        let text = payload.split(|byte| *byte == 0).next()?;
        Some(Self::from_utf8_lossy(text).into_owned())
    }
}

impl Payload<'_> for str {
    type Out = String;
}

impl Wire for [u8] {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self);
    }
}

impl<'a> Read<'a> for &'a [u8] {
    fn read(payload: &'a [u8]) -> Option<Self> {
        Some(payload)
    }
}

impl<'a> Payload<'a> for [u8] {
    type Out = &'a [u8];
}

impl<'a> Read<'a> for Attrs<'a> {
    fn read(payload: &'a [u8]) -> Option<Self> {
        Some(Attrs(payload))
    }
}

impl<'a> Payload<'a> for Nest {
    type Out = Attrs<'a>;
}

impl<'a> Payload<'a> for List {
    type Out = Attrs<'a>;
}

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;

/// The bits of an attribute's type that are its number (`NLA_TYPE_MASK`).
const NUMBER: u16 = (1 << 14) - 1;

/// A message that is being built.
pub struct Message(Vec<u8>);

impl Message {
    /// A message of a type, with its flags and its protocol's fixed part.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        let mut message = Self(bytes);
        message.pad();
        message
    }

    /// Appends an attribute.
    pub fn put<T: Wire + ?Sized>(self, attr: Attr<T>, value: &T) -> Self {
        self.attribute(attr.0, |mut message| {
            value.write(&mut message.0);
            message
        })
    }

    /// Appends an attribute with attributes in it.
    pub fn nest(self, attr: Attr<Nest>, inside: impl FnOnce(Self) -> Self) -> Self {
        self.attribute(attr.0 | NESTED, inside)
    }

    /// Appends bytes that are no attribute: a fixed part within a nest.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self.pad();
        self
    }

    /// Appends a list of attributes.
    pub fn list<I>(self, attr: Attr<List>, items: I, each: impl Fn(Self, I::Item) -> Self) -> Self
    where
        I: IntoIterator,
    {
        self.attribute(attr.0 | NESTED, |mut message| {
            for item in items {
                message = message.attribute(1 | NESTED, |message| each(message, item));
            }
            message
        })
    }

    /// Appends an attribute's header, what is in it, and the padding.
    fn attribute(mut self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        let mut message = inside(self);
        // Nothing that we send comes near 64 KiB; the kernel would refuse it.
        let length = u16::try_from(message.0.len() - start).unwrap_or(u16::MAX);
        message.patch(start, &length.to_ne_bytes());
        message.pad();
        message
    }

    /// Fills up to a multiple of 4.
    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Overwrites bytes that are there.
    fn patch(&mut self, at: usize, bytes: &[u8]) {
        for (old, new) in self.0.iter_mut().skip(at).zip(bytes) {
            *old = *new;
        }
    }

    /// The message's bytes, with a sequence number and further flags. May be called again: a dump is repeated until it
    /// is whole.
    pub fn seal(&mut self, sequence: u32, flags: u16) -> &[u8] {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let old = self
            .0
            .get(6..8)
            .and_then(|old| old.try_into().ok())
            .map_or(0, u16::from_ne_bytes);
        self.patch(0, &length.to_ne_bytes());
        self.patch(6, &(old | flags).to_ne_bytes());
        self.patch(8, &sequence.to_ne_bytes());
        &self.0
    }

    /// The attributes after a fixed part of this size.
    pub fn after(&self, fixed: usize) -> Attrs<'_> {
        Attrs(self.0.get(HEADER + fixed..).unwrap_or_default())
    }
}

/// The messages in what a socket received, with their headers parsed. Ends at the first wrong length.
pub struct Messages<'a>(pub &'a [u8]);

/// One message that was received.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// The sequence number of the request that it answers.
    pub sequence: u32,
    /// What comes after the header.
    pub body: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Received<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::try_from(u32::read(self.0)?).ok()?;
        let whole = self.0.get(..length)?;
        let message = Received {
            kind: u16::from_ne_bytes(whole.get(4..6)?.try_into().ok()?),
            flags: u16::from_ne_bytes(whole.get(6..8)?.try_into().ok()?),
            sequence: u32::read(whole.get(8..12)?)?,
            body: whole.get(HEADER..)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// Attributes that are being read. Ends at the first wrong length.
#[derive(Clone, Copy, Debug)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?);
        let payload = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & NUMBER, payload))
    }
}

impl<'a> Attrs<'a> {
    /// The first attribute of this kind.
    pub fn get<T: Payload<'a> + ?Sized>(self, attr: Attr<T>) -> Option<T::Out> {
        let mut all = self;
        all.find(|(kind, _)| *kind == attr.0)
            .and_then(|(_, payload)| T::Out::read(payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Some attributes.
    const NAME: Attr<str> = attr(3);
    const MTU: Attr<u32> = attr(4);
    const INFO: Attr<Nest> = attr(18);
    const MARK: Attr<Be32> = attr(5);

    #[test]
    fn what_is_put_is_got() {
        let message = Message::new(16, 5, &[1, 2, 3])
            .put(NAME, "eth0")
            .nest(INFO, |m| m.put(MTU, &1400).put(MARK, &Be32(1)));
        let attrs = message.after(4);
        assert_eq!(attrs.get(NAME).as_deref(), Some("eth0"));
        let inside = attrs.get(INFO).unwrap();
        assert_eq!(
            (inside.get(MTU), inside.get(MARK)),
            (Some(1400), Some(Be32(1)))
        );
        assert_eq!(attrs.get(MTU), None);
        // In network order, whatever ours is.
        assert_eq!(inside.get(attr::<[u8]>(5)), Some(&[0, 0, 0, 1][..]));
    }

    #[test]
    fn the_header() {
        let mut message = Message::new(16, 1, &[9]);
        let message = Messages(message.seal(7, 4)).next().unwrap();
        assert_eq!((message.kind, message.flags, message.sequence), (16, 5, 7));
        assert_eq!(message.body, [9, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            for message in Messages(&bytes) {
                Attrs(message.body).count();
            }
            for (_, payload) in Attrs(&bytes) {
                Attrs(payload).get(INFO).and_then(|inside| inside.get(NAME));
            }
        }
    }
}
