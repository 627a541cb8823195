//! `show --as curl`: an event for the direct feed of its service, in CloudEvents' binary mode for
//! HTTP.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::client::{Bytes, Letter};
use crate::error::Error;
use crate::shell;

/// Public ports of this repository's services, in compose and with `make local`.
const LOCAL: [(&str, u16); 4] =
    [("order", 8081), ("billing", 8082), ("notification", 8083), ("analytics", 8084)];

/// Characters that are escaped in the value of a header: all except printable ASCII, and also
/// space, quotes and the percent sign (CloudEvents' HTTP binding 1.0.2, section 3.1.3.2).
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Returns the command. Fails if the letter has no payload, because it is then no event.
pub(super) fn command(letter: &Letter, service: &str) -> Result<String, Error> {
    let value = letter.value.as_ref().map(Bytes::as_slice).ok_or_else(|| {
        Error::Refused("the letter has no payload, so it is no event; try --as kcat".into())
    })?;
    let mut lines = Vec::new();
    let mut headers = vec![format!("Content-Type: {}", content_type(letter))];
    for (name, value) in letter.header_bytes() {
        let Some(attribute) = name.strip_prefix("ce_") else { continue };
        let is_name = attribute.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
        match value.and_then(|value| std::str::from_utf8(value).ok()).filter(|_| is_name) {
            Some(value) => {
                let value = utf8_percent_encode(value, ESCAPED);
                headers.push(format!("ce-{attribute}: {value}"));
            }
            None => lines.push(format!(
                "# left out, not the name or text of an attribute: {}",
                crate::plain::plain(name)
            )),
        }
    }
    lines.push(format!("{} |", shell::print(value)));
    lines.push(format!("  curl -i -X POST \"{}/events\" \\", url(service)));
    lines.push("    -H \"Authorization: Bearer ${EVENTS_KEY:?a key of EVENT_SENDERS}\" \\".into());
    for header in headers {
        // No header contains a NUL or a line break: values are escaped, and names are checked.
        let header = shell::word(header.as_bytes()).unwrap_or_default();
        lines.push(format!("    -H {header} \\"));
    }
    lines.push("    --data-binary @-".into());
    Ok(lines.join("\n"))
}

/// Returns the content type of the record, so that structured mode is kept.
fn content_type(letter: &Letter) -> String {
    let content_type = letter.header_bytes().filter(|(name, _)| *name == "content-type").last();
    let content_type = content_type.and_then(|(_, value)| std::str::from_utf8(value?).ok());
    let content_type = content_type.filter(|it| !it.contains(char::is_control));
    content_type.unwrap_or("application/json").to_owned()
}

/// Returns the URL of the service's public port, which the caller may set in the environment.
fn url(service: &str) -> String {
    let variable: String = service.chars().filter(char::is_ascii_alphanumeric).collect();
    let variable = variable.to_ascii_uppercase();
    match LOCAL.iter().find(|(name, _)| *name == service) {
        Some((_, port)) => format!("${{{variable}_URL:-http://127.0.0.1:{port}}}"),
        None => format!("${{SERVICE_{variable}_URL:?the URL of its public port}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::show::letter;
    use super::*;

    /// Runs the command with a `curl` that prints its arguments and its input.
    fn sent(command: &str) -> String {
        let script = format!("curl() {{ printf '<%s>' \"$@\"; cat; }}\n{command}");
        let mut bash = std::process::Command::new("bash");
        let output = bash.args(["-c", &script]).env("EVENTS_KEY", "k").env_remove("BILLING_URL");
        let output = output.output().unwrap();
        assert!(output.status.success(), "{command}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn the_event_is_sent_in_binary_mode() {
        let mut letter = letter();
        letter.value = Some(Bytes::from("{\"it's\": \"100% \u{1b}$HOME\"}".as_bytes().to_vec()));
        let command = command(&letter, "billing").unwrap();
        assert!(!command.replace('\n', "").contains(char::is_control), "{command}");
        let sent = sent(&command);
        for part in [
            "<http://127.0.0.1:8082/events>",
            "<Authorization: Bearer k>",
            "<Content-Type: application/json>",
            "<ce-id: gr%C3%BC%C3%9Fe%20%221%22%20100%25>",
            "<ce-type: order.completed>",
            "<--data-binary><@->{\"it's\": \"100% \u{1b}$HOME\"}",
        ] {
            assert!(sent.contains(part), "{part}: {sent}");
        }
        assert!(!sent.contains("traceparent"), "a header of the hop: {sent}");
    }

    #[test]
    fn a_tombstone_is_no_event() {
        let mut letter = letter();
        letter.value = None;
        assert!(command(&letter, "billing").is_err());
    }

    #[test]
    fn an_unknown_service_needs_a_url() {
        assert_eq!(url("my-depot"), "${SERVICE_MYDEPOT_URL:?the URL of its public port}");
    }
}
