//! resolv.conf.

use std::sync::LazyLock;

use crate::facts::resolvers::{loopbacks, nameservers};
use crate::record::Record;

/// A minimal jail's record.
static JAIL: LazyLock<Record> = LazyLock::new(|| {
    let text = include_bytes!("seeds/record/bare");
    Record::parse(text).expect("it is a record")
});

/// A resolv.conf, which becomes a jail's through its record.
pub fn resolv(input: &[u8]) {
    let found = nameservers(input);
    let inside = loopbacks(input);
    assert!(
        inside
            .iter()
            .all(|address| found.contains(address) && address.is_loopback())
    );
    let expected = found.iter().filter(|address| address.is_loopback());
    assert!(expected.eq(&inside));
    // Each is found once, and is also found in a text with nothing else.
    for (n, address) in found.iter().enumerate() {
        assert!(!found[..n].contains(address));
        assert_eq!(
            nameservers(format!("nameserver {address}\n").as_bytes()),
            [*address]
        );
    }
    // A line means the same whatever the other lines are.
    let mut each = Vec::new();
    for line in input.split(|byte| *byte == b'\n') {
        let one = nameservers(line);
        assert!(one.len() <= 1);
        assert!(one.is_empty() || line.starts_with(b"nameserver"));
        each.extend(
            one.into_iter()
                .filter(|address| !each.contains(address))
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(each, found);
    // The copy has every byte, and so no nameserver that the original has not.
    let mut record = JAIL.clone();
    record.facts.resolvers = input.to_vec();
    let again = Record::parse(&record.text()).expect("what was written is a record");
    assert_eq!(again.facts.resolvers, input);
    assert_eq!(nameservers(&again.facts.resolvers), found);
}
