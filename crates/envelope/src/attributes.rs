//! Parses an envelope from the attributes of a binding: checks required ones, bounds texts, and
//! ignores unusable ones.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::{CorrelationId, Envelope, EventId, SPEC_VERSION, TenantId, TextIdError};

/// Maximum length of `source`, `type`, `subject` and `partitionkey`, in bytes. They are stored in
/// indexes, whose rows Postgres limits to a third of a page (2,704 bytes).
pub const MAX_TEXT_BYTES: usize = 512;
/// Maximum length of `traceparent`.
const MAX_TRACEPARENT_BYTES: usize = 128;
/// W3C Trace Context requires to propagate at least 512 characters.
const MAX_TRACESTATE_BYTES: usize = 512;
/// Maximum length of an ignored value in the log.
const MAX_GIVEN_BYTES: usize = 128;

/// Why attributes are not a valid envelope.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// A required attribute is absent or empty.
    #[error("the attribute {0} is missing")]
    Missing(&'static str),
    /// An attribute has an invalid value.
    #[error("the attribute {0} is {1:?}, which is not {2}")]
    Invalid(&'static str, String, &'static str),
    /// An id is malformed.
    #[error("the attribute {0}: {1}")]
    Id(&'static str, TextIdError),
}

/// An optional attribute with an unusable value. The event is read without it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ignored {
    /// Name of the attribute.
    pub attribute: &'static str,
    /// The given value, cut to 128 bytes.
    pub given: String,
}

impl Envelope {
    /// Parses the attributes that `get` returns by name.
    ///
    /// Only the attributes that CloudEvents requires are required: `specversion`, `id`, `source`,
    /// `type`. Unusable values of others are returned with the envelope, to be logged: an unusable
    /// or missing `correlationid` is replaced; an unusable `time`, `sequence`, `causationid` or
    /// trace context is omitted.
    ///
    /// # Errors
    /// Fails for an unusable `tenantid`, because it decides who sees the data, and for a `subject`
    /// or `partitionkey` that is too long to be stored.
    pub fn from_attributes<'a>(
        get: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<(Self, Vec<Ignored>), EnvelopeError> {
        let mut reader = Reader { get, ignored: Vec::new() };
        let spec = reader.required("specversion")?;
        if spec != SPEC_VERSION {
            return Err(EnvelopeError::Invalid("specversion", cut(spec), SPEC_VERSION));
        }
        let id = reader.required("id")?;
        let id = EventId::new(id).map_err(|error| EnvelopeError::Id("id", error))?;
        let correlation_id = reader.usable("correlationid", |text| CorrelationId::new(text).ok());
        let envelope = Self {
            source: stored("source", reader.required("source")?)?,
            event_type: stored("type", reader.required("type")?)?,
            // Near the years 0 and 9999 its offset may lead out of what RFC 3339 can express.
            time: reader.usable("time", |text| {
                let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
                time.checked_to_offset(UtcOffset::UTC).filter(|it| it.year() >= 0)
            }),
            subject: reader.optional("subject").map(|text| stored("subject", text)).transpose()?,
            dataschema: reader.optional("dataschema").map(str::to_owned),
            version: reader.usable("sequence", |text| text.parse().ok().filter(|it| *it >= 1)),
            tenant_id: reader
                .optional("tenantid")
                .map(TenantId::new)
                .transpose()
                .map_err(|error| EnvelopeError::Id("tenantid", error))?,
            correlation_id: correlation_id.unwrap_or_else(|| CorrelationId::for_event(&id)),
            causation_id: reader.usable("causationid", |text| EventId::new(text).ok()),
            partition_key: reader
                .optional("partitionkey")
                .map(|text| stored("partitionkey", text))
                .transpose()?,
            traceparent: reader.usable("traceparent", |text| traceparent(text.to_owned())),
            tracestate: reader.usable("tracestate", |text| tracestate(text.to_owned())),
            id,
        };
        Ok((envelope, reader.ignored))
    }
}

struct Reader<G> {
    get: G,
    ignored: Vec<Ignored>,
}

