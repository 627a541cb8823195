//! Prometheus scrapes every container that has an admin port.

use std::collections::BTreeSet;

use crate::files::read;

/// Returns the names of the containers in `docker-compose.yml` that run a service.
fn instances(compose: &str) -> BTreeSet<&str> {
    let lines: Vec<_> = compose.lines().collect();
    let named = lines.windows(2).filter_map(|pair| {
        let name = pair[0].strip_prefix("  ")?.split_once(':')?.0;
        let base = pair[1].strip_prefix("    <<: *")?;
        ["service", "billing", "notification"].contains(&base).then_some(name)
    });
    named.collect()
}

#[test]
fn every_instance_of_a_service_is_scraped() {
    let prometheus = read("deploy/prometheus/prometheus.yml");
    let compose = read("docker-compose.yml");
    let instances = instances(&compose);
    assert!(instances.contains("order") && instances.contains("billing-worker"), "{instances:?}");
    let is_scraped = |name: &str| {
        let targets = [format!("[\"{name}:"), format!("names: [{name}]")];
        targets.iter().any(|target| prometheus.contains(target))
    };
    let missing: Vec<_> = instances.iter().filter(|name| !is_scraped(name)).collect();
    assert!(missing.is_empty(), "prometheus.yml does not scrape {missing:?}");
}
