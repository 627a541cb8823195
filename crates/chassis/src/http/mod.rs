//! HTTP of every service: accept loop, request layer, extractors and problems.

mod at_most;
mod caller;
mod content_tag;
mod decode;
mod etag;
mod exchange;
mod extract;
mod idempotency;
mod identity;
mod keep_alive;
mod keys;
mod limits;
mod memory;
mod metered;
mod method;
mod page;
mod peer;
mod problem;
mod refusal;
mod request;
mod server;
mod shares;
mod write_limit;

pub(crate) use caller::bearer;
pub(crate) use extract::{media_type, read};
pub(crate) use idempotency::{erase as erase_idempotent_answers, prune as prune_idempotency_keys};
pub(crate) use keys::{Keys, KeysError, Tenants};
pub(crate) use limits::TenantLimits;
pub(crate) use peer::Senders;
pub(crate) use request::{OnCompleted, RequestLayer, render};
pub(crate) use server::{MIN_CONNECTIONS, bind, listen, max_connections, serve};

pub use at_most::at_most;
pub use caller::Caller;
pub use decode::JsonObject;
pub use etag::{ETag, IfMatch};
pub use extract::{Empty, Json, Path, Query, Submission};
pub use idempotency::{Answer, IdempotencyKey, Row as IdempotencyRow};
pub use page::{BadCursor, Cursor, CursorKey, Limit, Page, PageQuery};
pub use peer::Peer;
pub use problem::Problem;
pub use request::CompletedRequest;
