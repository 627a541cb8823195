//! The faults. Each function applies its fault while orders flow, heals it, and returns the
//! evidence that it struck, or an error if it did not.

mod breaker;
mod cancellations;
mod cluster;
mod deleted_topic;
mod full_disk;
mod instances;
mod kills;
mod large_backlog;
mod leaderless;
mod letters;
mod messages;
mod mixed_versions;
mod refusals;
mod sends;
mod servers;
mod slow_broker;
mod statements;
mod transactions;

use futures::future::LocalBoxFuture;

use super::Error;
use super::scene::Scene;
use super::system::Setup;

/// Evidence that the fault struck.
pub(crate) type Evidence = Result<String, Error>;

type Environment = &'static [(&'static str, &'static str)];

/// The shortest session timeout that a broker allows, so that a dead member is removed soon.
const QUICK_SESSION: (&str, &str) = ("KAFKA_PROPERTIES", "session.timeout.ms=6000");

/// A fault, and the environment of the services for it.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// `true` if it is part of `--short`.
    pub(crate) short: bool,
    pub(crate) setup: Setup,
    pub(crate) order: Environment,
    pub(crate) billing: Environment,
    /// Delay of billing's handlers from the first order on, in milliseconds.
    pub(crate) slow_billing: u64,
    /// `true` if a third of the orders is cancelled.
    pub(crate) cancels: bool,
    /// Maximum number of interruptions of notification between a send and its record, after which
    /// the send is repeated.
    pub(crate) resends: u32,
    pub(crate) apply: for<'a> fn(&'a mut Scene) -> LocalBoxFuture<'a, Evidence>,
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! fault {
    ($name:literal, $what:literal, $apply:path $(, setup: $setup:expr)? $(, order: $order:expr)? $(, billing: $billing:expr)? $(, slow_billing: $slow_billing:expr)? $(, cancels: $cancels:expr)? $(, resends: $resends:expr)? $(, short: $short:expr)?) => {{
        #[allow(unused_mut, unused_assignments)]
        const FAULT: Fault = {
            let mut fault = Fault {
                name: $name,
                what: $what,
                short: false,
                setup: Setup::Direct,
                order: &[],
                billing: &[],
                slow_billing: 0,
                cancels: false,
                resends: 0,
                apply: |scene| Box::pin($apply(scene)),
            };
            $(fault.setup = $setup;)?
            $(fault.order = $order;)?
            $(fault.billing = $billing;)?
            $(fault.slow_billing = $slow_billing;)?
            $(fault.cancels = $cancels;)?
            $(fault.resends = $resends;)?
            $(fault.short = $short;)?
            fault
        };
        FAULT
    }};
}

