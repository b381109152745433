//! Network address translation: one nf_tables table of our own, made whole and dropped whole.

use std::fmt;

use super::{Action, Machine, Seen};
use crate::config::Subnet;
use crate::error::{Result, What as _};
use crate::nl::nft;

/// The jail's packets leave under the machine's address.
pub struct Nat {
    /// The table's name.
    pub table: String,
    /// The jail's addresses.
    pub subnet: Subnet,
    /// The outer end of the jail's link: what goes to the jail itself keeps its address.
    pub link: String,
}

impl Nat {
    /// The table as the wire has it.
    fn table(&self) -> nft::Masquerade<'_> {
        nft::Masquerade {
            table: &self.table,
            source: (self.subnet.base, self.subnet.prefix),
            except_oif: &self.link,
        }
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            subnet,
            link,
        } = self;
        write!(
            f,
            "nft -f - <<'KAK'\n\
             table ip {table} {{\n\
             \tchain postrouting {{\n\
             \t\ttype nat hook postrouting priority srcnat; policy accept;\n\
             \t\tip saddr {subnet} oifname != \"{link}\" masquerade\n\
             \t}}\n\
             }}\n\
             KAK"
        )
    }
}

impl Action for Nat {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let what = || format!("nft list table ip {}", self.table);
        Ok(
            match self.table().observe(machine.netfilter()?).what(what)? {
                nft::Found::Absent => Seen::Absent,
                nft::Found::Same => Seen::Done,
                nft::Found::Other => Seen::Other("a table of this name with other rules".into()),
            },
        )
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        self.table()
            .create(machine.netfilter()?)
            .what(|| format!("nft add table ip {}", self.table))
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        nft::drop_table(machine.netfilter()?, &self.table)
            .what(|| format!("nft delete table ip {}", self.table))
    }
}
