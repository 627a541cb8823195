//! Parses the page into commands and the output that it shows for them.

use super::Error;

/// The variant of the system that a command is for, or another mark of its fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// `sh`: runs on each variant.
    Every,
    /// `sh local`: runs with `make local`.
    Local,
    /// `sh docker`: runs in containers.
    Docker,
    /// `sh extra`: takes minutes, or needs another program.
    Extra,
}

/// A block of commands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) mark: Mark,
    /// Number of the first line of its code.
    pub(crate) line: usize,
    pub(crate) code: String,
    pub(crate) shown: Option<Shown>,
}

/// The output that the page shows for a block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Number of the first line of its text.
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Block {
    /// Returns the first line of its code, cut to the width of a progress line.
    pub(crate) fn title(&self) -> String {
        let first = self.code.lines().next().unwrap_or_default();
        let is_cut = first.chars().count() > 60;
        let start: String = first.chars().take(60).collect();
        if is_cut { format!("{start}..") } else { start }
    }

    /// Returns `true` if it changes nothing, so that it can be repeated until the system has
    /// settled.
    pub(crate) fn only_reads(&self) -> bool {
        const CHANGES: [&str; 11] = [
            " -d ", " -X ", "--data", "place", "$(", "make ", "--yes", "rehearse", "kill",
            " stop ", " start ",
        ];
        !CHANGES.iter().any(|change| self.code.contains(change)) && !self.code.contains("()")
    }
}

/// Returns the blocks of a page in their order. A `text` block belongs to the commands above it if
/// only empty lines are between them.
///
/// Fails if a block has no end, or if a fence of commands has an unknown mark.
pub(crate) fn parse(page: &str) -> Result<Vec<Block>, Error> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = (1..).zip(page.lines());
    let mut follows_commands = false;
    while let Some((number, line)) = lines.next() {
        let Some(fence) = line.strip_prefix("```") else {
            follows_commands &= line.trim().is_empty();
            continue;
        };
        let text = body(&mut lines).ok_or(Error::NoEnd { line: number })?;
        match fence {
            "text" => {
                if let Some(block) = blocks.last_mut().filter(|_| follows_commands) {
                    block.shown = Some(Shown { line: number + 1, text });
                }
                follows_commands = false;
            }
            _ if fence == "sh" || fence.starts_with("sh ") => {
                let mark = mark(fence).ok_or(Error::Mark { line: number, fence: fence.into() })?;
                blocks.push(Block { mark, line: number + 1, code: text, shown: None });
                follows_commands = true;
            }
            _ => follows_commands = false,
        }
    }
    Ok(blocks)
}

fn mark(fence: &str) -> Option<Mark> {
    Some(match fence {
        "sh" => Mark::Every,
        "sh local" => Mark::Local,
        "sh docker" => Mark::Docker,
        "sh extra" => Mark::Extra,
        _ => return None,
    })
}

/// Returns the lines up to the closing fence, or `None` if there is none.
fn body<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Option<String> {
    let mut text = String::new();
    for (_, line) in lines {
        if line == "```" {
            return Some(text);
        }
        text.push_str(line);
        text.push('\n');
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A page\n\n```sh docker\nmake up\n```\n\n```sh\ncurl -s a\n```\n\n```text\nits\noutput\n```\n\n\
                        ```sh extra\nmake bench\n```\n\nAnother text:\n\n```text\nan example\n```\n";

    #[test]
    fn output_belongs_to_the_commands_right_above_it() {
        let blocks = parse(PAGE).unwrap();
        let read: Vec<_> = blocks.iter().map(|it| (it.mark, it.line, it.shown.is_some())).collect();
        assert_eq!(
            read,
            [(Mark::Docker, 4, false), (Mark::Every, 8, true), (Mark::Extra, 17, false)]
        );
        assert_eq!(blocks[1].code, "curl -s a\n");
        assert_eq!(blocks[1].shown, Some(Shown { line: 12, text: "its\noutput\n".into() }));
    }

    #[test]
    fn an_unknown_mark_and_a_block_without_an_end_are_refused() {
        let unknown = parse("\n```sh podman\nmake up\n```\n");
        assert!(matches!(unknown, Err(Error::Mark { line: 2, .. })), "{unknown:?}");
        let open = parse("```sh\nmake up\n");
        assert!(matches!(open, Err(Error::NoEnd { line: 1 })), "{open:?}");
    }

    #[test]
    fn only_what_changes_nothing_is_repeated() {
        let of = |code: &str| Block { mark: Mark::Every, line: 1, code: code.into(), shown: None };
        for reads in [
            "curl -s \"localhost:8082/invoices?order_id=$ORDER\" -H 'authorization: Bearer demo-acme'\n",
            "sleep 1; deploy/system orderflow flow \"$BROKEN\"\n",
            "deploy/replay-dlq.sh --dry-run\n",
        ] {
            assert!(of(reads).only_reads(), "{reads}");
        }
        for changes in [
            "curl -s localhost:8081/orders -d '{}'\n",
            "curl -sS -X PUT localhost:9182/faults\n",
            "BROKEN=$(place); sleep 14\n",
            "place() {\n  true\n}\n",
            "deploy/replay-dlq.sh --yes\n",
            "make heal\n",
            "deploy/system dlq rehearse --group billing || true\n",
            "deploy/system dlq rehearse --group billing || true\n",
            "deploy/system stop notification\n",
        ] {
            assert!(!of(changes).only_reads(), "{changes}");
        }
    }

    #[test]
    fn the_tour_itself_can_be_read() {
        let blocks = parse(include_str!("../../../../docs/tour.md")).unwrap();
        assert!(blocks.iter().filter(|it| it.shown.is_some()).count() > 15, "{blocks:?}");
        for mark in [Mark::Every, Mark::Local, Mark::Docker, Mark::Extra] {
            assert!(blocks.iter().any(|it| it.mark == mark), "{mark:?}");
        }
    }
}
