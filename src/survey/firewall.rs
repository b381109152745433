//! Which firewall chains drop what passes through this machine: those that kak can put rules into, and those it cannot.

use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::config::{Config, link_name};
use crate::error::{Result, What as _, Why};
use crate::facts::Firewall;
use crate::file;
use crate::iptables;
use crate::nl;
use crate::nl::nft::Family;
use crate::nl::nft::foreign;
use crate::step::Machine;
use crate::sys;

/// The tables of iptables-legacy (not by nf_tables) that are in use.
const LEGACY: &str = "/proc/net/ip_tables_names";

/// What drops a jail's packets; nothing without NAT. A `known` chain that is gone is kept: it may come back.
pub fn drops(config: &Config, known: Option<&Firewall>, machine: &mut Machine) -> Result<Firewall> {
    if !config.nat {
        return Ok(Firewall::default());
    }
    let found = look(machine.netfilter()?, &link_name(&config.jail), config.ipv6);
    // A caller that may not look may not change anything either; it is only shown what would be done.
    let mut firewall = found?.unwrap_or_default();
    if let Some(known) = known {
        firewall.add_to(&known.chains);
    }
    Ok(firewall)
}

/// Looks, for a jail whose outer link has this name, with IPv6 or without; none if the kernel does not let us.
pub fn look(socket: &mut nl::Socket, link: &str, ipv6: bool) -> Result<Option<Firewall>> {
    let mut chains = match foreign::dropping(socket) {
        Err(Why::Kernel(Errno::PERM, _)) => return Ok(None),
        other => other.what(|| "nft list ruleset")?,
    };
    chains.retain(|chain| ipv6 || chain.place.family != Family::Ipv6);
    Ok(Some(Firewall {
        chains,
        legacy: legacy_drops(link).unwrap_or(false),
    }))
}

/// Whether the FORWARD chain of iptables-legacy drops a jail's packets; none where that cannot be seen. The kernel is
/// asked only where the table is in use, since asking for it would create it.
fn legacy_drops(link: &str) -> Option<bool> {
    /// How often a table that changes meanwhile is asked for again.
    const ATTEMPTS: usize = 16;
    let names = file::read(Path::new(LEGACY)).ok()?;
    let filter = b"filter";
    names
        .split(|byte| *byte == b'\n')
        .any(|name| name == filter)
        .then_some(())?;
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .ok()?;
    let socket = std::os::fd::AsFd::as_fd(&socket);
    for _ in 0..ATTEMPTS {
        let named = |size: usize| {
            let mut bytes = filter.to_vec();
            bytes.resize(size, 0);
            bytes
        };
        let mut info = named(iptables::INFO);
        sys::iptables_get(socket, sys::IptablesGet::Info, &mut info).ok()?;
        let mut entries = named(iptables::size(&info)?);
        // Its size is part of the question.
        let size = info.get(iptables::INFO - 4..)?;
        entries.splice(
            iptables::NAME..iptables::NAME + size.len(),
            size.iter().copied(),
        );
        match sys::iptables_get(socket, sys::IptablesGet::Entries, &mut entries) {
            Err(Errno::AGAIN) => {}
            other => {
                other.ok()?;
                return iptables::drops(&info, &entries, link);
            }
        }
    }
    None
}
