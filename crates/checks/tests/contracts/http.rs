//! OpenAPI: one document for each service.

use crate::{committed, services};

#[tokio::test]
async fn the_http_interface_of_each_service_is_as_committed() {
    for description in services::all() {
        committed::compare(&format!("http/{}.json", description.service), &description.http);
    }
}
