use std::fmt;

use super::access::Session;
use super::{Notice, assets};

const NOT_LIVE: &str = "-";

/// Data for the layout of every page.
pub(crate) struct Page {
    pub(crate) title: String,
    pub(crate) area: Area,
    /// The operator's name. `None` without sign-in.
    pub(crate) operator: Option<String>,
    /// Whether there is a session to sign out of.
    pub(crate) is_signed_in: bool,
    /// Result of the last action.
    pub(crate) notice: Option<Notice>,
    /// The last signal before this page was read.
    seen: String,
}

/// An area of the console in the navigation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Area {
    Overview,
    Failures,
    Flow,
    Lag,
    Jobs,
    History,
    Api,
    /// No area, for errors and the sign-in.
    None,
}

/// A link in the navigation.
pub(crate) struct Link {
    pub(crate) path: &'static str,
    pub(crate) title: &'static str,
    area: Area,
}

impl Area {
    const LINKS: [Link; 7] = [
        Link { path: "/", title: "Overview", area: Self::Overview },
        Link { path: "/failures", title: "Failures", area: Self::Failures },
        Link { path: "/flow", title: "Flow", area: Self::Flow },
        Link { path: "/lag", title: "Lag", area: Self::Lag },
        Link { path: "/jobs", title: "Jobs", area: Self::Jobs },
        Link { path: "/history", title: "History", area: Self::History },
        Link { path: "/api", title: "API", area: Self::Api },
    ];
}

impl Page {
    pub(super) fn new(title: &str, area: Area, session: &Session, seen: String) -> Self {
        Self {
            title: title.to_owned(),
            area,
            operator: session.name().map(ToOwned::to_owned),
            is_signed_in: session.is_signed_in(),
            notice: session.notice().cloned(),
            seen,
        }
    }

    /// Returns a page before the sign-in: without navigation and signals.
    pub(super) fn outside(title: &str) -> Self {
        let title = title.to_owned();
        Self {
            title,
            area: Area::None,
            operator: None,
            is_signed_in: false,
            notice: None,
            seen: String::new(),
        }
    }

    /// Returns a page with navigation and without signals, for errors.
    pub(super) fn bare(title: &str) -> Self {
        Self { seen: NOT_LIVE.to_owned(), ..Self::outside(title) }
    }

    pub(crate) fn links(&self) -> &'static [Link] {
        if self.seen.is_empty() { &[] } else { &Area::LINKS }
    }

    pub(crate) fn is_at(&self, link: &Link) -> bool {
        self.area == link.area
    }

    /// Returns the address of the page's stream of signals. Returns an empty text if it has none.
    pub(crate) fn live(&self) -> String {
        match &*self.seen {
            "" | NOT_LIVE => String::new(),
            seen => format!("/live?seen={seen}"),
        }
    }

    /// Returns the address of an asset, which changes with its bytes.
    #[allow(clippy::unused_self)] // Templates call it on the page.
    pub(crate) fn asset(&self, name: &str) -> impl fmt::Display + use<> {
        assets::address(name)
    }
}
