//! Tests the proofs themselves: a bug is patched into a copy of the tree, and a named invariant of
//! the fault suite, or a named test, must turn red.
//!
//! The patches are in `crates/checks/bugs`, one for each entry of [`BUGS`].

use std::fmt;
use std::path::Path;

use sandbox::{Console, Servers, ServersOptions, Tools};
use tokio::task::block_in_place;

use super::Error;
use super::faults::FAULTS;
use super::patched_tree::{PatchedTree, TestRun};
use super::trial::Trial;

/// A bug, with the proof that reveals it. Its patch is `crates/checks/bugs/<name>.patch`.
#[derive(Debug)]
pub(crate) struct Bug {
    pub(crate) name: &'static str,
    pub(crate) proof: Proof,
}

/// The check that must fail with the bug.
#[derive(Debug)]
pub(crate) enum Proof {
    /// An invariant of the fault suite, under a fault.
    Invariant { name: &'static str, fault: &'static str },
    /// A test.
    Test(Test),
}

/// A test of the workspace.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) package: &'static str,
    /// Name of the test target; `lib` for the unit tests.
    pub(crate) target: &'static str,
    /// Name of the function, without its module.
    pub(crate) name: &'static str,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invariant { name, fault } => write!(f, "{fault}: {name}"),
            Self::Test(test) => write!(f, "{}: {}", test.package, test.name),
        }
    }
}

const fn under(fault: &'static str, name: &'static str, invariant: &'static str) -> Bug {
    Bug { name, proof: Proof::Invariant { name: invariant, fault } }
}

const fn tested(
    package: &'static str,
    target: &'static str,
    name: &'static str,
    test: &'static str,
) -> Bug {
    Bug { name, proof: Proof::Test(Test { package, target, name: test }) }
}

/// Bugs that the fault suite and the tests must find.
pub(crate) const BUGS: &[Bug] = &[
    under("letters-not-written", "dead-letter-failure-ignored", "every_record_accounted"),
    under("billing-killed-before-commit", "offset-first", "every_record_accounted"),
    under("billing-killed-before-commit", "inbox-outside-transaction", "one_invoice"),
    under("commits-out-of-order", "relay-last-seen", "one_event_id"),
    under("cluster-leader-killed", "one-acknowledgement", "one_event_id"),
    under("cluster-two-killed", "timeout-taken-for-delivery", "one_event_id"),
    under("billing-killed-before-commit", "publish-before-commit", "nothing_uncommitted"),
    under("statement-kills-backend", "unavailable-counted", "only_poison_is_dead"),
    under("notification-killed-sending", "job-acknowledged-before-it-ran", "every_email_sent"),
    under("receivers-fail", "webhook-delivered-on-500", "every_webhook_delivered"),
    under("billing-killed-before-commit", "update-not-published", "one_event_id"),
    under("postgres-restarted", "outage-blames-the-caller", "no_request_failed"),
    under("orders-cancelled", "cancellation-awaits-completion", "one_credit_note"),
    tested(
        "orderflow-billing",
        "it",
        "pooler-accepted",
        "it_does_not_start_behind_a_pooler_that_shares_sessions",
    ),
    tested(
        "orderflow-billing",
        "it",
        "number-for-each-draft",
        "the_same_event_however_often_and_another_of_the_same_order_change_nothing",
    ),
    tested(
        "orderflow-billing",
        "it",
        "second-invoice",
        "the_same_event_however_often_and_another_of_the_same_order_change_nothing",
    ),
    tested(
        "orderflow-billing",
        "it",
        "act-before-its-record",
        "an_act_is_recorded_before_it_is_done_and_done_only_if_recorded",
    ),
    tested(
        "orderflow-chassis",
        "it",
        "tenants-share-a-limit",
        "a_tenant_that_asks_too_much_is_told_when_to_come_back",
    ),
    tested("orderflow-consumer", "it", "duplicate-applied", "a_duplicate_has_no_second_effect"),
    tested(
        "orderflow-consumer",
        "it",
        "parked-key-overtaken",
        "a_key_that_is_retried_keeps_its_order_and_holds_up_nobody_else",
    ),
    tested(
        "orderflow-consumer",
        "it",
        "older-version-applied",
        "the_latest_wins_and_a_gap_is_counted_not_waited_for",
    ),
    tested(
        "orderflow-consumer",
        "it",
        "batch-shares-its-failure",
        "bad_messages_in_a_batch_cost_their_neighbours_nothing",
    ),
    tested(
        "orderflow-consumer",
        "it",
        "breaker-never-opens",
        "a_breaker_opens_and_closes_by_itself",
    ),
    tested(
        "orderflow-consumer",
        "it",
        "scan-skips-other-types",
        "a_probe_during_the_assignment_of_partitions_skips_no_message",
    ),
    tested(
        "orderflow-consumer",
        "it",
        "replay-ignores-inbox",
        "what_was_processed_by_another_way_meanwhile_is_a_duplicate",
    ),
    tested(
        "orderflow-consumer",
        "it",
        "rehearsal-committed",
        "a_rehearsal_says_what_would_happen_and_leaves_nothing",
    ),
    tested(
        "orderflow-consumer",
        "it",
        "lease-not-fenced",
        "an_instance_whose_replay_was_taken_over_writes_nothing_more",
    ),
    tested(
        "orderflow-consumer",
        "lib",
        "budget-not-shared",
        "a_subscription_takes_what_is_free_and_leaves_the_others_their_own",
    ),
    tested(
        "orderflow-defer",
        "it",
        "response-awaits-tasks",
        "the_client_has_its_answer_while_the_task_still_waits_for_it",
    ),
    tested(
        "orderflow-events",
        "schemas",
        "unknown-field-refused",
        "todays_types_read_every_example_and_lose_only_what_they_do_not_know",
    ),
    tested("orderflow-jobs", "it", "sigterm-forgets-running", "a_shutdown_waits_for_what_runs"),
    tested(
        "orderflow-notification",
        "it",
        "email-for-each-event",
        "the_same_event_however_often_and_another_of_the_same_order_send_nothing_more",
    ),
    tested(
        "orderflow-notification",
        "lib",
        "private-address-dialled",
        "only_the_public_internet_is_public",
    ),
    tested("orderflow-ops", "it", "payload-not-escaped", "a_payload_can_not_control_the_terminal"),
    tested(
        "orderflow-order",
        "it",
        "key-not-checked",
        "the_same_request_has_one_effect_and_one_answer",
    ),
    tested("orderflow-order", "it", "list-not-invalidated", "who_has_written_reads_it"),
    tested("orderflow-order", "it", "answer-awaits-relay", "orders_are_taken_while_kafka_is_away"),
    tested("orderflow-order", "it", "tenant-not-compared", "a_tenant_sees_only_what_is_its_own"),
    tested(
        "orderflow-outbox",
        "lib",
        "key-overtaken",
        "whatever_is_refused_events_of_a_key_are_sent_in_order_and_none_is_lost",
    ),
    tested(
        "orderflow-outbox",
        "lib",
        "partition-takes-all",
        "partitions_that_stand_still_leave_room_for_others",
    ),
    tested(
        "orderflow-outbox",
        "lib",
        "schema-not-checked",
        "an_event_that_its_schema_refuses_is_an_error_at_publish",
    ),
    tested(
        "orderflow-outbox",
        "lib",
        "partition-holds-shard",
        "a_partition_that_stands_still_keeps_no_shard_from_being_read_while_another_relay_joins",
    ),
    tested(
        "orderflow-pg",
        "it",
        "newer-schema-refused",
        "a_release_that_is_rolled_back_starts_and_says_once_that_the_schema_is_newer",
    ),
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
    let mut missed = 0;
    for bug in &bugs {
        let (found, seen) = match &bug.proof {
            Proof::Invariant { name, fault } => fails(tree, bug.name, fault, name, baseline).await,
            Proof::Test(test) => fails_in_test(tree, bug.name, test).await,
        }
        .unwrap_or_else(|error| (false, error.to_string()));
        println!("{:<6} {:<30} {}", if found { "found" } else { "MISSED" }, bug.name, bug.proof);
        println!("       {seen}");
        missed += usize::from(!found);
    }
    println!("{} of {} bugs found", bugs.len() - missed, bugs.len());
    Ok(missed == 0)
}

