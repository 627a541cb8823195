//! Keys and operators in files, which are reloaded while the service runs.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use sandbox::testing::eventually;

use crate::house::House;

const PATIENCE: Duration = Duration::from_secs(20);

/// Replaces the text of a file and keeps its modification time.
fn replace(path: &Path, text: &str) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, text).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
}

#[tokio::test]
async fn keys_are_replaced_while_the_service_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let tenants = file("tenants", "first-key=acme\n");
    let operators = file("operators", "# ours\nada=first-token\n");
    let house = House::with(|config| {
        let listed = |path: &Path| format!("@{}", path.display());
        config.tenants(&listed(&tenants)).operator_tokens(&listed(&operators))
    })
    .await;
    let public = async |key| {
        let request = house.anonymous(Method::POST, "/parcels").bearer_auth(key);
        request.json(&serde_json::json!({ "weight": 1 })).send().await.unwrap().status()
    };
    let admin = async |token| {
        let request = house.admin(Method::GET, "/operator").bearer_auth(token);
        request.send().await.unwrap().status()
    };
    assert_eq!(public("first-key").await, 201);
    assert_eq!(admin("first-token").await, 200);

    // An invalid list: the old one stays, and the other file is reloaded all the same.
    replace(&tenants, "no entry\n");
    replace(&operators, "ada=second-token\n");
    house.running.reload();
    eventually("the new token", PATIENCE, async || {
        (admin("second-token").await == 200).then_some(())
    })
    .await;
    assert_eq!(admin("first-token").await, 401);
    assert_eq!(public("first-key").await, 201);

    replace(&tenants, "second-key=acme\n");
    house.running.reload();
    eventually("the new key", PATIENCE, async || (public("second-key").await == 201).then_some(()))
        .await;
    assert_eq!(public("first-key").await, 401);
    // The operator of `OPERATOR_TOKEN` stays, whatever the file holds.
    assert_eq!(admin("operator").await, 200);

    // No reload is requested for this one, and the file's modification time stays.
    replace(&operators, "ada=third-token\n");
    eventually("the third token", PATIENCE, async || {
        (admin("third-token").await == 200).then_some(())
    })
    .await;
}
