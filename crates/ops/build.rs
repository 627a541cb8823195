//! Extracts Swagger UI's files for the console from the archive of its release.

use std::error::Error;
use std::fs::File;
use std::io::{Cursor, copy};
use std::path::Path;

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;
use zip::result::ZipError;

const FILES: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let out = std::env::var("OUT_DIR")?;
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    let names = archive.file_names().map(|name| Ok(name?.into_owned()));
    let names = names.collect::<Result<Vec<_>, ZipError>>()?;
    for file in FILES {
        let end = format!("/dist/{file}");
        let name = names.iter().find(|name| name.ends_with(&end));
        let name = name.ok_or_else(|| format!("Swagger UI's release has no {file}"))?;
        copy(&mut archive.by_name(name)?, &mut File::create(Path::new(&out).join(file))?)?;
    }
    Ok(())
}
