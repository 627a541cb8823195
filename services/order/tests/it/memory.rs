//! Memory of the process under requests for lists of large orders (100 orders of 100 lines for each
//! of 16 customers).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Client;
use sandbox::testing::{TestSpace, eventually};
use sandbox::{Life, Process};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::app::an_order_with;

const CUSTOMERS: usize = 16;
/// Memory limit of a container (`SERVICE_MEMORY`), in KiB.
const CONTAINER: u64 = 128 * 1024;
/// An eighth of the container's memory, the share that the service takes.
const HTTP_MEMORY: &str = "16777216";

struct Order {
    _process: Process,
    pid: u32,
    address: String,
    pool: PgPool,
}

impl Order {
    async fn start(log: &Path) -> Self {
        let space = TestSpace::new().await;
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let mut command = Command::new(env!("CARGO_BIN_EXE_order"));
        command
            .env("DATABASE_URL", space.database_url())
            .env("KAFKA_BROKERS", "127.0.0.1:1")
            .env("KAFKA_TOPIC_PREFIX", space.topic_prefix())
            .env("TENANTS", "demo-acme=acme,demo-globex=globex")
            .env("HTTP_MEMORY_BYTES", HTTP_MEMORY)
            .args(["--http-addr", &address, "--admin-addr", "127.0.0.1:0"]);
        let process = Process::spawn("order", command, log, Life::WithParent).unwrap();
        let connected = async || TcpStream::connect(&address).await.ok();
        eventually("the service", Duration::from_secs(30), connected).await;
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        Self { pid: process.pid(), _process: process, address, pool }
    }

    /// Places one order of 100 lines and copies it for all customers of both tenants.
    async fn fill(&self) {
        let line = |n| json!({ "sku": format!("{n:0>64}"), "quantity": 1, "unit_price": 100 });
        let lines: Vec<Value> = (0..100).map(line).collect();
        let url = format!("http://{}/orders", self.address);
        let order = an_order_with(json!({ "items": lines }));
        let placed = Client::new().post(url).bearer_auth("demo-acme").json(&order).send().await;
        assert_eq!(placed.unwrap().status(), 201);
        let copy = "insert into orders (id, tenant_id, version, status, customer_email, currency, items, total, created_at)
             select gen_random_uuid(), tenant, 1, 'open', 'c' || customer || '@example.com', currency, items, total, created_at
             from orders, unnest(array['acme', 'globex']) tenant, generate_series(1, $1) customer, generate_series(1, 100)";
        let customers = i32::try_from(CUSTOMERS).unwrap();
        sqlx::query(copy).bind(customers).execute(&self.pool).await.unwrap();
    }

    /// Requests a customer's list and does not read the response.
    async fn ask(&self, key: &str, customer: usize) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(self.address.parse().unwrap()).await.unwrap();
        let head = format!(
            "GET /orders?limit=100&customer_email=c{customer}@example.com HTTP/1.1\r\nhost: o\r\n\
             authorization: Bearer {key}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// Returns the peak memory of the process, in KiB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

#[tokio::test]
async fn readers_of_long_lists_that_read_nothing_do_not_fill_the_process() {
    let logs = tempfile::tempdir().unwrap();
    let order = Order::start(&logs.path().join("order.log")).await;
    order.fill().await;
    let before = order.peak();
    let mut unread = Vec::new();
    for round in 0..12 {
        for customer in 1..=CUSTOMERS {
            let key = if (round + customer) % 2 == 0 { "demo-acme" } else { "demo-globex" };
            unread.push(order.ask(key, customer).await);
        }
        // A list that was cached meanwhile costs no memory to read.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let peak = order.peak();
    println!("resident at most: {before} KiB before, {peak} KiB under the load");
    assert!(peak < CONTAINER, "{before} KiB before, {peak} KiB under the load");
}
