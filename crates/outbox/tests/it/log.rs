use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, Once};

use tracing::Level;

thread_local! {
    static LOG_OF_THREAD: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// The log of this thread: of a test on one.
///
/// One subscriber serves all threads. One per thread loses lines: `tracing` caches for all threads
/// whether anybody listens to a call site, and other tests end and begin meanwhile.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn begin() -> Self {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt()
                .with_max_level(Level::INFO)
                .with_writer(|| LOG_OF_THREAD.with_borrow(|log| log.clone().unwrap_or_default()))
                .with_ansi(false)
                .init();
        });
        let log = Self::default();
        LOG_OF_THREAD.set(Some(log.clone()));
        log
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
