use chassis::ServiceDescription;
use clap::Parser;

/// The settings without which a service can't be built. It is not started.
const FLAGS: [&str; 5] = [
    "service",
    "--database-url",
    "postgres://nobody@localhost/none",
    "--kafka-brokers",
    "localhost",
];

fn configured<C: Parser>() -> C {
    C::try_parse_from(FLAGS).unwrap()
}

/// Returns the contracts of all services. Needs a Tokio runtime.
pub(crate) fn all() -> [ServiceDescription; 4] {
    [
        order::app::build(configured()).describe().unwrap(),
        billing::app::build(configured()).describe().unwrap(),
        notification::app::build(configured()).describe().unwrap(),
        analytics::app::build(configured()).describe().unwrap(),
    ]
}
