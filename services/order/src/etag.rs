//! An order's version as an entity tag (RFC 9110, 8.8.3 and 13.1.1).

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;
use chassis::Problem;

/// The `ETag` of a version: strong, since two versions never have the same bytes.
pub(crate) fn of(version: i64) -> String {
    format!("\"{version}\"")
}

/// Which versions a request may change. As an extractor it wants the header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum IfMatch {
    /// `*`: whichever it is.
    Any,
    /// One of these. Weak tags are left out, because they match nothing in a strong comparison.
    OneOf(Vec<String>),
}

/// A field value that is neither `*` nor a list of entity tags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("If-Match must be * or a list of entity tags in double quotes, as the ETag was: \"1\"")]
pub(crate) struct Malformed;

impl IfMatch {
    /// Whether the order may be changed that has this version.
    pub(crate) fn matches(&self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.contains(&of(version)),
        }
    }

    /// None without the header; several field lines are one list.
    fn read(headers: &HeaderMap) -> Result<Option<Self>, Malformed> {
        let mut lines = Vec::new();
        for line in headers.get_all(IF_MATCH) {
            lines.push(line.to_str().map_err(|_| Malformed)?);
        }
        if lines.is_empty() { Ok(None) } else { Self::parse(&lines.join(",")).map(Some) }
    }

    fn parse(list: &str) -> Result<Self, Malformed> {
        let blank = [' ', '\t'];
        if list.trim_matches(blank) == "*" {
            return Ok(Self::Any);
        }
        let (mut tags, mut any) = (Vec::new(), false);
        // Empty elements are allowed between commas (RFC 9110, 5.6.1.2).
        let mut rest = list.trim_start_matches([' ', '\t', ',']);
        while !rest.is_empty() {
            let (weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |rest| (true, rest));
            let inner = quoted.strip_prefix('"').ok_or(Malformed)?;
            let end = inner.find('"').ok_or(Malformed)?;
            // A blank is no character of a tag.
            if inner[..end].contains(blank) {
                return Err(Malformed);
            }
            any = true;
            if !weak {
                tags.push(quoted[..end + 2].to_owned());
            }
            let after = inner[end + 1..].trim_start_matches(blank);
            if !after.is_empty() && !after.starts_with(',') {
                return Err(Malformed);
            }
            rest = after.trim_start_matches([' ', '\t', ',']);
        }
        if any { Ok(Self::OneOf(tags)) } else { Err(Malformed) }
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::read(&parts.headers)
            .map_err(|malformed| Problem::bad_request(malformed.to_string()))?
            .ok_or_else(|| {
                Problem::precondition_required(
                    "If-Match is missing: send the ETag of the version that you have seen",
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_tags_is_read() {
        for (list, versions) in [
            ("\"1\"", &[1][..]),
            (" \"1\" ,\t\"3\"", &[1, 3]),
            (",\"2\",,", &[2]),
            ("\"a,b\", \"2\"", &[2]),
            ("W/\"1\"", &[]),
            ("W/\"1\", \"2\"", &[2]),
            ("\"\"", &[]),
            ("*", &[1, 2, 3, 4]),
        ] {
            let condition = IfMatch::parse(list).expect(list);
            let matched: Vec<i64> = (1..5).filter(|n| condition.matches(*n)).collect();
            assert_eq!(matched, versions, "{list}");
        }
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        for list in [
            "",
            " ",
            ",",
            "1",
            "\"1",
            "1\"",
            "\"1\" \"2\"",
            "\"1\"x",
            "w/\"1\"",
            "\"1 2\"",
            "*, \"1\"",
        ] {
            assert_eq!(IfMatch::parse(list), Err(Malformed), "{list:?}");
        }
    }

    #[test]
    fn field_lines_are_one_list() {
        let mut headers = HeaderMap::new();
        assert_eq!(IfMatch::read(&headers), Ok(None));
        headers.append(IF_MATCH, "\"1\"".parse().expect("a value"));
        headers.append(IF_MATCH, "\"4\"".parse().expect("a value"));
        let condition = IfMatch::read(&headers).expect("well formed").expect("there");
        assert!(condition.matches(1) && condition.matches(4) && !condition.matches(2));
    }
}
