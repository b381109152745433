//! A firewall that drops packets which pass through this machine.

use crate::nl::nft::foreign::Dropping;

/// What drops.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Firewall {
    /// Chains of nf_tables.
    pub chains: Vec<Dropping>,
    /// Whether the FORWARD chain of iptables-legacy drops too; kak does not write its tables.
    pub legacy: bool,
}

impl Firewall {
    /// Appends the chains that are new to those that are known.
    pub fn add_to(&mut self, known: &[Dropping]) {
        let mut chains = known.to_vec();
        let is_new = |new: &Dropping| known.iter().all(|old| old.place != new.place);
        chains.extend(self.chains.drain(..).filter(is_new));
        self.chains = chains;
    }

    /// The commands that let a link's packets through iptables-legacy.
    pub fn legacy_cure(link: &str) -> String {
        ["-i", "-o"]
            .map(|way| format!("iptables-legacy -I FORWARD {way} {link} -j ACCEPT"))
            .join(" && ")
    }
}
