//! Texts and numbers of lag, for the terminal and for pages.

use std::time::Duration;

use super::group_lag::GroupLag;
use crate::plain::{count, plain};

/// Returns a sentence for each detail that the state does not contain.
pub(crate) fn details(group: &GroupLag) -> Vec<String> {
    let mut details = Vec::new();
    for topic in &group.missing_topics {
        details.push(format!("the topic {} does not exist", plain(topic)));
    }
    if let Some(why) = &group.unknown {
        details.push(plain(why));
    }
    let behind = group.partitions.iter().any(|it| it.messages > 0);
    if group.members == 0 && behind {
        details.push("no consumer has joined it: is its service running?".to_owned());
    }
    if group.lost() > 0 {
        let lost = count(group.lost(), "message was", "messages were");
        details.push(format!("{lost} deleted by retention before it consumed them"));
    }
    if let Some(share) = group.share_of_retention().filter(|share| *share >= 0.5) {
        details
            .push(format!("the oldest has used {:.0} % of its topic's retention", share * 100.0));
    }
    details
}

/// Formats a number with separators: 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats messages a second.
pub(crate) fn rate(messages: f64) -> String {
    if messages < 100.0 { format!("{messages:.1}/s") } else { format!("{messages:.0}/s") }
}

/// Formats a duration in its two largest units: 3m 2s.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{}s", seconds.max(1)),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}
