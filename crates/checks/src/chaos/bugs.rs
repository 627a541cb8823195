//! Tests the suite itself: a bug is patched into a copy of the tree, and a named invariant must
//! turn red.
//!
//! The patches are in `crates/checks/bugs`, one for each entry of [`BUGS`].

use std::path::Path;

use tokio::task::block_in_place;

use super::Error;
use super::faults::FAULTS;
use super::patched_tree::PatchedTree;
use super::trial::Trial;

/// A bug, with the fault and the invariant that reveal it. Its patch is
/// `crates/checks/bugs/<name>.patch`.
#[derive(Debug)]
pub(crate) struct Bug {
    pub(crate) name: &'static str,
    /// Fault under which the bug shows.
    pub(crate) fault: &'static str,
    /// Invariant that turns red.
    pub(crate) invariant: &'static str,
}

/// Bugs that the suite must find.
pub(crate) const BUGS: &[Bug] = &[
    Bug {
        name: "dead-letter-failure-ignored",
        fault: "letters-not-written",
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
    Bug { name: "one-acknowledgement", fault: "cluster-leader-killed", invariant: "one_event_id" },
    Bug {
        name: "publish-before-commit",
        fault: "billing-killed-before-commit",
        invariant: "nothing_uncommitted",
    },
    Bug {
        name: "unavailable-counted",
        fault: "statement-kills-backend",
        invariant: "only_poison_is_dead",
    },
    Bug {
        name: "job-acknowledged-before-it-ran",
        fault: "notification-killed-sending",
        invariant: "every_email_sent",
    },
    Bug {
        name: "webhook-delivered-on-500",
        fault: "receivers-fail",
        invariant: "every_webhook_delivered",
    },
    Bug {
        name: "cancellation-awaits-completion",
        fault: "orders-cancelled",
        invariant: "one_credit_note",
    },
];

/// Seeds one bug, or `all` in turn. Returns `true` if each was found; one that could not be seeded
/// counts as missed.
pub(crate) async fn check_all(
    tree: &PatchedTree,
    name: &str,
    baseline: &Path,
) -> Result<bool, Error> {
    let bugs: Vec<_> = BUGS.iter().filter(|bug| name == "all" || bug.name == name).collect();
    if bugs.is_empty() {
        return Err("there is no such bug; --list shows them".into());
    }
    let mut all_found = true;
    for bug in bugs {
        all_found &= match block_in_place(|| tree.build(bug.name)) {
            Ok(()) => is_found(tree, bug, baseline).await?,
            Err(error) => {
                eprintln!("chaos: {error}");
                false
            }
        };
    }
    Ok(all_found)
}

/// Runs the fault with the programs that have the bug.
async fn is_found(tree: &PatchedTree, bug: &Bug, baseline: &Path) -> Result<bool, Error> {
    let fault = FAULTS.iter().find(|fault| fault.name == bug.fault);
    let fault = fault.ok_or_else(|| format!("there is no fault {}", bug.fault))?;
    let row = Trial { fault, programs: &tree.programs(), baseline }.run().await;
    // A trial that failed, or a fault that did not strike, proves nothing.
    let sound = ["struck", "trial_completed"];
    let sound = sound.iter().all(|name| row.invariants.get(name) == Some(&true));
    let found = sound && row.invariants.get(bug.invariant) == Some(&false);
    let verdict = if found { "found" } else { "MISSED" };
    println!("{verdict:<6} {:<30} should turn {} red", bug.name, bug.invariant);
    println!("       {}", row.line());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    #[test]
    fn each_bug_has_a_patch_and_each_patch_a_bug() {
        let folder = PatchedTree::patches(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let files: BTreeSet<_> = files.map(|name| name.into_string().unwrap()).collect();
        let named: BTreeSet<_> = BUGS.iter().map(|bug| format!("{}.patch", bug.name)).collect();
        assert_eq!(files, named);
    }

    /// Otherwise a change of the quoted code is noticed only by the next `make chaos-bugs`.
    #[test]
    fn each_patch_applies_to_the_code_as_it_is() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folder = PatchedTree::patches(&root);
        let applies = |bug: &&Bug| {
            let patch = folder.join(format!("{}.patch", bug.name));
            let mut git = Command::new("git");
            git.args(["apply", "--check"]).arg(patch).current_dir(&root).status().unwrap().success()
        };
        let stale: Vec<_> = BUGS.iter().filter(|bug| !applies(bug)).map(|bug| bug.name).collect();
        assert_eq!(stale, Vec::<&str>::new());
    }

    #[test]
    fn a_patch_says_which_fault_shows_its_bug_by_which_invariant() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for bug in BUGS {
            let patch = PatchedTree::patches(&root).join(format!("{}.patch", bug.name));
            let text = fs::read_to_string(patch).unwrap();
            let (header, _) = text.split_once("\ndiff --git ").unwrap();
            assert!(header.contains(&format!("fault {},", bug.fault)), "{header}");
            assert!(header.contains(&format!("invariant {} ", bug.invariant)), "{header}");
            assert!(FAULTS.iter().any(|fault| fault.name == bug.fault), "{bug:?}");
        }
    }
}
