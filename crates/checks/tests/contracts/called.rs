//! Every operation is called by an integration test.

use serde_json::Value;

use crate::committed::schemas;

#[test]
#[ignore = "needs the marks of all integration tests: `make test` runs it after them"]
fn every_operation_is_called_by_a_test() {
    let folder = contract::folder().unwrap();
    let mut uncalled = Vec::new();
    for file in std::fs::read_dir(schemas().join("http")).unwrap() {
        let document = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let document: Value = serde_json::from_str(&document).unwrap();
        let title = document["info"]["title"].as_str().unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                if !folder.join(title).join(contract::marker(method, path)).is_file() {
                    uncalled.push(format!("{title}: {} {path}", method.to_uppercase()));
                }
            }
        }
    }
    assert!(uncalled.is_empty(), "no test calls\n{}", uncalled.join("\n"));
}