/// All faults, in the order of execution.
pub(crate) const FAULTS: &[Fault] = &[
    fault!("billing-killed-before-commit", "billing dies in a transaction that has its effect",
        kills::billing_before_commit,
        // Offsets are committed each second, and transactions last longer, so an offset that is
        // stored too early shows. Eight transactions begin together; billing dies in the first of
        // the fifth eight, when the others have lasted as long.
        billing: &[("SABOTAGE_DIE", "consumer.before-commit:33")], slow_billing: 3_000),
    fault!("billing-killed-after-commit", "billing dies between the commit and its offset",
        kills::billing_after_commit,
        billing: &[("SABOTAGE_DIE", "consumer.committed:60")]),
    fault!("billing-killed-after-dead-letter", "billing dies between a dead letter and its offset",
        kills::billing_after_dead_letter,
        billing: &[("SABOTAGE_DIE", "consumer.buried:3")]),
    fault!("relay-killed-before-delete", "order dies when its events are both in Kafka and in the outbox",
        kills::relay_before_delete,
        order: &[("SABOTAGE_DIE", "relay.published:20")]),
    fault!("handler-aborts", "a message kills the process that handles it, repeatedly", kills::handler_aborts,
        billing: &[("SABOTAGE_DIE_ON", kills::DEADLY_EVENT), QUICK_SESSION]),
    fault!("order-killed", "order is killed while it takes orders", kills::order_under_load,
        short: true),
    fault!("billing-killed", "billing is killed while it issues invoices", kills::billing_under_load,
        billing: &[QUICK_SESSION], short: true),
    fault!("kafka-stopped", "Kafka is unavailable for 30 s", servers::kafka_stopped),
    fault!("broker-slow", "each answer of Kafka takes about a second, for 20 s", slow_broker::answers_late,
        setup: Setup::KafkaBehindProxy),
    fault!("cluster-leader-killed", "the leader of a busy partition dies before two other brokers have its records",
        cluster::leader_killed, setup: Setup::KafkaCluster),
    fault!("cluster-two-killed", "two of three brokers are dead for 20 s", cluster::two_killed,
        setup: Setup::KafkaCluster),
    fault!("cluster-rolling-restart", "each of three brokers is restarted in turn", cluster::rolling_restart,
        setup: Setup::KafkaCluster),
    fault!("cluster-partition-leaderless", "one partition has no leader for 25 s, and all others have one",
        leaderless::partition_leaderless, setup: Setup::KafkaCluster),
    fault!("cluster-controller-killed", "of three nodes the active controller dies, for 15 s",
        cluster::controller_killed, setup: Setup::KafkaCluster),
    // Postgres is one server for all services, so a completed job may not be recorded as such.
    fault!("postgres-restarted", "Postgres crashes and is unavailable for 8 s", servers::postgres_restarted,
        resends: 1),
    fault!(
        "connections-cut",
        "billing's connections to its database are cut repeatedly",
        servers::connections_cut
    ),
    fault!(
        "database-read-only",
        "billing's database accepts no writes for 20 s",
        refusals::read_only
    ),
    fault!("logins-refused", "billing may not log in for 20 s", refusals::logins_refused),
    fault!(
        "connections-exhausted",
        "billing gets no connection for 20 s",
        refusals::connections_exhausted
    ),
    fault!("rights-revoked", "billing may not write its tables for 20 s", refusals::rights_revoked),
    fault!("disk-full", "the disk of billing's database is full for 20 s", full_disk::fills_up,
        setup: Setup::BillingOnSmallDisk, billing: &[full_disk::CONFLICT_LIMIT]),
    fault!(
        "counter-locked",
        "a row that billing needs is locked for 20 s",
        refusals::counter_locked
    ),
    fault!(
        "statement-kills-backend",
        "a statement of one message ends its own session, each time",
        statements::kills_backend
    ),
    fault!("backlog-larger-than-memory", "billing comes back to more bytes of events than it may hold",
        large_backlog::outgrows_memory, billing: &[large_backlog::MEMORY_BYTES]),
    fault!("orders-cancelled", "a third of the orders is cancelled, and billing is killed while it credits them",
        cancellations::overtake_completions, billing: &[QUICK_SESSION], cancels: true),
    fault!("poison", "records that can't be read, among sound ones", messages::poison,
        short: true),
    fault!("transient-failures", "three of ten attempts fail", messages::transient_failures,
        short: true),
    fault!("breaker-opens", "every message fails, for longer than its retries take",
        breaker::opens_and_closes, billing: &[breaker::PROBE]),
    fault!(
        "relay-frozen",
        "a frozen relay loses its shards to another one",
        instances::relay_frozen
    ),
    fault!(
        "billing-frozen",
        "a zombie: frozen for longer than its session lasts",
        instances::billing_frozen
    ),
    fault!(
        "billing-joins-and-leaves",
        "two, then three instances of billing, then one",
        instances::billing_joins_and_leaves
    ),
    fault!("versions-mixed", "billing of an earlier release beside this one, then alone, then gone",
        mixed_versions::rolled_back_and_forth, setup: Setup::TwoReleases),
    fault!("postgres-frozen", "Postgres is frozen for 15 s", servers::postgres_frozen, resends: 1),
    fault!("handler-slow", "a handler takes longer than max.poll.interval.ms", messages::handler_slow,
        billing: &[("KAFKA_PROPERTIES", "session.timeout.ms=6000,max.poll.interval.ms=6000")]),
    fault!(
        "dead-letters-refused",
        "the dead-letter topic refuses all records",
        messages::dead_letters_refused
    ),
    fault!(
        "letters-not-written",
        "billing may not write its dead letters for a while",
        letters::not_written
    ),
    fault!(
        "letters-replayed",
        "20,000 dead letters are replayed at a rate, by two operators at once, and billing is killed twice",
        letters::replayed_under_kills
    ),
    fault!(
        "letters-without-kafka",
        "Kafka is unavailable while dead letters arrive and are replayed",
        letters::without_kafka
    ),
    fault!(
        "topic-made-anew",
        "a topic that was consumed to its end is deleted, and created again by its owner",
        deleted_topic::recreated
    ),
    fault!(
        "transaction-held-open",
        "a transaction with early ids stays open while the outbox drains",
        transactions::held_open
    ),
    fault!(
        "commits-out-of-order",
        "transactions commit in another order than they got their ids",
        transactions::out_of_order
    ),
    fault!(
        "receivers-fail",
        "the mail server and the webhook target refuse, then do not answer",
        sends::receivers_fail
    ),
    fault!("notification-killed-sending", "notification dies before its e-mails and webhooks are accepted",
        sends::killed_sending, resends: 1),
    fault!("notification-killed-after-sending", "notification dies after its e-mails were accepted",
        sends::killed_after_sending, resends: 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_needs_no_sabotage() {
        for fault in FAULTS.iter().filter(|fault| fault.short) {
            let mut given = fault.order.iter().chain(fault.billing);
            assert!(!given.any(|(name, _)| name.starts_with("SABOTAGE")), "{fault:?}");
        }
    }
}
