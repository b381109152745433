//! The way out of the machine: the link that the default route of a family leaves by. Of several, the kernel uses the
//! one with the smallest metric; so does this.

use crate::facts::Uplink;
use crate::nl::link::Link;
use crate::nl::route::{self, Route};

/// The way out according to a family's routes.
pub fn of(routes: &[Route], links: &[Link]) -> Option<Uplink> {
    let ways = routes.iter().filter(|route| {
        route.prefix == 0 && route.kind == route::RTN_UNICAST && route.table == route::RT_TABLE_MAIN
    });
    let index = ways.min_by_key(|route| route.metric)?.oif?;
    let link = links.iter().find(|link| link.index == index)?;
    Some(Uplink {
        name: link.name.clone(),
        mtu: link.mtu,
    })
}
