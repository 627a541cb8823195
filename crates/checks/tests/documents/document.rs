use std::collections::HashMap;
use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::Finding;

/// The checked parts of a Markdown file.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) path: String,
    pub(crate) links: Vec<Link>,
    /// Anchors of its headings, as GitHub generates them.
    pub(crate) anchors: Vec<String>,
    /// Code spans, each with its line.
    pub(crate) spans: Vec<(usize, String)>,
    /// Lines of code blocks, with their numbers.
    pub(crate) code: Vec<(usize, String)>,
}

/// A link or an image.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) target: String,
    /// The text, if it consists of one code span.
    pub(crate) code: Option<String>,
}

impl Document {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
        let mut reader = Reader::new(path, text);
        for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
            reader.read(event, &range);
        }
        reader.document
    }

    /// Returns the folder that its relative links start from.
    pub(crate) fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Returns `true` if it describes former releases, whose files and commands may be gone.
    pub(crate) fn is_history(&self) -> bool {
        self.path == "CHANGELOG.md"
    }

    pub(crate) fn finding(&self, line: usize, what: String) -> Finding {
        Finding { file: self.path.clone(), line, what }
    }
}

struct Reader<'a> {
    text: &'a str,
    document: Document,
    heading: Option<String>,
    taken: HashMap<String, usize>,
    in_code: bool,
    link: Option<Link>,
    /// `true` if the link's text has more than a code span.
    is_prose: bool,
}

impl<'a> Reader<'a> {
    fn new(path: &str, text: &'a str) -> Self {
        let document = Document {
            path: path.to_owned(),
            links: Vec::new(),
            anchors: Vec::new(),
            spans: Vec::new(),
            code: Vec::new(),
        };
        let (heading, link, taken) = (None, None, HashMap::new());
        Self { text, document, heading, taken, in_code: false, link, is_prose: false }
    }

    fn line(&self, range: &Range<usize>) -> usize {
        self.text[..range.start].matches('\n').count() + 1
    }

    fn read(&mut self, event: Event<'_>, range: &Range<usize>) {
        let line = self.line(range);
        match event {
            Event::Start(Tag::Heading { .. }) => self.heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => self.end_heading(),
            Event::Start(Tag::CodeBlock(_)) => self.in_code = true,
            Event::End(TagEnd::CodeBlock) => self.in_code = false,
            Event::Start(Tag::Link { dest_url, .. }) => {
                self.link = Some(Link { line, target: dest_url.into_string(), code: None });
                self.is_prose = false;
            }
            Event::End(TagEnd::Link) => self.end_link(),
            Event::Start(Tag::Image { dest_url, .. }) => {
                let target = dest_url.into_string();
                self.document.links.push(Link { line, target, code: None });
            }
            Event::Html(html) | Event::InlineHtml(html) => self.read_html(line, &html),
            Event::Code(code) => self.read_code(line, &code),
            Event::Text(text) => self.read_text(line, &text),
            _ => {}
        }
    }

    fn end_heading(&mut self) {
        let slug = slug(&self.heading.take().unwrap_or_default());
        let before = self.taken.entry(slug.clone()).or_default();
        let anchor = if *before == 0 { slug } else { format!("{slug}-{before}") };
        *before += 1;
        self.document.anchors.push(anchor);
    }

    fn end_link(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        link.code = link.code.filter(|_| !self.is_prose);
        self.document.links.push(link);
    }

    fn read_code(&mut self, line: usize, code: &str) {
        if let Some(heading) = &mut self.heading {
            heading.push_str(code);
        }
        if let Some(link) = &mut self.link {
            link.code = Some(code.to_owned());
        }
        self.document.spans.push((line, code.to_owned()));
    }

    fn read_text(&mut self, line: usize, text: &str) {
        if self.in_code {
            let lines = text.lines().enumerate().map(|(at, it)| (line + at, it.to_owned()));
            self.document.code.extend(lines);
        }
        if let Some(heading) = &mut self.heading {
            heading.push_str(text);
        }
        self.is_prose = true;
    }

    /// Reads the attributes that name a file. `<picture>` has one for dark and one for light pages.
    fn read_html(&mut self, line: usize, html: &str) {
        for attribute in ["src=\"", "srcset=\"", "href=\""] {
            for (at, _) in html.match_indices(attribute) {
                let value = &html[at + attribute.len()..];
                let target = value.split('"').next().unwrap_or_default().to_owned();
                self.document.links.push(Link { line, target, code: None });
            }
        }
    }
}

/// Returns the anchor that GitHub gives a heading.
fn slug(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|it| it.is_alphanumeric() || [' ', '-', '_'].contains(it));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}
