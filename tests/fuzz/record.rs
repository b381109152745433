//! The record of a jail, and the plan that it makes.

use std::path::Path;

use crate::plan::Plan;
use crate::record::Record;

/// A record's text.
pub fn record(input: &[u8]) {
    let Some(record) = Record::parse(input) else {
        return;
    };
    // It is written as it was read.
    let text = record.text();
    let again = Record::parse(&text).expect("what was written is a record");
    assert_eq!(again, record);
    assert_eq!(again.text(), text);
    assert!(record.resolv_conf().is_absolute());
    assert!(record.config.root != Path::new("/"));
    // It makes a plan, each step of which can be printed.
    let plan = Plan::new(&record);
    for step in plan.outer.iter().chain(&plan.inner) {
        assert!(!step.act.to_string().is_empty());
    }
}
