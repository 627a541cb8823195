//! `show --as kcat`: the record for its original topic, with key and headers
//! (<https://github.com/edenhill/kcat>).

use crate::client::{Bytes, Letter};
use crate::error::Error;
use crate::foreign::ForeignLetter;
use crate::plain::plain;
use crate::shell;

/// Maximum size of a record that kcat sends with default settings.
const LARGE: usize = 900_000;

/// A record to produce.
pub(super) struct Produced<'a> {
    topic: &'a str,
    /// Partition of the original topic. Setting it keeps the order per key, whichever partitioner
    /// is used.
    partition: Option<i64>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl<'a> Produced<'a> {
    pub(super) fn of_letter(letter: &'a Letter) -> Self {
        Self {
            topic: &letter.summary.topic,
            partition: Some(letter.summary.partition.into()),
            key: letter.key.as_ref().map(Bytes::as_slice),
            value: letter.value.as_ref().map(Bytes::as_slice),
            headers: letter.header_bytes().collect(),
        }
    }

    /// Fails if the letter does not contain its original topic.
    pub(super) fn of_foreign(letter: &'a ForeignLetter) -> Result<Self, Error> {
        let topic = letter.origin.topic.as_deref().ok_or_else(|| {
            Error::Refused("no header of the letter tells its original topic".into())
        })?;
        Ok(Self {
            topic,
            partition: letter.origin.partition,
            key: letter.record.key.as_deref(),
            value: letter.record.value.as_deref(),
            headers: letter.own_headers().collect(),
        })
    }

    /// Returns the command. Fails for an empty payload without a key, which kcat can't produce.
    ///
    /// Key and value are passed through standard input, where they may contain any byte. A header
    /// is an argument, so a header with a NUL is left out and named in a comment.
    pub(super) fn command(&self) -> Result<String, Error> {
        let (input, framing) = self.input()?;
        let mut lines = Vec::new();
        let mut options = Vec::new();
        for (name, value) in &self.headers {
            match header(name, *value) {
                Some(option) => options.push(option),
                None => lines.push(format!("# kcat can't send this header: {}", plain(name))),
            }
        }
        let topic = shell::word(self.topic.as_bytes()).unwrap_or_default();
        let partition = self.partition.map(|it| format!(" -p {it}")).unwrap_or_default();
        let large = if input.len() > LARGE {
            format!(" -X message.max.bytes={}", input.len() + 100_000)
        } else {
            String::new()
        };
        lines.push(format!("{} |", shell::print(&input)));
        lines.push(format!(
            "  kcat -P -b \"${{KAFKA_BROKERS:-127.0.0.1:9092}}\" -t {topic}{partition}{framing}{large}"
        ));
        for option in options {
            if let Some(last) = lines.last_mut() {
                last.push_str(" \\");
            }
            lines.push(format!("    -H {option}"));
        }
        Ok(lines.join("\n"))
    }

    /// Returns the input, and the options that tell kcat how key and value are separated.
    fn input(&self) -> Result<(Vec<u8>, String), Error> {
        let (key, value) = (self.key.unwrap_or_default(), self.value.unwrap_or_default());
        // `-Z` turns an empty key or value into null.
        let with_nulls = self.value.is_none();
        let is_lost = self.value.is_some_and(<[u8]>::is_empty) && self.key.is_none()
            || with_nulls && self.key.is_some_and(<[u8]>::is_empty);
        if is_lost {
            return Err(Error::Refused("kcat can't tell an empty key or payload from none".into()));
        }
        let mut input = Vec::new();
        let mut options = String::new();
        if self.key.is_some() || with_nulls {
            let separator = absent_from(&[key], "|");
            options = format!("{options} -K '{separator}'");
            input.extend([key, separator.as_bytes()].concat());
        }
        input.extend(value);
        if input.contains(&b'\n') {
            options = format!("{options} -D '{}'", absent_from(&[&input], "<end>"));
        }
        if with_nulls {
            options.push_str(" -Z");
        }
        Ok((input, options))
    }
}

/// Returns the option for a header. Returns `None` if it can't be an argument.
fn header(name: &str, value: Option<&[u8]>) -> Option<String> {
    if name.is_empty() || name.contains('=') {
        return None;
    }
    let option = match value {
        Some(value) => [name.as_bytes(), b"=", value].concat(),
        None => name.as_bytes().to_vec(),
    };
    shell::word(&option)
}

/// Returns a separator that occurs in none of the texts and begins with `first`.
fn absent_from(texts: &[&[u8]], first: &str) -> String {
    let occurs = |it: &str| {
        texts.iter().any(|text| text.windows(it.len()).any(|window| window == it.as_bytes()))
    };
    let mut separator = first.to_owned();
    let mut number = 0;
    while occurs(&separator) {
        number += 1;
        separator = format!("{first}{number}{first}");
    }
    separator
}

#[cfg(test)]
mod tests {
    use super::*;

    fn produced<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Produced<'a> {
        Produced { topic: "order.completed", partition: Some(5), key, value, headers: Vec::new() }
    }

    /// Runs the command with a `kcat` that prints its arguments and its input.
    fn sent(produced: &Produced<'_>) -> Vec<u8> {
        let command = produced.command().unwrap();
        assert!(!command.replace('\n', "").contains(char::is_control), "{command:?}");
        let script = format!("kcat() {{ printf '<%s>' \"$@\"; cat; }}\n{command}");
        let mut bash = std::process::Command::new("bash");
        let output = bash.args(["-c", &script]).env("KAFKA_BROKERS", "k:1").output().unwrap();
        assert!(output.status.success(), "{command}");
        output.stdout
    }

    #[test]
    fn key_value_and_headers_are_sent_byte_for_byte() {
        let mut record = produced(Some(b"k|\0\xff"), Some(b"it's\n\0\x1b\xff <end>"));
        record.headers = vec![
            ("ce_subject", Some(b"a=b 'c'")),
            ("trace", Some(b"\x1b\xff\n")),
            ("none", None),
            ("empty", Some(b"")),
            ("nul", Some(b"\0")),
        ];
        let expected = [
            &b"<-P><-b><k:1><-t><order.completed><-p><5><-K><|1|><-D><<end>1<end>>"[..],
            b"<-H><ce_subject=a=b 'c'><-H><trace=\x1b\xff\n><-H><none><-H><empty=>",
            b"k|\0\xff|1|it's\n\0\x1b\xff <end>",
        ];
        assert_eq!(sent(&record), expected.concat());
        assert!(record.command().unwrap().starts_with("# kcat can't send this header: nul\n"));
    }

    #[test]
    fn a_tombstone_and_a_record_without_a_key_stay_what_they_are() {
        let with = |key, value| String::from_utf8(sent(&produced(key, value))).unwrap();
        assert!(with(None, Some(b"{}")).ends_with("<-p><5>{}"));
        assert!(with(Some(b"k"), None).ends_with("<-p><5><-K><|><-Z>k|"));
        assert!(with(None, None).ends_with("<-K><|><-Z>|"));
        assert!(with(Some(b""), Some(b"v")).ends_with("<-K><|>|v"));
        assert!(with(Some(b"k"), Some(b"")).ends_with("<-K><|>k|"));
        assert!(produced(None, Some(b"")).command().is_err());
        assert!(produced(Some(b""), None).command().is_err());
    }

    #[test]
    fn a_large_record_raises_the_clients_limit() {
        let value = vec![b'a'; 2_000_000];
        let command = produced(None, Some(&value)).command().unwrap();
        assert!(command.contains("-X message.max.bytes=2100000"));
    }
}
