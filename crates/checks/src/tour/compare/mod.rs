//! Compares the output of a command with the one on the page.
//!
//! Words, punctuation and plain numbers have to be equal; ids, times, durations and the like only
//! have to be of the same kind ([`token`]). White space is ignored, since the page breaks long
//! lines. `..` on the page stands for any text. An id that appears twice on the page has to be one
//! id in the output, too.

mod flow;
mod stream;
mod token;

use std::collections::HashMap;

use super::page::Shown;

/// Ids of the page, each with its counterpart in this run.
pub(crate) type Ids = HashMap<String, String>;

/// The first difference between the page and an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Line of the page where the difference is.
    pub(crate) line: usize,
    pub(crate) expected: String,
    pub(crate) seen: String,
}

/// Compares an output with the page. If they agree, adds the ids of this run to `ids`.
pub(crate) fn compare(shown: &Shown, output: &str, ids: &mut Ids) -> Result<(), Difference> {
    let Some(start) = flow::start(&shown.text) else {
        return stream::compare(&shown.text, shown.line, output, ids);
    };
    let (head, tree) = flow::split(&shown.text, start);
    let (seen_head, seen_tree) = match flow::start(output) {
        Some(start) => flow::split(output, start),
        None => (output, ""),
    };
    stream::compare(head, shown.line, seen_head, ids)?;
    flow::compare(tree, shown.line + start, seen_tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Shown {
        Shown { line: 10, text: text.into() }
    }

    fn difference(page: &str, output: &str) -> Option<Difference> {
        compare(&shown(page), output, &mut Ids::new()).err()
    }

    const ANSWER: &str = "{\"invoices\":[{\"id\":\"01a21722-78a9-7503-b459-940f90290cde\",\n  \"number\":1,\"total\":900, ..
        \"issued_at\":\"2026-11-26T09:14:24.816959Z\"}],\"next_cursor\":null}\n";

    #[test]
    fn ids_times_and_line_breaks_differ_and_words_and_numbers_do_not() {
        let seen = "{\"invoices\":[{\"id\":\"01b00000-0000-7000-8000-000000000000\",\"number\":1,\"total\":900,\
                    \"currency\":\"EUR\",\"issued_at\":\"2027-01-02T03:04:05Z\"}],\"next_cursor\":null}";
        assert_eq!(difference(ANSWER, seen), None);

        let another_number = difference(ANSWER, &seen.replace(":1,", ":2,")).unwrap();
        assert_eq!(another_number.line, 11);
        assert!(another_number.expected.starts_with("1,\"total\":900"), "{another_number:?}");
        assert!(another_number.seen.starts_with("2,\"total\":900"), "{another_number:?}");
        let no_id = difference(ANSWER, &seen.replace("01b00000-", "")).unwrap();
        assert_eq!(no_id.line, 10);
        let no_cursor = difference(ANSWER, &seen.replace(",\"next_cursor\":null", "")).unwrap();
        assert_eq!(no_cursor.line, 12, "{no_cursor:?}");
    }

    #[test]
    fn nothing_may_follow_unless_the_page_is_cut() {
        let more =
            difference("billing is healed.\n", "billing is healed.\nnotification is healed.\n");
        let more = more.unwrap();
        assert_eq!((more.line, &*more.expected), (10, "the end of the output"));
        assert_eq!(more.seen, "notification is healed.");
        assert_eq!(difference("billing is healed. ..\n", "billing is healed.\nand more\n"), None);
        let missing = difference("billing is healed.\n", "").unwrap();
        assert_eq!(
            (&*missing.expected, &*missing.seen),
            ("billing is healed.", "the end of the output")
        );
    }

    #[test]
    fn an_id_of_the_page_is_one_id() {
        let mut ids = Ids::new();
        let (page, run) =
            ("01a21722-0000-7000-8000-000000000001", "01b00000-0000-7000-8000-00000000000a");
        let other = "01b00000-0000-7000-8000-00000000000b";
        assert_eq!(compare(&shown(page), run, &mut ids), Ok(()));
        assert!(compare(&shown(page), other, &mut ids).is_err());
        assert_eq!(
            compare(&shown(&format!("letter {page}")), &format!("letter {run}"), &mut ids),
            Ok(())
        );
        // Another id of the page must not stand for the same id, either.
        assert!(compare(&shown(&page.replace("001", "002")), run, &mut ids).is_err());
    }

    const FLOW: &str = "\
flow     my-first-order
took     437 ms

     0 ms  order         POST /orders  201                                 70 ms
    73 ms  order         ├ published order.completed 4@0                  127 ms
                         │ │ outbox wait 26 ms
   301 ms  billing       │ ├ billing: processed                            61 ms
   402 ms  analytics     │ └ analytics: processed                          11 ms
    84 ms  order         └ deferred tracking                               55 ms
";

    #[test]
    fn branches_of_a_flow_may_come_in_another_order() {
        let seen = "\
flow     my-first-order
took     1.2 s

     0 ms  order         POST /orders  201                                  5 ms
     4 ms  order         ├ deferred tracking                               55 ms
    73 ms  order         └ published order.completed 0@17                 127 ms
                           │ outbox wait 2 ms
    90 ms  analytics       ├ analytics: superseded, a newer version        11 ms
                           │   had been processed
   301 ms  billing         └ billing: processed                            61 ms
";
        assert_eq!(difference(FLOW, seen), None);
        let elsewhere = seen.replace("billing         └", "billing       └");
        assert!(difference(FLOW, &elsewhere).is_some(), "it hangs from the root");
    }

    #[test]
    fn a_missing_or_changed_branch_of_a_flow_is_named() {
        let missing = FLOW.replace(
            "301 ms  billing       │ ├ billing: processed",
            "301 ms  billing       │ ├ billing: failed",
        );
        let missing = difference(FLOW, &missing).unwrap();
        assert_eq!(missing.line, 16);
        assert!(missing.expected.contains("billing: processed"), "{missing:?}");
        assert!(missing.seen.contains("billing: failed"), "{missing:?}");
        let empty = difference(FLOW, "").unwrap();
        assert_eq!((empty.line, &*empty.expected), (10, "flow     my-first-order"));
        let more = FLOW.to_owned()
            + "    84 ms  order         └ deferred more                                   55 ms\n";
        assert!(difference(FLOW, &more).unwrap().seen.contains("deferred more"));
    }
}
