/// Returns the badge's class for a status of letters, groups and replays, or for an outcome.
pub(crate) fn badge(status: impl AsRef<str>) -> &'static str {
    match status.as_ref() {
        "dead" | "open" | "regressed" | "failed" => "bad",
        "parked" | "paused" | "held" => "warn",
        "resolved" | "done" | "processed" | "duplicate" | "superseded" => "good",
        "acknowledged" | "replaying" | "running" | "queued" => "accent",
        _ => "",
    }
}
