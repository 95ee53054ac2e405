//! What the listener serves, which changes while it serves: the pages of a daemon that leads, or the few answers of one
//! that stands by. Connections stay.

use axum::Router;
use axum::extract::Request;
use std::sync::{Arc, PoisonError, RwLock};
use tower::ServiceExt;

/// Cheap to clone; all clones serve the same.
#[derive(Clone, Default)]
pub struct Front(Arc<RwLock<Router>>);

impl Front {
    /// Requests from now on go to `router`.
    pub fn show(&self, router: Router) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = router;
    }

    /// The router to be served: it hands each request to the one shown just then.
    pub fn router(&self) -> Router {
        let front = self.clone();
        Router::new().fallback(move |request: Request| {
            let shown = front.0.read().unwrap_or_else(PoisonError::into_inner).clone();
            shown.oneshot(request)
        })
    }
}
