//! The suite is tested too: a bug is seeded, and a named invariant must turn red.

use std::path::Path;

use super::Error;
use super::faults::FAULTS;
use super::trial::Trial;

/// A bug that is seeded by `SABOTAGE_BUG`, and who finds it.
#[derive(Debug)]
pub(crate) struct Bug {
    pub(crate) name: &'static str,
    /// The fault under which it shows.
    pub(crate) fault: &'static str,
    /// What turns red.
    pub(crate) invariant: &'static str,
}

/// All that the suite is known to find.
pub(crate) const BUGS: &[Bug] = &[
    Bug {
        name: "dead-letter-failure-ignored",
        fault: "dead-letters-refused",
        invariant: "every_record_accounted",
    },
    Bug {
        name: "offset-first",
        fault: "billing-killed-before-commit",
        invariant: "every_record_accounted",
    },
    Bug {
        name: "inbox-outside-transaction",
        fault: "billing-killed-before-commit",
        invariant: "one_invoice",
    },
    Bug { name: "relay-last-seen", fault: "commits-out-of-order", invariant: "one_event_id" },
    Bug {
        name: "publish-before-commit",
        fault: "billing-killed-before-commit",
        invariant: "nothing_uncommitted",
    },
    Bug { name: "unavailable-counted", fault: "connections-cut", invariant: "only_poison_is_dead" },
];

/// Seeds one bug, or `all` in turn. True: each was found.
pub(crate) async fn hunt(programs: &Path, name: &str) -> Result<bool, Error> {
    let bugs: Vec<_> = BUGS.iter().filter(|bug| name == "all" || bug.name == name).collect();
    if bugs.is_empty() {
        return Err("there is no such bug; --list shows them".into());
    }
    let mut all_found = true;
    for bug in bugs {
        let fault = FAULTS.iter().find(|fault| fault.name == bug.fault);
        let fault = fault.ok_or_else(|| format!("there is no fault {}", bug.fault))?;
        let row = Trial { fault, programs, bug: Some(bug.name) }.run().await;
        // A trial that broke down, or a fault that did not strike, shows nothing.
        let sound = ["struck", "trial_completed"];
        let sound = sound.iter().all(|name| row.invariants.get(name) == Some(&true));
        let found = sound && row.invariants.get(bug.invariant) == Some(&false);
        let verdict = if found { "found" } else { "MISSED" };
        println!("{verdict:<6} {:<30} should turn {} red", bug.name, bug.invariant);
        println!("       {}", row.line());
        all_found &= found;
    }
    Ok(all_found)
}
