//! Lets the jail's packets through somebody else's firewall. What one table accepts another one may still drop, so an
//! accept counts only in the chain that drops: it is put at the head of that, as rules that bear our mark. Nothing else
//! is ever changed there.

use std::fmt;

use super::{Action, Machine, Seen};
use crate::error::{Result, What as _};
use crate::nl::nft::Found;
use crate::nl::nft::foreign::{self, Place, WAYS};
use crate::text::quote;

/// Lets the jail's packets through a chain that drops by default. What may reach the jail is decided by the jail's own
/// table ([`super::nat`]), which the packets pass as well.
pub struct Accept {
    /// The chain.
    pub place: Place,
    /// The outer end of the jail's link.
    pub link: String,
    /// The comment of the rules, by which they are known to be ours.
    pub mark: String,
}

impl Accept {
    /// The rules.
    fn rules(&self) -> foreign::Accept<'_> {
        foreign::Accept {
            place: &self.place,
            link: &self.link,
            mark: &self.mark,
        }
    }
}

impl fmt::Display for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commands = WAYS.map(|way| {
            let (place, rule) = (&self.place, self.rules().text(way));
            format!("insert rule {place} {rule}")
        });
        write!(f, "nft {}", quote(commands.join("; ")))
    }
}

impl Action for Accept {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let what = || format!("nft list chain {}", self.place);
        let found = self.rules().observe(machine.netfilter()?).what(what)?;
        Ok(match found {
            Found::Same => Seen::Done,
            Found::Absent => Seen::Absent,
            Found::Changed | Found::Other => Seen::Torn,
        })
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        self.rules()
            .insert(machine.netfilter()?)
            .what(|| self.to_string())
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        let what = || format!("nft delete rule {} handle ...", self.place);
        self.rules().remove(machine.netfilter()?).what(what)
    }

    fn is_marked(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nl::nft::Family;

    #[test]
    fn one_line_for_a_shell() {
        let place = Place {
            family: Family::Ipv4,
            table: "filter".into(),
            chain: "DOCKER-USER".into(),
        };
        let (link, mark) = ("kak-USER".into(), "kak:USER".into());
        assert_eq!(
            Accept { place, link, mark }.to_string(),
            "nft 'insert rule ip filter DOCKER-USER iifname \"kak-USER\" accept comment \"kak:USER\"; \
             insert rule ip filter DOCKER-USER oifname \"kak-USER\" accept comment \"kak:USER\"'"
        );
    }
}
