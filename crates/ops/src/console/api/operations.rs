/// An operation of the admin API.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// The names of the parameters of the query or the body.
    pub(super) takes: &'static str,
    pub(super) does: &'static str,
    /// Whether it requires an operator's token.
    pub(super) for_operators: bool,
    /// The equivalent command.
    pub(super) command: &'static str,
}

const fn read(path: &'static str, takes: &'static str, does: &'static str) -> Operation {
    Operation { method: "GET", path, takes, does, for_operators: false, command: "" }
}

const fn change(
    method: &'static str,
    path: &'static str,
    takes: &'static str,
    does: &'static str,
) -> Operation {
    Operation { method, path, takes, does, for_operators: true, command: "" }
}

impl Operation {
    const fn secret(self) -> Self {
        Self { for_operators: true, ..self }
    }

    const fn by(self, command: &'static str) -> Self {
        Self { command, ..self }
    }
}

const LETTERS: &str = "group status type reason fingerprint tenant subject correlation_id event_id from to limit cursor";

pub(super) const OPERATIONS: [Operation; 33] = [
    read("/healthz", "", "Whether the process is alive"),
    read("/readyz", "", "Whether it is ready, and why not").by("orderflow status"),
    read("/metrics", "", "Metrics for Prometheus"),
    read("/operator", "", "The name of the token's operator").secret(),
    read("/subscriptions", "", "Subscriptions with their state, breakers and instances")
        .by("orderflow subscriptions"),
    change(
        "POST",
        "/subscriptions/{group}/pause",
        "why",
        "Pauses the subscription on all instances",
    )
    .by("orderflow subscriptions pause"),
    change(
        "POST",
        "/subscriptions/{group}/resume",
        "why",
        "Resumes the subscription and closes its breakers",
    )
    .by("orderflow subscriptions resume"),
    change("POST", "/subscriptions/{group}/drop", "why", "Drops the rows of an abandoned group")
        .by("orderflow subscriptions drop"),
    read("/dead-letters", LETTERS, "Dead letters, newest first").by("orderflow dlq list"),
    read("/dead-letters/groups", "group limit cursor", "Dead letters by reason, with counts")
        .by("orderflow dlq groups"),
    read("/dead-letters/{id}", "", "A dead letter with payload, headers and attempts")
        .secret()
        .by("orderflow dlq show"),
    change(
        "PUT",
        "/dead-letters/groups/{fingerprint}",
        "status note",
        "Acknowledges, ignores or reopens a reason",
    )
    .by("orderflow dlq groups"),
    change("POST", "/dead-letters/discard", "group, ids or filter, why", "Discards letters")
        .by("orderflow dlq discard"),
    change(
        "POST",
        "/dead-letters/restore",
        "group, ids or filter, why",
        "Restores discarded letters",
    )
    .by("orderflow dlq restore"),
    change(
        "PUT",
        "/dead-letters/{id}/payload",
        "value why",
        "Edits the payload; the old one is kept",
    )
    .by("orderflow dlq edit"),
    change(
        "POST",
        "/replays",
        "group, ids or filter, rehearse rate ramp stop_after force why",
        "Rehearses or replays letters",
    )
    .by("orderflow dlq replay"),
    read("/replays", "group limit cursor", "Replays and rehearsals, newest first")
        .by("orderflow dlq replays"),
    read("/replays/{id}", "", "A replay with its outcomes and reasons of failures")
        .by("orderflow dlq replays show"),
    read("/replays/{id}/letters", "outcome limit cursor", "Its letters, each with its outcome"),
    change("POST", "/replays/{id}/pause", "why", "Pauses it").by("orderflow dlq replays pause"),
    change("POST", "/replays/{id}/resume", "why", "Resumes it").by("orderflow dlq replays resume"),
    change("POST", "/replays/{id}/cancel", "why", "Cancels it").by("orderflow dlq replays cancel"),
    read("/flows/{id}", "events", "Steps of a flow, by correlation id, subject or event id")
        .by("orderflow flow"),
    read("/jobs", "kind state subject until limit cursor", "Jobs, newest first")
        .by("orderflow jobs list"),
    read("/jobs/{id}", "", "A job with payload and errors").secret().by("orderflow jobs show"),
    change(
        "POST",
        "/jobs/retry",
        "ids or filter, why",
        "Retries failed jobs, with all their attempts",
    )
    .by("orderflow jobs retry"),
    change("POST", "/jobs/discard", "ids or filter, why", "Removes failed and waiting jobs")
        .by("orderflow jobs discard"),
    change("POST", "/jobs/{id}/retry", "", "Retries a failed job"),
    change("DELETE", "/jobs/{id}", "", "Removes a failed or waiting job"),
    read("/acts", "by limit cursor", "Acts of operators, newest first").by("orderflow acts"),
    change("POST", "/erasures", "customer_email", "Erases the data of a customer"),
    read("/faults", "", "Injected faults, with FAULTS=on"),
    change("PUT", "/faults", "subscription fault", "Injects a fault, with FAULTS=on"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Returns the text up to the parenthesis that closes a call.
    fn arguments(text: &str) -> &str {
        let mut open = 1;
        let end = text.find(|it: char| {
            open += i32::from(it == '(') - i32::from(it == ')');
            open == 0
        });
        &text[..end.unwrap()]
    }

    /// Returns the methods and paths of the admin port, from its source.
    fn routes() -> BTreeSet<(String, String)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chassis/src/admin");
        let mut routes = BTreeSet::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for call in source.split(".route(").skip(1) {
                let (_, call) = arguments(call).split_once('"').unwrap();
                let (path, handlers) = call.split_once('"').unwrap();
                for method in ["get", "post", "put", "delete"] {
                    if handlers.contains(&format!("{method}(")) {
                        routes.insert((method.to_uppercase(), path.to_owned()));
                    }
                }
            }
        }
        // It only explains that the id is missing.
        routes.retain(|(_, path)| path != "/flows/");
        routes
    }

    #[test]
    fn the_operations_are_the_routes_of_the_admin_port() {
        let listed = OPERATIONS.iter().map(|it| (it.method.to_owned(), it.path.to_owned()));
        assert_eq!(listed.collect::<BTreeSet<_>>(), routes());
    }
}
