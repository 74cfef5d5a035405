//! Clearing away in a `Drop`, where nothing can be awaited.

use std::future::Future;

/// Runs the future to its end on a thread with a runtime of its own. Its panics are ignored: the test has come to its
/// verdict, and what is left behind on a server disturbs no other test.
pub fn afterwards(clearing: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made")
            .block_on(clearing);
    });
    thread.join().ok();
}
