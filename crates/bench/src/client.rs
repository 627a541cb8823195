//! A minimal HTTP/1.1 client with one kept connection. It shares the cores with the measured
//! service, so it must cost little.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::Fallible;

/// A connection to a local port.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) async fn connect(port: u16) -> Fallible<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request. Returns the status and the body of the response.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Fallible<(u16, Vec<u8>)> {
        self.0.write_all(request).await?;
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        let status = line.split(' ').nth(1).ok_or("no HTTP")?.parse()?;
        let mut length = 0;
        loop {
            line.clear();
            if self.0.read_line(&mut line).await? <= 2 {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        Ok((status, body))
    }
}

/// Returns the request that places and completes an order.
pub(crate) fn order_request() -> Vec<u8> {
    let body = r#"{"customer_email":"buyer@bench.example","currency":"EUR","items":[{"sku":"book","quantity":2,"unit_price":1250},{"sku":"pen","quantity":5,"unit_price":150}],"complete":true}"#;
    let length = body.len();
    format!(
        "POST /orders HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer bench\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
