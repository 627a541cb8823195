use std::fmt::{self, Write as _};
use std::io::{IsTerminal, Write as _};

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::span_ids::context_of;

/// Format of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Readable text.
    Text,
    /// No output, for tests that only need spans.
    Silent,
}

impl LogFormat {
    /// Returns `Text` if the standard output is a terminal, and `Json` otherwise.
    pub fn fitting_stdout() -> Self {
        if std::io::stdout().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Prefixes of fields that only traces show: they would make up most of a log line of a message or
/// a request.
const OTEL: [&str; 7] = ["otel.", "messaging.", "http.", "server.", "url.", "db.", "cloudevents."];

/// Stores each span's fields, so that log lines within the span can show them.
pub(crate) struct SpanFields;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanFields {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        // Most spans have none, such as those of statements.
        if !fields.0.is_empty()
            && let Some(span) = context.span(id)
        {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(fields) = extensions.get_mut::<Fields>() {
            return values.record(fields);
        }
        let mut fields = Fields::default();
        values.record(&mut fields);
        if !fields.0.is_empty() {
            extensions.insert(fields);
        }
    }

    /// Copies the ids of the request that deferred a task to the task's span, so that its log lines
    /// have them.
    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.span_scope(follows).into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.add_missing(of_span);
            }
        }
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        match extensions.get_mut::<Fields>() {
            Some(own) => own.add_missing(&fields),
            None => extensions.insert(fields),
        }
    }
}

/// Writes each event as a line on standard output.
pub(crate) struct Lines {
    service: &'static str,
    format: LogFormat,
}

impl Lines {
    pub(crate) fn new(service: &'static str, format: LogFormat) -> Self {
        Self { service, format }
    }

    /// Returns the line without its end. Returns `None` if the format has no output.
    fn render(&self, line: &Line<'_>) -> Option<String> {
        let text = match self.format {
            LogFormat::Json => self.json(line),
            LogFormat::Text => Self::text(line),
            LogFormat::Silent => return None,
        };
        Some(escape_controls(text))
    }

    fn json(&self, line: &Line<'_>) -> String {
        let mut object = Map::new();
        let text = |text: &str| Value::String(text.to_owned());
        object.insert("time".into(), text(&line.time));
        object.insert("level".into(), text(line.level.as_str()));
        object.insert("service".into(), text(self.service));
        object.insert("target".into(), text(line.target));
        if let Some(trace) = &line.trace_id {
            object.insert("trace_id".into(), text(trace));
        }
        for (name, value) in &line.fields.0 {
            // A field of the event must not look like the line's own.
            let is_taken = object.contains_key(*name);
            let name = if is_taken { format!("field.{name}") } else { (*name).to_owned() };
            object.insert(name, value.clone());
        }
        Value::Object(object).to_string()
    }

    fn text(line: &Line<'_>) -> String {
        let clock = line.time.get(11..23).unwrap_or(&line.time);
        let mut text = format!("{clock} {:5} ", line.level);
        let message = line.fields.0.iter().find(|(name, _)| *name == "message");
        text.push_str(message.and_then(|(_, value)| value.as_str()).unwrap_or_default());
        for (name, value) in line.fields.0.iter().filter(|(name, _)| *name != "message") {
            let _ = match value {
                // A line break in a value must not look like another log line.
                Value::String(value) if !value.contains(char::is_control) => {
                    write!(text, "  {name}={value}")
                }
                value => write!(text, "  {name}={value}"),
            };
        }
        if let Some(trace) = &line.trace_id {
            let _ = write!(text, "  trace_id={trace}");
        }
        text
    }
}