impl<'a, G: Fn(&str) -> Option<&'a str>> Reader<G> {
    fn optional(&self, name: &'static str) -> Option<&'a str> {
        (self.get)(name).filter(|value| !value.is_empty())
    }

    fn required(&self, name: &'static str) -> Result<&'a str, EnvelopeError> {
        self.optional(name).ok_or(EnvelopeError::Missing(name))
    }

    /// Returns the value if it is usable, and records an unusable one.
    fn usable<T>(
        &mut self,
        attribute: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.optional(attribute)?;
        let value = read(text);
        if value.is_none() {
            self.ignored.push(Ignored { attribute, given: cut(text) });
        }
        value
    }
}

/// Returns a text that can be stored in an index, or fails.
pub(crate) fn stored(name: &'static str, text: &str) -> Result<String, EnvelopeError> {
    if (1..=MAX_TEXT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        let rule = "1 to 512 bytes without control characters";
        Err(EnvelopeError::Invalid(name, cut(text), rule))
    }
}

/// Returns the text if it can be a `traceparent`, whose parts are parsed where it is used.
pub(crate) fn traceparent(text: String) -> Option<String> {
    printable(text, MAX_TRACEPARENT_BYTES)
}

/// Returns the text if it can be a `tracestate`.
pub(crate) fn tracestate(text: String) -> Option<String> {
    printable(text, MAX_TRACESTATE_BYTES)
}

fn printable(text: String, bytes: usize) -> Option<String> {
    let is_printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    (text.len() <= bytes && is_printable).then_some(text)
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_GIVEN_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const REQUIRED: [(&str, &str); 4] = [
        ("specversion", "1.0"),
        ("id", "17"),
        ("source", "https://example.com/warehouse"),
        ("type", "parcel.shipped"),
    ];

    fn read(more: &[(&str, &str)]) -> Result<(Envelope, Vec<Ignored>), EnvelopeError> {
        let attributes: HashMap<&str, &str> =
            REQUIRED.into_iter().chain(more.iter().copied()).collect();
        Envelope::from_attributes(|name| attributes.get(name).copied())
    }

    #[test]
    fn what_cloudevents_requires_is_enough() {
        let (envelope, ignored) = read(&[]).expect("an envelope");
        assert_eq!(ignored, []);
        assert_eq!(envelope.correlation_id.as_str(), "17", "the same for every delivery");
        assert_eq!((envelope.version, envelope.subject, envelope.tenant_id), (None, None, None));
    }

    #[test]
    fn each_required_attribute_is_named_when_it_is_missing() {
        for (name, _) in REQUIRED {
            assert_eq!(read(&[(name, "")]), Err(EnvelopeError::Missing(name)));
        }
    }

    #[test]
    fn what_is_optional_and_unusable_is_ignored_and_told() {
        for (name, given) in [
            ("time", "noon"),
            ("time", "9999-12-31T23:59:59-05:00"),
            ("sequence", "0"),
            ("sequence", "99999999999999999999"),
            ("correlationid", "uuid#7"),
            ("causationid", "a\nb"),
            ("traceparent", &"0".repeat(200)),
            ("tracestate", "ü"),
            ("tracestate", "vendor=a\0b"),
        ] {
            let (envelope, ignored) = read(&[(name, given)]).expect(name);
            let expected = Ignored { attribute: envelope_name(name), given: cut(given) };
            assert_eq!(ignored, [expected]);
            assert_eq!(read(&[]).expect("an envelope").0, envelope, "as if it were not there");
        }
    }

    fn envelope_name(name: &str) -> &'static str {
        let names =
            ["time", "sequence", "correlationid", "causationid", "traceparent", "tracestate"];
        names.into_iter().find(|it| *it == name).expect("a name")
    }

    #[test]
    fn what_is_stored_in_an_index_is_bounded_and_free_of_nul() {
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        for name in ["source", "type", "subject", "partitionkey"] {
            for value in [long.as_str(), "a\0b"] {
                let error = read(&[(name, value)]).expect_err(name);
                assert!(matches!(error, EnvelopeError::Invalid(it, ..) if it == name), "{error}");
            }
        }
        for id in ["x".repeat(257), "a\0b".to_owned()] {
            assert!(matches!(read(&[("id", &id)]), Err(EnvelopeError::Id("id", _))));
        }
        assert!(read(&[("subject", &long[1..])]).is_ok());
    }

    #[test]
    fn a_tenant_that_is_none_is_an_error() {
        assert!(matches!(read(&[("tenantid", "a b")]), Err(EnvelopeError::Id("tenantid", _))));
    }
}
