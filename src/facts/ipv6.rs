//! The facts for `--ipv6`, and their lines in a record.

use std::ffi::{OsStr, OsString};

use super::Uplink;
use crate::config::Subnet;

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ipv6 {
    /// The jail's addresses.
    pub subnet: Subnet,
    /// Whether new links have no IPv6 until it is enabled on them.
    pub off: bool,
    /// The way out of the machine.
    pub uplink: Option<Uplink>,
    /// The links that have to go on accepting router advertisements, which by default a machine that forwards ignores.
    pub heard: Vec<String>,
    /// The links whose forwarding was on before that of all links was.
    pub routers: Vec<String>,
}

impl Ipv6 {
    /// The lines of a record.
    pub fn lines(&self) -> Vec<(&'static str, Vec<String>)> {
        let off = if self.off { "off" } else { "on" };
        let mut lines = vec![("ipv6", vec![self.subnet.to_string(), off.into()])];
        if let Some(Uplink { name, mtu }) = &self.uplink {
            lines.push(("ipv6-uplink", vec![name.clone(), mtu.to_string()]));
        }
        let one = |key, links: &[String]| -> Vec<_> {
            let line = |link: &String| (key, vec![link.clone()]);
            links.iter().map(line).collect()
        };
        lines.extend(one("ipv6-heard", &self.heard));
        lines.extend(one("ipv6-router", &self.routers));
        lines
    }

    /// Takes in one line of a record; none if it is malformed.
    pub fn take(
        found: &mut Option<Self>,
        key: &str,
        value: &OsStr,
        more: Option<&OsString>,
    ) -> Option<()> {
        let value = value.to_str()?;
        match (key, more, found) {
            ("ipv6", Some(off), found @ None) => {
                *found = Some(Self {
                    subnet: Subnet::read(value).filter(|subnet| subnet.base.is_ipv6())?,
                    off: match off.to_str()? {
                        "off" => true,
                        "on" => false,
                        _ => return None,
                    },
                    uplink: None,
                    heard: Vec::new(),
                    routers: Vec::new(),
                });
            }
            ("ipv6-uplink", Some(mtu), Some(found)) => {
                let mtu = mtu.to_str()?.parse().ok()?;
                let name = link_name(value)?;
                found.uplink = Some(Uplink { name, mtu });
            }
            ("ipv6-heard", None, Some(found)) => found.heard.push(link_name(value)?),
            ("ipv6-router", None, Some(found)) => found.routers.push(link_name(value)?),
            _ => return None,
        }
        Some(())
    }
}

/// A link's name, which becomes part of a path.
fn link_name(word: &str) -> Option<String> {
    let plain = !word.is_empty() && !word.contains('/') && word != "." && word != "..";
    plain.then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back() {
        let uplink = Uplink {
            name: "eth0".into(),
            mtu: 1400,
        };
        let ours = Ipv6 {
            subnet: Subnet::read("fd12:3456:789a:bcde::/64").unwrap(),
            off: true,
            uplink: Some(uplink),
            heard: vec!["eth0".into(), "wlan0".into()],
            routers: vec!["default".into()],
        };
        let mut found = None;
        for (key, values) in ours.lines() {
            let mut values = values.iter().map(OsString::from);
            let (value, more) = (values.next().unwrap(), values.next());
            Ipv6::take(&mut found, key, &value, more.as_ref()).unwrap();
        }
        assert_eq!(found.as_ref(), Some(&ours));
        for (key, value, more) in [
            ("ipv6", "fd00::/64", Some("on")),
            ("ipv6-heard", "../x", None),
            ("ipv6-router", "..", None),
            ("ipv6-uplink", "eth0", Some("x")),
            ("ipv6-news", "x", None),
        ] {
            let more = more.map(OsString::from);
            let taken = Ipv6::take(&mut found, key, OsStr::new(value), more.as_ref());
            assert_eq!(taken, None, "{key}");
        }
        for (value, off) in [("10.0.0.0/24", "on"), ("fd00::/64", "maybe"), ("x", "on")] {
            let taken = Ipv6::take(&mut None, "ipv6", OsStr::new(value), Some(&off.into()));
            assert_eq!(taken, None, "{value}");
        }
    }
}