/// Escapes control characters as JSON does. A terminal would execute them, and fields contain text
/// of callers. `serde_json` escapes only those below U+0020.
fn escape_controls(line: String) -> String {
    // Most lines are only searched. In UTF-8, U+0080 to U+009F begin with 0xC2.
    if !line.bytes().any(|byte| byte.is_ascii_control() || byte == 0xc2) {
        return line;
    }
    let mut escaped = String::with_capacity(line.len());
    for character in line.chars() {
        if character.is_control() {
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

struct Line<'a> {
    time: String,
    level: Level,
    target: &'a str,
    fields: Fields,
    trace_id: Option<String>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.add_missing(of_span);
            }
        }
        let line = Line {
            time: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            fields,
            trace_id: context.event_span(event).and_then(|span| trace_id(&span.id())),
        };
        let Some(line) = self.render(&line) else { return };
        // `println!` would panic if the disk is full or the reader is gone; no work may end because
        // of that.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

/// Returns the id of the trace that a span belongs to, or `None` if the span is disabled.
pub(crate) fn trace_id(span: &Id) -> Option<String> {
    let context = tracing::dispatcher::get_default(|dispatch| context_of(span, dispatch))?;
    context.is_valid().then(|| context.trace_id().to_string())
}

/// Fields of a span or an event, in their order. Errors are stored with their whole chain of
/// causes.
#[derive(Default)]
pub(crate) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// Sets a field, unless only traces show it.
    fn set<V: Into<Value>>(&mut self, field: &Field, value: impl FnOnce() -> V) {
        let name = field.name();
        if OTEL.iter().any(|prefix| name.starts_with(prefix)) {
            return;
        }
        let value = value().into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    /// Returns the value of a text field.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.as_str())
    }

    /// Adds the fields of an outer span. Fields of inner spans come first and take precedence.
    fn add_missing(&mut self, outer: &Self) {
        for (name, value) in &outer.0 {
            if !self.0.iter().any(|(known, _)| known == name) {
                self.0.push((name, value.clone()));
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, || format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, || value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, || value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, || value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, || value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, || value);
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        self.set(field, || crate::error_chain(error));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn line(fields: Vec<(&'static str, Value)>) -> Line<'static> {
        Line {
            time: "2026-11-23T10:15:30.123456789Z".into(),
            level: Level::INFO,
            target: "warehouse",
            fields: Fields(fields),
            trace_id: Some("4bf92f".into()),
        }
    }

    /// Stores the contents of an event's log line.
    struct CapturingLayer(Arc<Mutex<Vec<(&'static str, Value)>>>);

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for CapturingLayer {
        fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
            let mut kept = self.0.lock().expect("no panic");
            for span in context.event_scope(event).into_iter().flatten() {
                if let Some(fields) = span.extensions().get::<Fields>() {
                    kept.extend(fields.0.clone());
                }
            }
        }
    }

    #[test]
    fn a_span_that_follows_another_shows_what_that_one_does() {
        let kept = Arc::default();
        let subscriber =
            Registry::default().with(SpanFields).with(CapturingLayer(Arc::clone(&kept)));
        tracing::subscriber::with_default(subscriber, || {
            let request = tracing::info_span!("request", correlation_id = "c-1", task = "none");
            let inner = tracing::info_span!(parent: &request, "inner", tenant_id = "acme");
            let deferred = tracing::info_span!(parent: None, "deferred", task = "tell");
            deferred.follows_from(&inner);
            drop((request, inner));
            deferred.in_scope(|| tracing::info!("told"));
        });
        let kept = kept.lock().expect("no panic");
        let value = |name| kept.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        assert_eq!(value("correlation_id"), Some(&"c-1".into()));
        assert_eq!(value("tenant_id"), Some(&"acme".into()));
        assert_eq!(value("task"), Some(&"tell".into()), "its own field holds");
    }

    #[test]
    fn a_json_line_has_the_fields_flat() {
        let fields = vec![("message", "placed".into()), ("correlation_id", "c-1".into())];
        let json: Value =
            serde_json::from_str(&Lines::new("warehouse", LogFormat::Json).json(&line(fields)))
                .expect("JSON");
        assert_eq!(json["message"], "placed");
        assert_eq!(json["correlation_id"], "c-1");
        assert_eq!(json["trace_id"], "4bf92f");
        assert_eq!(json["service"], "warehouse");
    }

    #[test]
    fn a_field_does_not_pass_for_a_member_of_the_line() {
        let fields = vec![("service", "billing".into()), ("trace_id", "forged".into())];
        let line = Lines::new("ops", LogFormat::Json).json(&line(fields));
        let json: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&json["service"], &json["field.service"]), (&"ops".into(), &"billing".into()));
        assert_eq!(json["trace_id"], "4bf92f");
    }

    #[test]
    fn a_readable_line_is_one_line() {
        let fields = vec![("message", "placed".into()), ("name", "a\nERROR forged".into())];
        assert_eq!(
            Lines::text(&line(fields)),
            "10:15:30.123 INFO  placed  name=\"a\\nERROR forged\"  trace_id=4bf92f"
        );
    }

    #[test]
    fn a_line_moves_no_cursor_of_a_terminal() {
        let path = "/\u{9b}2J\u{7f}\u{1b}[31m£";
        let render = |format| {
            let fields = vec![("message", "not\u{85}found".into()), ("path", path.into())];
            Lines::new("ops", format).render(&line(fields)).expect("a line")
        };
        for line in [render(LogFormat::Json), render(LogFormat::Text)] {
            assert!(!line.contains(char::is_control), "{line:?}");
            assert!(line.contains(r"not\u0085found"), "{line}");
            assert!(line.contains(r#""/\u009b2J\u007f\u001b[31m£""#), "{line}");
        }
        let json: Value = serde_json::from_str(&render(LogFormat::Json)).expect("JSON");
        assert_eq!(json["path"], path);
    }
}
