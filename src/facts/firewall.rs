//! A firewall that drops what passes through this machine.

use crate::nl::nft::foreign::Dropping;

/// What drops.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Firewall {
    /// Chains of nf_tables.
    pub chains: Vec<Dropping>,
    /// The FORWARD chain of iptables without nf_tables, whose tables kak does not write.
    pub legacy: bool,
}

impl Firewall {
    /// Puts the chains that are new behind those that are known.
    pub fn add_to(&mut self, known: &[Dropping]) {
        let mut chains = known.to_vec();
        let is_new = |new: &Dropping| known.iter().all(|old| old.place != new.place);
        chains.extend(self.chains.drain(..).filter(is_new));
        self.chains = chains;
    }

    /// What lets a link's packets through iptables without nf_tables.
    pub fn legacy_cure(link: &str) -> String {
        ["-i", "-o"]
            .map(|way| format!("iptables-legacy -I FORWARD {way} {link} -j ACCEPT"))
            .join(" && ")
    }
}
