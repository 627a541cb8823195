/// Reserved words of Rust or Postgres, because a module, a type and a table get the name.
const RESERVED: &[&str] = &[
    // Rust's, for the name of the module.
    "abstract",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "struct",
    "super",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
    // Postgres's that can't name a table: appendix C of its manual, or `pg_get_keywords()` with the
    // categories R and T.
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "end",
    "except",
    "fetch",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "window",
    "with",
];

/// `consumers` is the module of the handlers; `batch` and `fresh` are tables within the statement
/// of a sum.
const GENERATED: &[&str] = &["batch", "consumers", "fresh"];

/// Postgres truncates names after 63 bytes, and the indexes of a table have longer names.
pub(crate) const LONGEST: usize = 40;

/// Returns why a text is not allowed as a name for a module and a table.
pub(crate) fn refused(name: &str) -> Option<String> {
    if !is_identifier(name) {
        return Some(format!(
            "NAME={name} is no identifier: use lower-case words with _ between them, as in order_values"
        ));
    }
    if name.len() > LONGEST {
        return Some(format!("NAME={name} is too long: {LONGEST} characters at most"));
    }
    if GENERATED.contains(&name) {
        return Some(format!("NAME={name} is used within the generated code: take another name"));
    }
    RESERVED
        .contains(&name)
        .then(|| format!("NAME={name} is a reserved word of Rust or SQL: take another name"))
}

/// Returns whether a text consists of lower-case words with `_` between them.
pub(crate) fn is_identifier(text: &str) -> bool {
    let is_plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
    let begins = text.starts_with(|it: char| it.is_ascii_lowercase());
    begins && text.chars().all(is_plain) && !text.contains("__") && !text.ends_with('_')
}

/// Returns whether a name occurs in code, as a whole.
pub(crate) fn occurs(name: &str, code: &str) -> bool {
    code.split(|it: char| !it.is_alphanumeric() && it != '_').any(|word| word == name)
}

/// Returns a name in pascal case: `order_values` becomes `OrderValues`.
pub(crate) fn in_pascal_case(name: &str) -> String {
    let words = name.split(['_', '.']);
    words
        .flat_map(|word| {
            let mut letters = word.chars();
            letters.next().map(|it| it.to_ascii_uppercase()).into_iter().chain(letters)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_lower_case_words() {
        for name in ["a", "order_values", "top10", "a_b_c"] {
            assert_eq!(refused(name), None, "{name}");
        }
        for name in [
            "", "1st", "Order", "a-b", "a__b", "_a", "a_", "grüße", "a.b", "a b", "a;b", "'",
            "../x",
        ] {
            assert!(refused(name).is_some_and(|it| it.contains("no identifier")), "{name}");
        }
        for name in ["match", "order", "table", "self", "left", "current_user", "true"] {
            assert!(refused(name).is_some_and(|it| it.contains("reserved")), "{name}");
        }
        for name in ["consumers", "batch", "fresh"] {
            assert!(refused(name).is_some_and(|it| it.contains("generated code")), "{name}");
        }
        assert!(refused(&"a".repeat(41)).is_some_and(|it| it.contains("too long")));
    }

    #[test]
    fn types_are_in_pascal_case() {
        for (name, expected) in
            [("order_values", "OrderValues"), ("order.completed", "OrderCompleted"), ("a", "A")]
        {
            assert_eq!(in_pascal_case(name), expected);
        }
    }
}
