/// Reserved words of Rust or Postgres, because a module, a type and a table get the name.
const RESERVED: [&str; 105] = [
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
    // Postgres's, for the name of the table: appendix C of its manual.
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "default",
    "desc",
    "distinct",
    "end",
    "except",
    "fetch",
    "from",
    "grant",
    "group",
    "having",
    "initially",
    "intersect",
    "into",
    "leading",
    "limit",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "window",
];

/// Postgres truncates names after 63 bytes, and the indexes of a table have longer names.
const LONGEST: usize = 40;

/// Returns why a text is not allowed as a name for a module and a table.
pub(crate) fn refused(name: &str) -> Option<String> {
    let is_plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
    let begins = name.starts_with(|it: char| it.is_ascii_lowercase());
    if !begins || !name.chars().all(is_plain) || name.contains("__") || name.ends_with('_') {
        return Some(format!(
            "NAME={name} is no identifier: use lower-case words with _ between them, as in order_values"
        ));
    }
    if name.len() > LONGEST {
        return Some(format!("NAME={name} is too long: {LONGEST} characters at most"));
    }
    RESERVED
        .contains(&name)
        .then(|| format!("NAME={name} is a reserved word of Rust or SQL: take another name"))
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
        for name in ["match", "order", "table", "self"] {
            assert!(refused(name).is_some_and(|it| it.contains("reserved")), "{name}");
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
