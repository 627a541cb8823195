//! Style sheet, scripts and icon. The address of each contains a digest of its bytes, so that
//! browsers may cache it forever.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ring::digest::{SHA256, digest};

use super::Console;

struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Files that the build script takes from Swagger UI's release.
macro_rules! swagger_ui {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name))
    };
}

static ASSETS: [Asset; 7] = [
    Asset {
        name: "console.css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../../web/console.css"),
    },
    Asset {
        name: "console.js",
        content_type: JAVASCRIPT,
        bytes: include_bytes!("../../web/console.js"),
    },
    // One file, because htmx starts when its script is read, and would not wait for an extension in
    // another file.
    Asset {
        name: "htmx.js",
        content_type: JAVASCRIPT,
        bytes: concat!(
            include_str!("../../web/vendor/htmx.min.js"),
            "\n",
            include_str!("../../web/vendor/hx-sse.min.js")
        )
        .as_bytes(),
    },
    Asset {
        name: "icon.svg",
        content_type: "image/svg+xml",
        bytes: include_bytes!("../../web/icon.svg"),
    },
    Asset {
        name: "swagger-ui.css",
        content_type: "text/css; charset=utf-8",
        bytes: swagger_ui!("swagger-ui.css"),
    },
    Asset {
        name: "swagger-ui.js",
        content_type: JAVASCRIPT,
        bytes: swagger_ui!("swagger-ui-bundle.js"),
    },
    Asset {
        name: "openapi.js",
        content_type: JAVASCRIPT,
        bytes: include_bytes!("../../web/openapi.js"),
    },
];

/// The digests of the assets, in the same order.
static HASHES: LazyLock<[String; ASSETS.len()]> = LazyLock::new(|| ASSETS.each_ref().map(hash));

fn hash(asset: &Asset) -> String {
    let digest = digest(&SHA256, asset.bytes);
    digest.as_ref().iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the address of an asset. The address of an unknown asset is answered with 404.
pub(super) fn address(name: &str) -> String {
    let at = ASSETS.iter().position(|asset| asset.name == name);
    let hash = at.map_or("unknown", |at| &*HASHES[at]);
    format!("/assets/{hash}/{name}")
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/assets/{hash}/{name}", get(asset))
}

async fn asset(Path((hash, name)): Path<(String, String)>) -> Response {
    let found =
        ASSETS.iter().zip(&*HASHES).find(|(asset, known)| asset.name == name && **known == hash);
    match found {
        Some((asset, _)) => {
            let kept = (header::CACHE_CONTROL, "public, max-age=31536000, immutable");
            ([(header::CONTENT_TYPE, asset.content_type), kept], asset.bytes).into_response()
        }
        // A page of an earlier release requests its own assets.
        None => (StatusCode::NOT_FOUND, "There is no such asset.\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_changes_with_the_bytes_and_an_unknown_name_has_none() {
        let addresses = ASSETS.each_ref().map(|asset| address(asset.name));
        assert!(addresses.iter().all(|it| it.starts_with("/assets/") && !it.contains("unknown")));
        assert!(addresses[0] != addresses[1] && address("nothing.js").contains("unknown"));
    }
}