/// Runs a fault with the programs that have the bug. Returns whether the invariant failed, and the
/// row of the report.
async fn fails(
    tree: &PatchedTree,
    bug: &str,
    fault: &str,
    invariant: &str,
    baseline: &Path,
) -> Result<(bool, String), Error> {
    block_in_place(|| tree.build(bug))?;
    let known = FAULTS.iter().find(|known| known.name == fault);
    let fault = known.ok_or_else(|| format!("unknown fault {fault}"))?;
    let row = Trial { fault, programs: &tree.programs(), baseline }.run().await;
    // A trial that failed, or a fault that did not strike, proves nothing.
    let sound = ["struck", "trial_completed"];
    let sound = sound.iter().all(|name| row.invariants.get(name) == Some(&true));
    Ok((sound && row.invariants.get(invariant) == Some(&false), row.line()))
}

/// Runs a test of the tree that has the bug, on servers of its own. Returns whether it failed.
async fn fails_in_test(
    tree: &PatchedTree,
    bug: &str,
    test: &Test,
) -> Result<(bool, String), Error> {
    block_in_place(|| tree.build_test(bug, test))?;
    let tools = Tools::find()?;
    let servers = Servers::start(ServersOptions::default(), &tools, &Console::new()).await?;
    let run = tree.run_test(test, &servers).await;
    servers.stop().await;
    Ok(match run? {
        TestRun::Failed(why) => (true, why),
        TestRun::Passed => (false, "the test passed".to_owned()),
        TestRun::Unclear(why) => (false, format!("no result of the test: {why}")),
    })
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
    fn a_patch_says_what_shows_its_bug() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for bug in BUGS {
            let patch = PatchedTree::patches(&root).join(format!("{}.patch", bug.name));
            let text = fs::read_to_string(patch).unwrap();
            let (header, _) = text.split_once("\ndiff --git ").unwrap();
            let says = |what: &str| assert!(header.contains(what), "{what:?} in {header}");
            match &bug.proof {
                Proof::Invariant { name, fault } => {
                    says(&format!("fault {fault},"));
                    says(&format!("invariant {name} "));
                    assert!(FAULTS.iter().any(|known| known.name == *fault), "{bug:?}");
                }
                Proof::Test(expected) => {
                    says(&format!("the test {} of {},", expected.name, expected.package));
                }
            }
        }
    }
}
