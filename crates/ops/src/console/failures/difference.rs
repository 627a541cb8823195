//! The difference that an edit makes, line by line.

/// Number of unchanged lines to show around a change.
const AROUND: usize = 2;
/// Maximum number of pairs of lines to compare. Beyond it, all lines are shown as removed and
/// added.
const PAIRS: usize = 1_000_000;

/// State of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LineState {
    Same,
    Removed,
    Added,
    /// Unchanged lines are left out here.
    LeftOut,
}

/// A line with its state.
pub(crate) type Line<'a> = (LineState, &'a str);

impl LineState {
    /// Returns the sign before the line.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Same => "  ",
            Self::Removed => "− ",
            Self::Added => "+ ",
            Self::LeftOut => "… ",
        }
    }

    /// Returns its class in the style sheet.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Same | Self::LeftOut => "soft",
            Self::Removed => "removed",
            Self::Added => "added",
        }
    }
}

/// Returns the lines that differ, with a few around them.
pub(crate) fn difference<'a>(before: &'a str, after: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let first = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let (old_rest, new_rest) = (&old[first..], &new[first..]);
    let pairs = old_rest.iter().rev().zip(new_rest.iter().rev());
    let last = pairs.take_while(|(old, new)| old == new).count();
    let same =
        |lines: &[&'a str]| lines.iter().map(|it| (LineState::Same, *it)).collect::<Vec<_>>();
    let middle = changed(&old_rest[..old_rest.len() - last], &new_rest[..new_rest.len() - last]);
    let all = [same(&old[..first]), middle, same(&old[old.len() - last..])].concat();
    shortened(&all)
}

/// Compares lines. The first and the last lines differ.
fn changed<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let removed = |lines: &[&'a str]| lines.iter().map(|it| (LineState::Removed, *it)).collect();
    let added = |lines: &[&'a str]| lines.iter().map(|it| (LineState::Added, *it)).collect();
    if old.len().saturating_mul(new.len()) > PAIRS {
        return [removed(old), added(new)].concat::<Line<'a>>();
    }
    let common = common(old, new);
    let (mut lines, mut at, mut to) = (Vec::new(), 0, 0);
    while at < old.len() && to < new.len() {
        if old[at] == new[to] {
            lines.push((LineState::Same, old[at]));
            (at, to) = (at + 1, to + 1);
        } else if common[at + 1][to] >= common[at][to + 1] {
            lines.push((LineState::Removed, old[at]));
            at += 1;
        } else {
            lines.push((LineState::Added, new[to]));
            to += 1;
        }
    }
    [lines, removed(&old[at..]), added(&new[to..])].concat()
}

/// Returns the length of the longest common subsequence of the rests, for each pair of positions
/// where they may begin.
fn common(old: &[&str], new: &[&str]) -> Vec<Vec<u32>> {
    let mut common = vec![vec![0; new.len() + 1]; old.len() + 1];
    for at in (0..old.len()).rev() {
        for to in (0..new.len()).rev() {
            common[at][to] = if old[at] == new[to] {
                common[at + 1][to + 1] + 1
            } else {
                common[at + 1][to].max(common[at][to + 1])
            };
        }
    }
    common
}

/// Removes unchanged lines that are far from any change.
fn shortened<'a>(lines: &[Line<'a>]) -> Vec<Line<'a>> {
    let is_near = |at: usize| {
        let (from, to) = (at.saturating_sub(AROUND), (at + AROUND + 1).min(lines.len()));
        lines[from..to].iter().any(|(state, _)| *state != LineState::Same)
    };
    let mut short: Vec<Line<'a>> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if is_near(at) {
            short.push(*line);
        } else if short.last().is_none_or(|(state, _)| *state != LineState::LeftOut) {
            short.push((LineState::LeftOut, ""));
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(before: &str, after: &str) -> Vec<String> {
        let lines = difference(before, after).into_iter();
        lines.map(|(state, line)| format!("{}{line}", state.sign())).collect()
    }

    #[test]
    fn lines_that_differ_are_shown_with_those_around_them() {
        let before = "{\n  a\n  b\n  c\n  d\n  old\n  e\n}";
        let after = "{\n  a\n  b\n  c\n  d\n  new\n  more\n  e\n}";
        let lines = ["… ", "    c", "    d", "−   old", "+   new", "+   more", "    e", "  }"];
        assert_eq!(shown(before, after), lines);
    }

    #[test]
    fn changes_far_from_each_other_leave_what_is_between() {
        let before: Vec<_> = (0..20).map(|it| it.to_string()).collect();
        let mut after = before.clone();
        after[0] = "x".to_owned();
        after.remove(18);
        let lines = shown(&before.join("\n"), &after.join("\n"));
        assert_eq!(lines, ["− 0", "+ x", "  1", "  2", "… ", "  16", "  17", "− 18", "  19"]);
    }

    #[test]
    fn nothing_everything_and_too_much_are_shown_too() {
        assert_eq!(shown("a", "a"), ["… "]);
        assert_eq!(shown("", "a"), ["+ a"]);
        assert_eq!(shown("a\nb", "c"), ["− a", "− b", "+ c"]);
        let many = |of: &str| vec![of; 2_000].join("\n");
        assert_eq!(shown(&many("a"), &many("b")).len(), 4_000);
    }
}
