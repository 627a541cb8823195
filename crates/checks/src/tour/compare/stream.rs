use super::token::{Token, fragments, tokens};
use super::{Difference, Ids};

const END: &str = "the end of the output";

/// Compares a text of the page, which begins at `line`, with an output.
pub(super) fn compare(
    page: &str,
    line: usize,
    output: &str,
    ids: &mut Ids,
) -> Result<(), Difference> {
    let seen = tokens(output);
    let fragments = fragments(page);
    let last = fragments.len() - 1;
    let mut known = ids.clone();
    let mut at = 0;
    for (number, (start, text)) in fragments.iter().enumerate() {
        let wanted = tokens(text);
        let found = match number {
            // The first fragment has no gap before it.
            0 => Found::at(&wanted, &seen, 0, &known),
            // The last fragment has no gap after it.
            _ if number == last && !wanted.is_empty() => Found::at_end(&wanted, &seen, at, &known),
            _ => Found::first(&wanted, &seen, at, &known),
        };
        if found.matched < wanted.len() {
            let missing = start + wanted[found.matched].at;
            return Err(Difference {
                line: line + page[..missing].matches('\n').count(),
                expected: rest_of_line(page, missing),
                seen: seen
                    .get(found.start + found.matched)
                    .map_or(END.into(), |it| rest_of_line(output, it.at)),
            });
        }
        at = found.start + found.matched;
        known = found.ids;
    }
    let is_cut = last > 0 && tokens(fragments[last].1).is_empty();
    if let Some(more) = seen.get(at).filter(|_| !is_cut) {
        return Err(Difference {
            line: line + page.trim_end().matches('\n').count(),
            expected: END.into(),
            seen: rest_of_line(output, more.at),
        });
    }
    *ids = known;
    Ok(())
}

/// Where a fragment was found, and how many of its tokens match.
struct Found {
    start: usize,
    matched: usize,
    ids: Ids,
}

impl Found {
    fn at(wanted: &[Token<'_>], seen: &[Token<'_>], start: usize, known: &Ids) -> Self {
        let mut ids = known.clone();
        let pairs = wanted.iter().zip(&seen[start.min(seen.len())..]);
        let matched = pairs.take_while(|(wanted, seen)| is_same(wanted, seen, &mut ids)).count();
        Self { start, matched, ids }
    }

    /// Returns the first place where all of it matches, or else the one where most of it does.
    fn first(wanted: &[Token<'_>], seen: &[Token<'_>], from: usize, known: &Ids) -> Self {
        let mut best = Self::at(wanted, seen, from, known);
        for start in from + 1..=seen.len() {
            if best.matched == wanted.len() {
                break;
            }
            let next = Self::at(wanted, seen, start, known);
            if next.matched > best.matched {
                best = next;
            }
        }
        best
    }

    /// Returns the end of the output if the fragment matches there, or else the place where most of
    /// it does.
    fn at_end(wanted: &[Token<'_>], seen: &[Token<'_>], from: usize, known: &Ids) -> Self {
        let start = seen.len().saturating_sub(wanted.len());
        let end = (start >= from).then(|| Self::at(wanted, seen, start, known));
        end.filter(|it| it.matched == wanted.len())
            .unwrap_or_else(|| Self::first(wanted, seen, from, known))
    }
}

fn is_same(wanted: &Token<'_>, seen: &Token<'_>, ids: &mut Ids) -> bool {
    match wanted.kind {
        None => seen.kind.is_none() && wanted.text == seen.text,
        Some("id") if seen.kind == Some("id") => match ids.get(wanted.text) {
            Some(known) => known == seen.text,
            None if ids.values().any(|taken| taken == seen.text) => false,
            None => {
                ids.insert(wanted.text.into(), seen.text.into());
                true
            }
        },
        kind => kind == seen.kind,
    }
}

/// Returns the rest of a line from a byte on, cut to the width of a screen.
fn rest_of_line(text: &str, at: usize) -> String {
    let rest = text[at..].lines().next().unwrap_or_default();
    let cut: String = rest.chars().take(100).collect();
    if cut.len() < rest.len() { format!("{cut} ..") } else { cut.trim_end().to_owned() }
}
